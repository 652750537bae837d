"""SNS over HTTP: the honest messages are believed, and of the others none is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailer.errors import CannotVerify, ConfigError, NotBelieved, SeenBefore
from mailer.events import Believed, Certificates, Event, EventType, MessageType, SnsRejection, Trust, Verifier, read
from mailer.events.certificates import Shelf
from mailer.events.sns import MAX_BODY
from tests.ses_events import published
from tests.sns import (
    CERTIFICATE_URL,
    DAY,
    HOST,
    ISSUER_URL,
    NOW,
    TOKEN,
    TOPIC,
    Authority,
    Json,
    Sns,
    body,
    quoted,
    rsa_key,
    subscribe_url,
)

GOV = "arn:aws-us-gov:sns:us-gov-west-1:444455556666:ses-events"
CHINA = "arn:aws-cn:sns:cn-north-1:444455556666:ses-events"
CAPE = "arn:aws:sns:af-south-1:444455556666:ses-events"
ZURICH = "arn:aws:sns:eu-central-2:444455556666:ses-events"


class OnShelf:
    def __init__(self) -> None:
        self.chains = dict[str, bytes]()

    async def get(self, url: str) -> bytes | None:
        return self.chains.get(url)

    async def put(self, url: str, chain: bytes, until: datetime) -> None:
        self.chains[url] = chain


def written(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.000Z}"


class Receiver:
    """What would be behind `POST /events/ses`."""

    def __init__(
        self,
        sns: Sns,
        topics: tuple[str, ...] = (TOPIC,),
        *,
        trust: Trust | None = None,
        now: datetime = NOW,
        shelf: Shelf | None = None,
    ) -> None:
        self.now, self.ids = now.timestamp(), set[str]()
        self.asked_for: list[str] = []
        self.certificates = Certificates(trust or sns.trust, sns.web.fetch, shelf=shelf, clock=lambda: self.now)
        self.verifier = Verifier(topics, self.certificates, seen=self.seen, clock=lambda: self.now)

    async def seen(self, id: str) -> bool:
        self.asked_for.append(id)
        was_there = id in self.ids
        self.ids.add(id)
        return was_there

    async def believe(self, message: Json | bytes, headers: dict[str, str] | None = None) -> Believed:
        return await self.verifier.believe(message if isinstance(message, bytes) else body(message), headers or {})


AUTHORITY = Authority()


@pytest.fixture
def sns() -> Sns:
    return Sns(authority=AUTHORITY)


@pytest.fixture
def receiver(sns: Sns) -> Receiver:
    return Receiver(sns)


async def doubt(receiver: Receiver, message: Json | bytes, headers: dict[str, str] | None = None) -> SnsRejection:
    with pytest.raises(NotBelieved) as caught:
        await receiver.believe(message, headers)
    assert str(caught.value).startswith("An SNS message ")
    found = caught.value.fields["why"]
    assert isinstance(found, SnsRejection)  # one of a list, with nothing of the message in it
    return found


# ---- the honest ones -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", ["Amazon SES Email Event Notification", "", None])
async def test_a_notification_is_believed(sns: Sns, receiver: Receiver, version: str, subject: str | None) -> None:
    text = json.dumps(published("Bounce"), ensure_ascii=False) + "\n\u2028é"
    unsigned = sns.notification(text, Subject=subject)
    del unsigned["Signature"], unsigned["SignatureVersion"]
    if subject is None:
        del unsigned["Subject"]
    message = sns.signed(unsigned, version)
    headers = {"x-amz-sns-message-type": "Notification", "x-amz-sns-message-id": message["MessageId"]}
    believed = await receiver.believe(message, headers)
    assert believed == Believed(
        type=MessageType.NOTIFICATION,
        id=message["MessageId"],
        topic=TOPIC,
        time=datetime(2026, 11, 5, 11, 59, 58, 123_000, UTC),
        message=text,
        subscribe_url=None,
    )


async def test_an_event_comes_through_whole(sns: Sns, receiver: Receiver) -> None:
    event = read((await receiver.believe(sns.notification(json.dumps(published("Complaint"))))).message)
    assert event == read(json.dumps(published("Complaint")))
    assert isinstance(event, Event)
    assert event.type is EventType.COMPLAINT


@pytest.mark.parametrize("url", [subscribe_url(), quoted(subscribe_url())])
async def test_a_confirmation_is_believed_and_gives_the_address_that_confirms(sns: Sns, receiver: Receiver, url: str) -> None:
    believed = await receiver.believe(sns.confirmation(SubscribeURL=url))
    assert believed.type is MessageType.SUBSCRIPTION
    assert believed.subscribe_url == quoted(subscribe_url())


async def test_the_end_of_a_subscription_is_believed_and_gives_no_address_that_would_begin_it_again(
    sns: Sns, receiver: Receiver
) -> None:
    believed = await receiver.believe(sns.confirmation("UnsubscribeConfirmation"))
    assert (believed.type, believed.subscribe_url) == (MessageType.UNSUBSCRIBE, None)


@pytest.mark.parametrize(
    ("topic", "host", "name"),
    [
        (TOPIC, HOST, "sns.amazonaws.com"),
        (CAPE, "sns.af-south-1.amazonaws.com", "sns-signing.af-south-1.amazonaws.com"),
        (ZURICH, "sns.eu-central-2.amazonaws.com", "sns.eu-central-2.amazonaws.com"),
        (GOV, "sns.us-gov-west-1.amazonaws.com", "sns-us-gov-west-1.amazonaws.com"),
        (GOV.replace("west", "east"), "sns.us-gov-east-1.amazonaws.com", "sns-us-gov-west-1.amazonaws.com"),
        (CHINA, "sns.cn-north-1.amazonaws.com.cn", "sns-cn-north-1.amazonaws.com.cn"),
    ],
)
async def test_each_region_has_its_host_and_its_name_in_the_certificate(topic: str, host: str, name: str) -> None:
    sns = Sns([name], authority=AUTHORITY)
    url = CERTIFICATE_URL.replace(HOST, host)
    sns.web.files[url] = sns.web.files.pop(CERTIFICATE_URL)
    receiver = Receiver(sns, (topic,))
    fields = {"TopicArn": topic, "SigningCertURL": url}
    assert (await receiver.believe(sns.notification(**fields))).topic == topic
    confirmed = await receiver.believe(sns.confirmation(**fields, SubscribeURL=subscribe_url(host, topic)))
    assert confirmed.subscribe_url == quoted(subscribe_url(host, topic))


async def test_a_file_that_has_its_issuer_in_it_needs_no_other(sns: Sns, receiver: Receiver) -> None:
    sns.web.files[CERTIFICATE_URL] += sns.authority.issuer.public_bytes(Encoding.PEM)
    await receiver.believe(sns.notification())
    assert sns.web.asked == [CERTIFICATE_URL]


async def test_a_certificate_is_fetched_once_however_many_messages_wait_for_it(sns: Sns, receiver: Receiver) -> None:
    messages = [sns.notification(MessageId=f"id-{n}") for n in range(20)]
    await asyncio.gather(*map(receiver.believe, messages))
    assert sns.web.asked == [CERTIFICATE_URL, ISSUER_URL]


async def test_a_certificate_is_kept_until_it_ends(sns: Sns, receiver: Receiver) -> None:
    await receiver.believe(sns.notification())
    receiver.now += 29 * 86_400
    timely = (NOW + 29 * DAY).isoformat().replace("+00:00", "Z")
    await receiver.believe(sns.notification(MessageId="later", Timestamp=timely))
    assert len(sns.web.asked) == 2
    receiver.now += 2 * 86_400
    timely = (NOW + 31 * DAY).isoformat().replace("+00:00", "Z")
    assert await doubt(receiver, sns.notification(MessageId="ended", Timestamp=timely)) is SnsRejection.CERTIFICATE_DATES
    sns.web.files[CERTIFICATE_URL] = sns.authority.certificate(sns.key, end=NOW + 90 * DAY)
    await receiver.believe(sns.notification(MessageId="renewed", Timestamp=timely))


# ---- the table of attacks ------------------------------------------------------------------------------------------

Attack = Callable[[Sns], Json | bytes]


def own_key(sns: Sns) -> Json:
    return sns.signed(without(sns.notification(), "Signature"), key=rsa_key("forger"))


def served(names: tuple[str, ...] = ("sns.amazonaws.com",), authority: Authority = AUTHORITY, **how: Any) -> Attack:
    """A message with a certificate of the attacker's making, at the right address."""

    def attack(sns: Sns) -> Json:
        sns.web.files[CERTIFICATE_URL] = authority.certificate(sns.key, names, **how)
        return sns.notification()

    return attack


def other_authority(sns: Sns) -> Json:
    other = Authority("Other Root")
    sns.web.files[CERTIFICATE_URL] = other.certificate(sns.key)
    sns.web.files[ISSUER_URL] = other.issuer.public_bytes(Encoding.DER)
    return sns.notification()


def other_authority_of_the_same_name(sns: Sns) -> Json:
    other = Authority()  # named like the one that is trusted, and brings its root along
    links = other.certificate(sns.key), *(link.public_bytes(Encoding.PEM) for link in (other.issuer, other.root))
    sns.web.files[CERTIFICATE_URL] = b"".join(links)
    return sns.notification()


def issued_by_a_leaf(sns: Sns) -> Json:
    """Whoever has any certificate of the authority could sign another one with it, were that not looked at."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = AUTHORITY.certificate(key, ["attacker.example"])
    forger = Authority()
    forger._issuer_key, forger.issuer = key, x509.load_pem_x509_certificate(leaf)
    sns.web.files[CERTIFICATE_URL] = forger.certificate(sns.key, issuer_url=None) + leaf
    return sns.notification()


def file(data: bytes) -> Attack:
    def attack(sns: Sns) -> Json:
        sns.web.files[CERTIFICATE_URL] = data
        return sns.notification()

    return attack


def long_file(sns: Sns) -> Json:
    sns.web.files[CERTIFICATE_URL] += b"\n" * 100_000
    return sns.notification()


def small_key(sns: Sns) -> Json:
    key = rsa_key("small", 1024)
    sns.web.files[CERTIFICATE_URL] = AUTHORITY.certificate(key)
    return sns.signed(without(sns.notification(), "Signature"), key=key)


def curve_key(sns: Sns) -> Json:
    sns.web.files[CERTIFICATE_URL] = AUTHORITY.certificate(ec.generate_private_key(ec.SECP256R1()))
    return sns.notification()


def without(message: Json, *names: str) -> Json:
    return {name: value for name, value in message.items() if name not in names}


def altered(**fields: Any) -> Attack:
    """A field is changed after the signature was made."""
    return lambda sns: sns.notification() | fields


def altered_confirmation(**fields: Any) -> Attack:
    return lambda sns: sns.confirmation() | fields


def signed(**fields: Any) -> Attack:
    """SNS signed it, and yet it is not to be believed: anyone can have a topic and publish to it."""
    return lambda sns: sns.notification(**fields)


def confirming(url: str, **fields: Any) -> Attack:
    return lambda sns: sns.confirmation(SubscribeURL=url, **fields)


def certificate_at(url: str) -> Attack:
    """A certificate that would pass lies at the attacker's address."""

    def attack(sns: Sns) -> Json:
        sns.web.files[url] = sns.web.files[CERTIFICATE_URL]
        return sns.notification(SigningCertURL=url)

    return attack


def lacks(name: str, of: str = "notification") -> Attack:
    return lambda sns: without(getattr(sns, of)(), name)


def raw(data: bytes) -> Attack:
    return lambda _: data


PEM = "SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
EVIL = f"arn:aws:sns:eu-west-1:666655554444:{TOPIC.rpartition(':')[2]}"
ATTACKS: dict[str, tuple[Attack, SnsRejection]] = {
    # forged
    "signed with a key of one's own": (own_key, SnsRejection.SIGNATURE),
    "a certificate of the right name from another authority": (other_authority, SnsRejection.CERTIFICATE_CHAIN),
    "an authority that has the name of the trusted one": (other_authority_of_the_same_name, SnsRejection.CERTIFICATE_CHAIN),
    "a certificate issued by one that may not issue any": (issued_by_a_leaf, SnsRejection.CERTIFICATE_CHAIN),
    "a certificate without its issuer": (served(issuer_url=None), SnsRejection.CERTIFICATE_CHAIN),
    "an issuer at an address of one's own": (served(issuer_url="http://169.254.169.254/latest/"), SnsRejection.CERTIFICATE_CHAIN),
    "an issuer at an address that looks like Amazon's": (
        served(issuer_url="http://crt.r2m01.amazontrust.com.evil.example/r2m01.cer"),
        SnsRejection.CERTIFICATE_CHAIN,
    ),
    "a certificate that may issue others": (served(ca=True), SnsRejection.CERTIFICATE_CHAIN),
    "an expired certificate": (served(start=NOW - 60 * DAY, end=NOW - timedelta(seconds=1)), SnsRejection.CERTIFICATE_DATES),
    "a certificate of tomorrow": (served(start=NOW + DAY), SnsRejection.CERTIFICATE_DATES),
    "a certificate of another name": (served(("attacker.example",)), SnsRejection.CERTIFICATE_NAME),
    "a certificate without a name": (served(()), SnsRejection.CERTIFICATE_NAME),
    "a certificate of a name that ends alike": (served(("sns.amazonaws.com.evil.example",)), SnsRejection.CERTIFICATE_NAME),
    "a certificate of a bucket": (served(("sns.amazonaws.com.s3.amazonaws.com",)), SnsRejection.CERTIFICATE_NAME),
    "a certificate for everything of Amazon's": (served(("*.amazonaws.com",)), SnsRejection.CERTIFICATE_NAME),
    "a certificate of another region": (served(("sns-signing.af-south-1.amazonaws.com",)), SnsRejection.CERTIFICATE_NAME),
    "a key that is too short": (small_key, SnsRejection.CERTIFICATE_BROKEN),
    "a key of another kind": (curve_key, SnsRejection.CERTIFICATE_BROKEN),
    "no certificate at all": (file(b"<html>hello</html>"), SnsRejection.CERTIFICATE_BROKEN),
    "an empty file": (file(b""), SnsRejection.CERTIFICATE_BROKEN),
    "a broken certificate": (
        file(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        SnsRejection.CERTIFICATE_BROKEN,
    ),
    "a file without end": (long_file, SnsRejection.CERTIFICATE_BROKEN),
    # altered
    "Message": (altered(Message='{"eventType":"Bounce"}'), SnsRejection.SIGNATURE),
    "MessageId": (altered(MessageId="another"), SnsRejection.SIGNATURE),
    "Subject": (altered(Subject="Another"), SnsRejection.SIGNATURE),
    "Subject taken away": (lambda sns: without(sns.notification(), "Subject"), SnsRejection.SIGNATURE),
    "Subject put in": (lambda sns: without(sns.notification(Subject=None), "Subject") | {"Subject": "x"}, SnsRejection.SIGNATURE),
    "Timestamp": (altered(Timestamp="2026-11-05T11:59:59.123Z"), SnsRejection.SIGNATURE),
    "TopicArn": (altered(TopicArn=TOPIC.replace("ses-events", "other")), SnsRejection.SIGNATURE),
    "Type": (lambda sns: sns.confirmation() | {"Type": "UnsubscribeConfirmation"}, SnsRejection.SIGNATURE),
    "Token": (altered_confirmation(Token="1" * 200, SubscribeURL=subscribe_url(token="1" * 200)), SnsRejection.SIGNATURE),
    "SubscribeURL": (altered_confirmation(SubscribeURL=quoted(subscribe_url())), SnsRejection.SIGNATURE),
    "Signature": (altered(Signature="AAAA"), SnsRejection.SIGNATURE),
    "Signature of blanks": (altered(Signature=" "), SnsRejection.FIELDS),
    "Signature that is not base64": (altered(Signature="A"), SnsRejection.SIGNATURE),
    "a line of Message moved into MessageId": (
        lambda sns: sns.notification("a\nMessageId\nb") | {"Message": "a", "MessageId": "b\nMessageId\nf8c2a0de"},
        SnsRejection.FIELDS,
    ),
    "a line of Message moved into Subject": (
        lambda sns: sns.notification("a", Subject="b\nTimestamp\nc") | {"Subject": "b\nTimestamp\nc"},
        SnsRejection.FIELDS,
    ),
    # replayed
    "an hour old": (signed(Timestamp="2026-11-05T10:59:59.000Z"), SnsRejection.OLD),
    "years old": (signed(Timestamp="2016-11-05T12:00:00.000Z"), SnsRejection.OLD),
    "of tomorrow": (signed(Timestamp="2026-11-05T12:05:01.000Z"), SnsRejection.FUTURE),
    "of the year 9999": (signed(Timestamp="9999-12-31T23:59:59.999Z"), SnsRejection.FUTURE),
    "of the 13th month": (signed(Timestamp="2026-13-05T12:00:00.000Z"), SnsRejection.FIELDS),
    "of a time that is no time": (signed(Timestamp="now"), SnsRejection.FIELDS),
    "of a time without a zone": (signed(Timestamp="2026-11-05T12:00:00"), SnsRejection.FIELDS),
    # wrong topic
    "another account's topic of the same name": (signed(TopicArn=EVIL), SnsRejection.TOPIC),
    "another topic of the account": (signed(TopicArn=TOPIC + "2"), SnsRejection.TOPIC),
    "the beginning of the topic": (signed(TopicArn=TOPIC[:-1]), SnsRejection.TOPIC),
    "the topic in capitals": (signed(TopicArn=TOPIC.upper()), SnsRejection.TOPIC),
    "no topic": (signed(TopicArn=""), SnsRejection.FIELDS),
    "the topic and a line break": (signed(TopicArn=TOPIC + "\n"), SnsRejection.FIELDS),
    "a confirmation of another account's topic": (
        lambda sns: sns.confirmation(TopicArn=EVIL, SubscribeURL=subscribe_url(topic=EVIL)),
        SnsRejection.TOPIC,
    ),
    # the address of the certificate
    **{
        f"certificate at {url!r}": (certificate_at(url), SnsRejection.CERTIFICATE_URL)
        for url in (
            f"http://{HOST}/{PEM}",
            f"HTTPS://{HOST}/{PEM}",
            f"file:///{PEM}",
            f"//{HOST}/{PEM}",
            f"https://{HOST}:443/{PEM}",
            f"https://{HOST}:8443/{PEM}",
            f"https://evil.example/{PEM}",
            f"https://{HOST}.evil.example/{PEM}",
            f"https://{HOST}@evil.example/{PEM}",
            f"https://user:password@{HOST}/{PEM}",
            f"https://evil.example\\@{HOST}/{PEM}",
            f"https://evil.example#@{HOST}/{PEM}",
            f"https://evil.example/?{HOST}/{PEM}",
            f"https://evil.example/{HOST}/{PEM}",
            f"https://sns.amazonaws.com.s3.amazonaws.com/{PEM}",
            f"https://sns.eu-west-1.s3.amazonaws.com/{PEM}",
            f"https://s3.eu-west-1.amazonaws.com/sns/{PEM}",
            f"https://sns.eu-west-1.evil.amazonaws.com/{PEM}",
            f"https://evil-sns.eu-west-1.amazonaws.com/{PEM}",
            f"https://xsns.eu-west-1.amazonaws.com/{PEM}",
            f"https://sns.eu-west-1xamazonaws.com/{PEM}",
            f"https://sns.eu-west-1.amazonaws.com.cn/{PEM}",
            f"https://sns.eu-west-2.amazonaws.com/{PEM}",  # SNS's, and not of the topic's region
            f"https://sns.amazonaws.com/{PEM}",
            f"https://SNS.eu-west-1.amazonaws.com/{PEM}",
            f"https://{HOST}./{PEM}",
            f"https://{HOST}/../{PEM}",
            f"https://{HOST}/a/{PEM}",
            f"https://{HOST}//{PEM}",
            f"https://{HOST}/%2e%2e/{PEM}",
            f"https://{HOST}/SimpleNotificationService-../../evil.pem",
            f"https://{HOST}/SimpleNotificationService-a%2fb.pem",
            f"https://{HOST}/?Action=Get&/{PEM}",
            f"https://{HOST}/{PEM}?x=1",
            f"https://{HOST}/{PEM}#x",
            f"https://{HOST}/{PEM}/x",
            f"https://{HOST}/{PEM};x",
            f"https://{HOST}/SimpleNotificationService-.pem",
            f"https://{HOST}/SimpleNotificationService-0123456789abcdef.crt",
            f"https://{HOST}/SimpleNotificationService-{'a' * 200}.pem",
            f"https://{HOST}/evil.pem",
            f"https://{HOST}",
            "https://169.254.169.254/latest/meta-data.pem",
        )
    },
    **{
        f"certificate at {url!r}": (certificate_at(url), SnsRejection.FIELDS)
        for url in (
            f"{CERTIFICATE_URL}\n",
            f" {CERTIFICATE_URL}",
            f"https://sns.eu\u2011west-1.amazonaws.com/{PEM}",
            "",
            "x" * 5000,
        )
    },
    # versions
    "version 3": (altered(SignatureVersion="3"), SnsRejection.VERSION),
    "version 0": (altered(SignatureVersion="0"), SnsRejection.VERSION),
    "version 01": (altered(SignatureVersion="01"), SnsRejection.VERSION),
    "no version": (altered(SignatureVersion=""), SnsRejection.FIELDS),
    "version 2 as a number": (altered(SignatureVersion=2), SnsRejection.FIELDS),
    "a signature of version 1 that says 2": (
        lambda sns: sns.signed(without(sns.notification(), "Signature", "SignatureVersion"), "1") | {"SignatureVersion": "2"},
        SnsRejection.SIGNATURE,
    ),
    "a signature of version 2 that says 1": (altered(SignatureVersion="1"), SnsRejection.SIGNATURE),
    # missing, and of another type
    **{
        f"no {name}": (lacks(name), SnsRejection.FIELDS)
        for name in ("Message", "MessageId", "TopicArn", "Timestamp", "Signature", "SignatureVersion", "SigningCertURL")
    },
    "no Type": (lacks("Type"), SnsRejection.NOT_SNS),
    **{
        f"a confirmation without {name}": (lacks(name, "confirmation"), SnsRejection.FIELDS)
        for name in ("Token", "SubscribeURL", "Message")
    },
    **{
        f"{name} is {value!r}": (altered(**{name: value}), SnsRejection.FIELDS)
        for name in ("Type", "Message", "MessageId", "TopicArn", "Subject", "Timestamp", "Signature", "SigningCertURL")
        for value in (5, True, [], ["x"], {"x": "y"})
    },
    "Message is null": (altered(Message=None), SnsRejection.FIELDS),
    "another Type": (signed(Type="Surprise"), SnsRejection.TYPE),
    "a Type that reads like one": (signed(Type="notification"), SnsRejection.TYPE),
    # not SNS's form
    "raw delivery, which nobody signed": (raw(json.dumps(published("Bounce")).encode()), SnsRejection.NOT_SNS),
    "nothing": (raw(b""), SnsRejection.NOT_SNS),
    "a list": (lambda sns: body([sns.notification()]), SnsRejection.NOT_SNS),  # type: ignore[arg-type]
    "half a message": (lambda sns: body(sns.notification())[:-1], SnsRejection.NOT_SNS),
    "no Unicode": (lambda sns: body(sns.notification()).replace(b"SES", b"\xff"), SnsRejection.NOT_SNS),
    "half a character": (lambda sns: body(sns.notification()).replace(b"SES", b"\\ud800"), SnsRejection.NOT_SNS),
    "very deep": (raw(b'{"Type":' + b"[" * 200_000), SnsRejection.NOT_SNS),
    "very large": (lambda sns: sns.notification("x" * MAX_BODY), SnsRejection.TOO_LARGE),
    # the address that confirms
    **{
        f"confirm at {url!r}": (confirming(url), SnsRejection.SUBSCRIBE_URL)
        for url in (
            subscribe_url().replace("https:", "http:"),
            subscribe_url("evil.example"),
            subscribe_url(f"{HOST}.evil.example"),
            subscribe_url(f"{HOST}@evil.example"),
            subscribe_url(f"{HOST}:8443"),
            subscribe_url("sns.eu-west-2.amazonaws.com"),
            subscribe_url(topic=EVIL),
            subscribe_url(token="1" * 200),
            subscribe_url().replace("/?", "?"),
            subscribe_url().replace("/?", "/x?"),
            subscribe_url().replace("ConfirmSubscription", "DeleteTopic"),
            subscribe_url() + f"&TopicArn={EVIL}",
            subscribe_url() + "&Action=DeleteTopic",
            subscribe_url().replace("/?", f"/?TopicArn={EVIL}&"),
            subscribe_url().replace("/?", "/?Action=DeleteTopic&"),
            subscribe_url() + "&",
            subscribe_url() + "#x",
            subscribe_url() + "%00",
            subscribe_url().replace("&Token", "%26Token"),
            subscribe_url().partition("&Token")[0],
            subscribe_url().partition("?")[0],
            f"https://{HOST}/",
            "https://169.254.169.254/latest/",
        )
    },
    "confirm at an address with a line break": (confirming(subscribe_url() + "\n"), SnsRejection.FIELDS),
    "confirm with a token of another form": (confirming(subscribe_url(token="a&b"), Token="a&b"), SnsRejection.FIELDS),
    "the end of a subscription, with another's address": (
        lambda sns: sns.confirmation("UnsubscribeConfirmation", SubscribeURL=subscribe_url("evil.example")),
        SnsRejection.SUBSCRIBE_URL,
    ),
}


@pytest.mark.parametrize("name", list(ATTACKS))
async def test_an_attack_is_not_believed(sns: Sns, name: str) -> None:
    attack, expected = ATTACKS[name]
    receiver = Receiver(sns, (TOPIC, TOPIC.replace("ses-events", "other")))
    assert await doubt(receiver, attack(sns)) is expected
    assert receiver.asked_for == []  # an id that was not believed does not keep the honest message of that id away
    assert set(sns.web.asked) <= {CERTIFICATE_URL, ISSUER_URL}  # and nobody was led to an address of the attacker's


async def test_an_attack_of_one_kind_or_another_stands_for_every_doubt() -> None:
    elsewhere = {SnsRejection.HEADERS, SnsRejection.SEEN, SnsRejection.UNREACHABLE, SnsRejection.SLOW, SnsRejection.BUSY}
    assert {expected for _, expected in ATTACKS.values()} | elsewhere == set(SnsRejection)


async def test_the_same_message_twice_is_told_the_second_time(sns: Sns, receiver: Receiver) -> None:
    message = sns.notification()
    await receiver.believe(message)
    with pytest.raises(SeenBefore):
        await receiver.believe(message)
    await receiver.believe(sns.notification(MessageId="another"))


@pytest.mark.parametrize(
    "headers",
    [
        {"x-amz-sns-message-type": "SubscriptionConfirmation"},
        {"x-amz-sns-message-id": "another"},
        {"x-amz-sns-message-type": "Notification", "x-amz-sns-message-id": ""},
    ],
)
async def test_headers_that_say_something_else_are_not_believed(sns: Sns, receiver: Receiver, headers: dict[str, str]) -> None:
    assert await doubt(receiver, sns.notification(), headers) is SnsRejection.HEADERS


async def test_without_a_topic_of_ours_nothing_is_believed(sns: Sns) -> None:
    assert await doubt(Receiver(sns, ()), sns.notification()) is SnsRejection.TOPIC


async def test_a_certificate_that_is_kept_is_not_believed_for_another_region() -> None:
    """One worker takes topics of several regions, and an opt-in region's certificate speaks for that region alone."""
    sns = Sns(["sns-signing.eu-west-1.amazonaws.com"], authority=AUTHORITY)
    receiver = Receiver(sns, (TOPIC,))
    await receiver.believe(sns.notification())
    place = receiver.verifier._topics[TOPIC].place
    with pytest.raises(NotBelieved) as caught:
        await receiver.certificates.key(CERTIFICATE_URL, replace(place, region="eu-west-2"))
    assert caught.value.fields["why"] is SnsRejection.CERTIFICATE_NAME


async def test_no_authority_no_belief() -> None:
    """The roots that this machine trusts have not signed what the tests make."""
    sns = Sns(authority=AUTHORITY)
    assert await doubt(Receiver(sns, trust=Trust.of_this_machine()), sns.notification()) is SnsRejection.CERTIFICATE_CHAIN


# ---- when it cannot be found out -----------------------------------------------------------------------------------


async def test_a_certificate_that_cannot_be_fetched_is_no_forgery_and_is_asked_for_again(sns: Sns, receiver: Receiver) -> None:
    certificate = sns.web.files.pop(CERTIFICATE_URL)
    with pytest.raises(CannotVerify) as caught:
        await receiver.believe(sns.notification())
    assert caught.value.fields["why"] is SnsRejection.UNREACHABLE
    sns.web.files[CERTIFICATE_URL] = certificate
    await receiver.believe(sns.notification())


async def test_a_slow_certificate_is_not_waited_for_and_is_there_when_the_message_comes_again(sns: Sns) -> None:
    go = asyncio.Event()

    async def slowly(url: str) -> bytes:
        await go.wait()
        return await sns.web.fetch(url)

    receiver = Receiver(sns)
    receiver.certificates = certificates = Certificates(sns.trust, slowly, clock=lambda: receiver.now, patience_s=0.01)
    receiver.verifier = Verifier((TOPIC,), certificates, seen=receiver.seen, clock=lambda: receiver.now)
    with pytest.raises(CannotVerify) as caught:
        await receiver.believe(sns.notification())
    assert caught.value.fields["why"] is SnsRejection.SLOW
    (task,) = certificates._under_way.values()
    go.set()
    await task
    await receiver.believe(sns.notification())
    assert sns.web.asked == [CERTIFICATE_URL, ISSUER_URL]


async def test_a_certificate_that_never_comes_is_given_up_and_closing_leaves_nothing_behind(sns: Sns) -> None:
    async def never(url: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError(url)

    place = Receiver(sns).verifier._topics[TOPIC].place
    certificates = Certificates(sns.trust, never, patience_s=5, timeout_s=0.01)
    with pytest.raises(CannotVerify) as caught:
        await certificates.key(CERTIFICATE_URL, place)
    assert caught.value.fields["why"] is SnsRejection.UNREACHABLE
    certificates = Certificates(sns.trust, never, patience_s=0.01)
    with pytest.raises(CannotVerify):
        await certificates.key(CERTIFICATE_URL, place)
    await certificates.close()
    assert certificates._under_way == {}


async def test_made_up_addresses_make_no_flood_of_requests_and_do_not_touch_what_is_kept(sns: Sns, receiver: Receiver) -> None:
    await receiver.believe(sns.notification())
    doubts = [
        await doubt(receiver, sns.notification(SigningCertURL=CERTIFICATE_URL.replace("0123", f"{n:04}"))) for n in range(100)
    ]
    assert set(doubts) == {SnsRejection.UNREACHABLE, SnsRejection.BUSY}
    assert len(sns.web.asked) < 30
    await receiver.believe(sns.notification(MessageId="honest"))
    receiver.now += 61
    assert (
        await doubt(receiver, sns.notification(SigningCertURL=CERTIFICATE_URL.replace("0123", "9999")))
        is SnsRejection.UNREACHABLE
    )


def made_up(sns: Sns, n: int, **fields: Any) -> Json:
    """A message of somebody who makes names of certificates up."""
    return sns.notification(SigningCertURL=CERTIFICATE_URL.replace("0123456789", f"{n:010}"), **fields)


@pytest.mark.parametrize("together", [1, 20])
async def test_twenty_made_up_names_a_minute_for_an_hour_keep_nobody_from_being_believed_at_once(sns: Sns, together: int) -> None:
    receiver = Receiver(sns)
    for n in range(20 * 60):
        assert await doubt(receiver, made_up(sns, n, Timestamp=written(receiver.now))) is SnsRejection.UNREACHABLE
        if n % together == together - 1 and n != 20 * 60 - 1:
            receiver.now += 3 * together
    await receiver.believe(sns.notification(Timestamp=written(receiver.now)))


@pytest.mark.parametrize("times", [1, 2])
async def test_however_many_names_are_made_up_a_message_that_comes_again_is_believed_and_aws_is_not_flooded(
    sns: Sns, times: int
) -> None:
    """The flood comes first, begins anew each second, and names each file once or twice; SNS repeats its message every 20 s."""
    receiver, numbers, believed = Receiver(sns), count(), False
    began = receiver.now
    for _ in range(4):  # SNS gives up after that
        for _ in range(200):
            n = next(numbers)
            for _ in range(times):
                await doubt(receiver, made_up(sns, n, Timestamp=written(receiver.now)))
        with suppress(CannotVerify):
            await receiver.believe(sns.notification(Timestamp=written(receiver.now)))
            believed = True
            break
        receiver.now += 20
    minutes = (receiver.now - began) / 60
    assert believed
    assert len(sns.web.asked) <= 30 + 28 * minutes


async def test_a_certificate_that_was_believed_is_there_for_others_whatever_names_are_made_up_and_is_checked_again(
    sns: Sns,
) -> None:
    shelf = OnShelf()
    await Receiver(sns, shelf=shelf).believe(sns.notification())
    assert list(shelf.chains) == [CERTIFICATE_URL]
    other = Receiver(sns, shelf=shelf)
    asked = len(sns.web.asked)
    for n in range(100):
        await doubt(other, made_up(sns, n))
    sns.web.files.clear()
    await other.believe(sns.notification())
    assert CERTIFICATE_URL not in sns.web.asked[asked:]
    shelf.chains[CERTIFICATE_URL] = Sns(authority=Authority("another")).web.files[CERTIFICATE_URL]
    assert await doubt(Receiver(sns, shelf=shelf), sns.notification()) is SnsRejection.UNREACHABLE
    shelf.chains[CERTIFICATE_URL] = b"no certificate"
    assert await doubt(Receiver(sns, shelf=shelf), sns.notification()) is SnsRejection.UNREACHABLE


async def test_of_certificates_only_the_newest_are_kept(sns: Sns, receiver: Receiver) -> None:
    for n in range(100):
        url = CERTIFICATE_URL.replace("0123", f"{n:04}")
        sns.web.files[url] = sns.web.files[CERTIFICATE_URL]
        receiver.now += 4
        await receiver.believe(sns.notification(SigningCertURL=url, MessageId=f"id-{n}"))
    assert 10 < len(receiver.certificates._kept) < 50


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "ses-events",
        TOPIC + "\n",
        TOPIC + "*",
        TOPIC.replace("sns", "sqs"),
        TOPIC.replace("aws", "aws-mars"),
        "arn:aws:sns:*:*:*",
    ],
)
async def test_a_topic_that_is_none_is_told_at_once(sns: Sns, arn: str) -> None:
    with pytest.raises(ConfigError, match="MAILER_EVENTS_TOPIC_ARNS"):
        Receiver(sns, (TOPIC, arn))


# ---- anything at all -----------------------------------------------------------------------------------------------

junk = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.lists(st.text(max_size=3), max_size=2))
SIGNED = Sns(authority=AUTHORITY)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([SIGNED.notification(), SIGNED.confirmation()]), st.data())
async def test_whatever_is_changed_in_what_was_signed_it_is_not_believed(message: Json, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in message if name != "UnsubscribeURL"]))
    value = data.draw(junk)
    receiver = Receiver(SIGNED)
    if message[name] == value:
        await receiver.believe(message | {name: value})
    else:
        await doubt(receiver, message | {name: value})


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from([*SIGNED.confirmation(), "Subject"]), junk).map(body))
async def test_whatever_comes_that_was_not_signed_it_is_not_believed(data: bytes) -> None:
    await doubt(Receiver(SIGNED), data)


def test_the_token_of_the_samples_is_one_that_passes() -> None:
    assert TOKEN in subscribe_url()
