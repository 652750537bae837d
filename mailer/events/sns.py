"""SNS's messages over HTTP: believed when SNS signed them, for a topic of ours, within the last hour.

A signature alone proves nothing: anyone can have a topic, and let SNS call us with what they please. So the topic counts
as much as the signature. What is signed is told in the SNS developer guide, "Verifying the signatures of Amazon SNS messages".
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlencode

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ..errors import ConfigError, NotBelieved, SeenBefore
from .certificates import Place, Trust
from .rejection import SnsRejection

MAX_BODY: Final = 512 << 10  # bytes: a message has at most 256 KiB (SNS quota), and each may need a backslash before it
MAX_AGE_S: Final = 3600  # a message that is older is a replay; an id has to be remembered this long, and MAX_AHEAD_S
MAX_AHEAD_S: Final = 300  # how far SNS's clock may be before ours

_TOPIC = re.compile(r"arn:(aws(?:-[a-z]+)*):sns:([a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}):[0-9]{12}:[A-Za-z0-9_-]{1,256}")
_CERTIFICATE = re.compile(r"/SimpleNotificationService-[0-9A-Za-z]{1,128}\.pem")
_QUERY = re.compile(r"[!-~]{1,4096}")
# No field but Message may have a line break in it: what is signed is lines, and one field could pass for two.
_FORMS: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        "Type": re.compile(r"[A-Za-z]{1,64}"),
        "MessageId": re.compile(r"[0-9A-Za-z-]{1,128}"),
        "Timestamp": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z"),
        "TopicArn": re.compile(r"[!-~]{1,512}"),
        "SignatureVersion": re.compile(r"[!-~]{1,8}"),
        "Signature": re.compile(r"[A-Za-z0-9+/=]{1,2048}"),
        "SigningCertURL": re.compile(r"[!-~]{1,512}"),
        "Subject": re.compile(r"[^\x00-\x1f\x7f\x85\u2028\u2029]{0,1000}"),
        "SubscribeURL": re.compile(r"[!-~]{1,4096}"),
        "Token": re.compile(r"[0-9A-Za-z]{1,2048}"),
    }
)
_REQUIRED = ("Type", "MessageId", "Timestamp", "TopicArn", "SignatureVersion", "Signature", "SigningCertURL")
_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
# SNS signs with SHA-1 unless a topic says SignatureVersion 2. A forger would need a second preimage, not a collision.
_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = MappingProxyType({"1": hashes.SHA1(), "2": hashes.SHA256()})  # noqa: S303


class MessageType(StrEnum):
    NOTIFICATION = "Notification"
    SUBSCRIPTION = "SubscriptionConfirmation"
    UNSUBSCRIBE = "UnsubscribeConfirmation"  # somebody ended the subscription; nothing is to be done


@dataclass(frozen=True, slots=True)
class Topic:
    arn: str
    place: Place

    @classmethod
    def parse(cls, arn: str) -> Topic:
        """Raises ConfigError."""
        match = _TOPIC.fullmatch(arn)
        if match is None:
            why = f"{arn!r} is not the ARN of an SNS topic, as arn:aws:sns:eu-west-1:123456789012:events is one"
            raise ConfigError(where="MAILER_EVENTS_TOPIC_ARNS", why=why)
        return cls(arn, Place(match[1], match[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    type: MessageType
    id: str
    topic: str
    time: datetime
    message: str  # for `read` where it is a notification
    subscribe_url: str | None  # what to get to confirm a subscription; None in every other type


class Keys(Protocol):
    """Where keys are had from: Certificates."""

    @property
    def trust(self) -> Trust: ...

    async def key(self, url: str, place: Place) -> RSAPublicKey: ...


class Verifier:
    """`seen` is asked last, for a message that is believed but for that, with its id: was it there before?

    SNS repeats a message that was not answered with 2xx, so an id that is noted and a message that is lost afterwards do not go
    together: note it when the message is kept, and in the same step. An id has to be remembered for MAX_AGE_S + MAX_AHEAD_S.
    `clock` gives seconds since the epoch.
    """

    def __init__(
        self, topics: Iterable[str], keys: Keys, *, seen: Callable[[str], Awaitable[bool]], clock: Callable[[], float] = time.time
    ) -> None:
        """Raises ConfigError where a topic is not one, or of a partition whose names are not known."""
        self._topics = {arn: Topic.parse(arn) for arn in topics}
        self._keys, self._seen, self._clock = keys, seen, clock
        for topic in self._topics.values():
            if keys.trust.host(topic.place) is None:
                why = f"{topic.arn} is of the partition {topic.place.partition}, whose SNS is not known here"
                raise ConfigError(where="MAILER_EVENTS_TOPIC_ARNS", why=why)

    async def believe(self, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> Believed:
        """Raises NotBelieved: SeenBefore for a repeated one, CannotVerify where it may be believed when it comes again.

        `headers` are the request's, with names in lower case or a mapping that does not care.
        """
        fields = _fields(body)
        type = _type(fields, headers)
        topic = self._topics.get(fields["TopicArn"])
        if topic is None:
            raise NotBelieved(why=SnsRejection.TOPIC)
        moment = self._timely(fields["Timestamp"])
        host = self._keys.trust.host(topic.place)
        await self._signed(fields, type, topic, host)
        url = None if type is MessageType.NOTIFICATION else _subscribe_url(fields, f"https://{host}/")
        if await self._seen(fields["MessageId"]):
            raise SeenBefore(why=SnsRejection.SEEN)
        return Believed(
            type=type,
            id=fields["MessageId"],
            topic=topic.arn,
            time=moment,
            message=fields["Message"],
            subscribe_url=url if type is MessageType.SUBSCRIPTION else None,
        )

    def _timely(self, text: str) -> datetime:
        try:
            moment = datetime.fromisoformat(text).astimezone(UTC)
            age = self._clock() - moment.timestamp()
        except (ValueError, OverflowError):
            raise NotBelieved(why=SnsRejection.FIELDS) from None
        if age > MAX_AGE_S:
            raise NotBelieved(why=SnsRejection.OLD)
        if age < -MAX_AHEAD_S:
            raise NotBelieved(why=SnsRejection.FUTURE)
        return moment

    async def _signed(self, fields: Mapping[str, str], type: MessageType, topic: Topic, host: str | None) -> None:
        algorithm = _HASHES.get(fields["SignatureVersion"])
        if algorithm is None:
            raise NotBelieved(why=SnsRejection.VERSION)
        # Compared as text, not taken apart: what no parser reads, no two parsers read differently.
        start, url = f"https://{host}", fields["SigningCertURL"]
        if not url.startswith(start) or not _CERTIFICATE.fullmatch(url, len(start)):
            raise NotBelieved(why=SnsRejection.CERTIFICATE_URL)
        try:
            signature = base64.b64decode(fields["Signature"], validate=True)
        except ValueError:
            raise NotBelieved(why=SnsRejection.SIGNATURE) from None
        key = await self._keys.key(url, topic.place)
        try:
            key.verify(signature, to_sign(fields, type), PKCS1v15(), algorithm)
        except (InvalidSignature, UnsupportedAlgorithm):
            raise NotBelieved(why=SnsRejection.SIGNATURE) from None


def to_sign(fields: Mapping[str, str], type: MessageType) -> bytes:
    """What the signature is of: a line for each name and each value, in this order, those that are there."""
    names = _NOTIFICATION if type is MessageType.NOTIFICATION else _CONFIRMATION
    return "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields).encode()


def _fields(body: bytes) -> dict[str, str]:
    """The texts that matter, each in its form."""
    if len(body) > MAX_BODY:
        raise NotBelieved(why=SnsRejection.TOO_LARGE)
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NotBelieved(why=SnsRejection.NOT_SNS) from None
    if not isinstance(found, dict) or "Type" not in found:
        raise NotBelieved(why=SnsRejection.NOT_SNS)
    fields = {name: found[name] for name in ("Message", *_FORMS) if found.get(name) is not None}
    for name, text in fields.items():
        if not isinstance(text, str) or (name in _FORMS and not _FORMS[name].fullmatch(text)):
            raise NotBelieved(why=SnsRejection.FIELDS)
    if not fields.keys() >= {"Message", *_REQUIRED}:
        raise NotBelieved(why=SnsRejection.FIELDS)
    return fields


def _type(fields: Mapping[str, str], headers: Mapping[str, str]) -> MessageType:
    for name, header in (("Type", "x-amz-sns-message-type"), ("MessageId", "x-amz-sns-message-id")):
        if headers.get(header, fields[name]) != fields[name]:
            raise NotBelieved(why=SnsRejection.HEADERS)
    try:
        type = MessageType(fields["Type"])
    except ValueError:
        raise NotBelieved(why=SnsRejection.TYPE) from None
    if type is not MessageType.NOTIFICATION and not fields.keys() >= {"Token", "SubscribeURL"}:
        raise NotBelieved(why=SnsRejection.FIELDS)
    return type


def _subscribe_url(fields: Mapping[str, str], start: str) -> str:
    """The address that confirms, put together anew from what was checked."""
    wanted = {"Action": "ConfirmSubscription", "TopicArn": fields["TopicArn"], "Token": fields["Token"]}
    url = fields["SubscribeURL"]
    query = url.removeprefix(f"{start}?")
    if query == url or "#" in query or not _QUERY.fullmatch(query):
        raise NotBelieved(why=SnsRejection.SUBSCRIBE_URL)
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise NotBelieved(why=SnsRejection.SUBSCRIBE_URL) from None
    if sorted(pairs) != sorted(wanted.items()):  # each of them once, and nothing else
        raise NotBelieved(why=SnsRejection.SUBSCRIBE_URL)
    return f"{start}?{urlencode(wanted)}"
