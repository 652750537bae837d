"""What an application hands over, Email and Campaign, and what they are made of: senders, attachments, addresses, MIME."""
