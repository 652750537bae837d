"""What a first real send needs, looked at from this machine: `mailer doctor`. Nothing is sent, and nothing is changed.

But for a key in Redis that is gone a minute later, and an object in the store that is deleted at once.
"""

from .examination import Patient, examine, without_settings
from .finding import Finding, State

__all__ = ["Finding", "Patient", "State", "examine", "without_settings"]
