"""What a message has to pass before it is claimed. Every gate fails closed: no answer, no send."""
