"""The suppression list from an account's side: reading SES's, writing to it, and files of entries."""
