"""Suppression: who must not be written to. Our own list, a copy of SES's for each account, the check before a send, and files."""
