"""Asynchronous bulk sending through Amazon SES v2."""

from .client import Mailer
from .email import Campaign, Email, Lane, Outcome, Sender, State
from .errors import MailerError
from .settings import Settings, load_settings

__all__ = ["Campaign", "Email", "Lane", "Mailer", "MailerError", "Outcome", "Sender", "Settings", "State", "load_settings"]
