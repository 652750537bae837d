"""Asynchronous bulk sending through Amazon SES v2.

Each name is imported when it is first used, so that a program waits only for what it needs.
"""

TYPE_CHECKING = False  # type checkers take it for typing's, which takes longer to import than all that is here
if TYPE_CHECKING:
    from .attachment import Attachment
    from .client import Mailer
    from .compose.explain import Explanation
    from .email import Campaign, Email, Lane, Mode, Outcome, State
    from .errors import (
        BrokenGzip,
        CampaignGone,
        ClosedMeanwhile,
        ConfigError,
        DoubledColumn,
        EmptyRecipients,
        ExpiresFirst,
        Forgotten,
        InvalidAddress,
        InvalidEmail,
        InvalidState,
        InvalidToken,
        KeyBusy,
        KeyReused,
        ListForgotten,
        MailerError,
        MaybeStored,
        MissingVariables,
        ModeRefused,
        NobodyToSendTo,
        NoEmailColumn,
        NotACampaign,
        NotConfirmed,
        NoTemplate,
        NotFound,
        NotKnown,
        NotLookedAt,
        NotOnDisk,
        NotUtf8,
        OtherLoop,
        PastExpiry,
        RecipientsError,
        RecipientsNotFound,
        RedisUnavailable,
        RenderFailed,
        StartedAnew,
        StoreFailed,
        TemplateBroken,
        TemplateError,
        TemplateNotFound,
        TemplateOutside,
        TooLate,
        UnknownSender,
        WrongState,
    )
    from .ids import CampaignId, MessageId
    from .ledger import CampaignStatus, MessageStatus, RecipientStatus
    from .ledger.suppressed import OwnEntry, Reason
    from .ledger.workers import WorkerSeen
    from .recipients import Reading, Recipient, Understood
    from .selection import Selection
    from .sender import ListUnsubscribe, Sender
    from .settings import Settings, load_settings
    from .summary import Summary
    from .sync import SyncMailer
    from .templates import Rendered
    from .trial import Trial
    from .unsubscribe import Unsubscribed

__all__ = [
    "Attachment",
    "BrokenGzip",
    "Campaign",
    "CampaignGone",
    "CampaignId",
    "CampaignStatus",
    "ClosedMeanwhile",
    "ConfigError",
    "DoubledColumn",
    "Email",
    "EmptyRecipients",
    "ExpiresFirst",
    "Explanation",
    "Forgotten",
    "InvalidAddress",
    "InvalidEmail",
    "InvalidState",
    "InvalidToken",
    "KeyBusy",
    "KeyReused",
    "Lane",
    "ListForgotten",
    "ListUnsubscribe",
    "Mailer",
    "MailerError",
    "MaybeStored",
    "MessageId",
    "MessageStatus",
    "MissingVariables",
    "Mode",
    "ModeRefused",
    "NoEmailColumn",
    "NoTemplate",
    "NobodyToSendTo",
    "NotACampaign",
    "NotConfirmed",
    "NotFound",
    "NotKnown",
    "NotLookedAt",
    "NotOnDisk",
    "NotUtf8",
    "OtherLoop",
    "Outcome",
    "OwnEntry",
    "PastExpiry",
    "Reading",
    "Reason",
    "Recipient",
    "RecipientStatus",
    "RecipientsError",
    "RecipientsNotFound",
    "RedisUnavailable",
    "RenderFailed",
    "Rendered",
    "Selection",
    "Sender",
    "Settings",
    "StartedAnew",
    "State",
    "StoreFailed",
    "Summary",
    "SyncMailer",
    "TemplateBroken",
    "TemplateError",
    "TemplateNotFound",
    "TemplateOutside",
    "TooLate",
    "Trial",
    "Understood",
    "UnknownSender",
    "Unsubscribed",
    "WorkerSeen",
    "WrongState",
    "load_settings",
]

_HOMES = {  # of what is not an error
    "attachment": ("Attachment",),
    "client": ("Mailer",),
    "compose.explain": ("Explanation",),
    "email": ("Campaign", "Email", "Lane", "Mode", "Outcome", "State"),
    "ids": ("CampaignId", "MessageId"),
    "ledger": ("CampaignStatus", "MessageStatus", "RecipientStatus"),
    "ledger.suppressed": ("OwnEntry", "Reason"),
    "ledger.workers": ("WorkerSeen",),
    "recipients": ("Reading", "Recipient", "Understood"),
    "selection": ("Selection",),
    "sender": ("ListUnsubscribe", "Sender"),
    "settings": ("Settings", "load_settings"),
    "summary": ("Summary",),
    "sync": ("SyncMailer",),
    "templates": ("Rendered",),
    "trial": ("Trial",),
    "unsubscribe": ("Unsubscribed",),
}
_HOME = dict.fromkeys(__all__, "errors") | {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {home.partition(".")[0] for home in _HOME.values()}

if not TYPE_CHECKING:  # which would take any name for one that is here

    def __getattr__(name):
        from importlib import import_module

        if name in _MODULES:  # `mailer.errors`, as after `import mailer.errors`
            return import_module(f".{name}", __name__)
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found = getattr(import_module(f".{_HOME[name]}", __name__), name)
        return found

    def __dir__():
        return sorted({*globals(), *__all__})
