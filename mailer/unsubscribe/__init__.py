"""Unsubscribe links: the token that cannot be made up, the headers that carry it, and the page behind it."""
