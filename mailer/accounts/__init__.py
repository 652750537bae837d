"""The AWS accounts that are sent from: how each is reached, and what is known of it."""
