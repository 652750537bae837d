"""Asynchronous bulk sending through Amazon SES v2.

Each name is imported when it is first used, so that a program waits only for what it needs.
"""

TYPE_CHECKING = False  # type checkers take it for typing's, which takes longer to import than all that is here
if TYPE_CHECKING:
    from .client import Mailer
    from .compose.explain import Explanation
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
    from .intake.selection import Selection
    from .intake.summary import Summary
    from .intake.trial import Trial
    from .ledger import CampaignStatus, MessageStatus, RecipientStatus
    from .ledger.workers import WorkerSeen
    from .message.attachment import Attachment
    from .message.email import Campaign, Email, Lane, Mode, Outcome, State
    from .message.sender import ListUnsubscribe, Sender
    from .recipients import Reading, Recipient, Understood
    from .settings import Settings, load_settings
    from .suppression.lists import OwnEntry, Reason
    from .sync import SyncMailer
    from .templates import Rendered
    from .unsubscribe.tokens import Unsubscribed

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
    "message.attachment": ("Attachment",),
    "client": ("Mailer",),
    "compose.explain": ("Explanation",),
    "message.email": ("Campaign", "Email", "Lane", "Mode", "Outcome", "State"),
    "ids": ("CampaignId", "MessageId"),
    "ledger": ("CampaignStatus", "MessageStatus", "RecipientStatus"),
    "suppression.lists": ("OwnEntry", "Reason"),
    "ledger.workers": ("WorkerSeen",),
    "recipients": ("Reading", "Recipient", "Understood"),
    "intake.selection": ("Selection",),
    "message.sender": ("ListUnsubscribe", "Sender"),
    "settings": ("Settings", "load_settings"),
    "intake.summary": ("Summary",),
    "sync": ("SyncMailer",),
    "templates": ("Rendered",),
    "intake.trial": ("Trial",),
    "unsubscribe.tokens": ("Unsubscribed",),
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
