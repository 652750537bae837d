"""Asynchronous bulk sending through Amazon SES v2."""

from .attachment import Attachment
from .client import Mailer
from .compose.explain import Explanation
from .email import Campaign, Email, Lane, Mode, Outcome, State
from .errors import MailerError
from .sender import Sender
from .settings import Settings, load_settings

__all__ = [
    "Attachment",
    "Campaign",
    "Email",
    "Explanation",
    "Lane",
    "Mailer",
    "MailerError",
    "Mode",
    "Outcome",
    "Sender",
    "Settings",
    "State",
    "load_settings",
]
