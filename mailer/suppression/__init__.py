"""The suppression list from an account's side: reading SES's, writing to it, and files of entries."""

from .both import Both, Put
from .pace import Pace
from .sync import Seen, Sync, SyncFailed

__all__ = ["Both", "Pace", "Put", "Seen", "Sync", "SyncFailed"]
