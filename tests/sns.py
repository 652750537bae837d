"""An SNS of the tests' own: an authority, the files that SNS has at its addresses, and messages signed as SNS signs them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from mailer.errors import FetchFailed
from mailer.events import Trust

TOPIC = "arn:aws:sns:eu-west-1:444455556666:ses-events"
HOST = "sns.eu-west-1.amazonaws.com"
CERTIFICATE_URL = f"https://{HOST}/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
ISSUER_URL = "http://crt.r2m01.amazontrust.com/r2m01.cer"
TOKEN = "2336412f37" * 20
NOW = datetime(2026, 11, 5, 12, tzinfo=UTC)
DAY = timedelta(days=1)

Json = dict[str, Any]
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The same key for the same name, because they take long to make."""
    return rsa.generate_private_key(65537, bits)


def subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """A root and an issuer below it, as Amazon has them."""

    def __init__(self, name: str = "Test Root") -> None:
        self._root_key, self._issuer_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.root = self._authority(name, self._root_key, name, self._root_key)
        self.issuer = self._authority(f"{name} M01", self._issuer_key, name, self._root_key)

    def _authority(self, name: str, key: ec.EllipticCurvePrivateKey, by: str, by_key: Key) -> x509.Certificate:
        public = by_key.public_key()
        return (
            self._start(name, key, by, NOW - 900 * DAY, NOW + 900 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(key_usage(ca=True), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
            .sign(by_key, hashes.SHA256())
        )

    @staticmethod
    def _start(name: str, key: Key, by: str, start: datetime, end: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject(name))
            .issuer_name(subject(by))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    def certificate(
        self,
        key: Key,
        names: Iterable[str] = ("sns.amazonaws.com",),
        *,
        start: datetime = NOW - 30 * DAY,
        end: datetime = NOW + 30 * DAY,
        issuer_url: str | None = ISSUER_URL,
        ca: bool = False,
    ) -> bytes:
        """PEM, signed by the issuer."""
        names, by = list(names), self.issuer.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        builder = (
            self._start(names[0] if names else "sns.amazonaws.com", key, str(by), start, end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(key_usage(ca=ca), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._issuer_key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
        if issuer_url:
            where = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(issuer_url))
            builder = builder.add_extension(x509.AuthorityInformationAccess([where]), critical=False)
        return builder.sign(self._issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM)


class Web:
    """The addresses that there are. Whoever asks for another one has been led astray."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.files:
            raise FetchFailed(url=url, why="the answer is 404")
        return self.files[url]


class Sns:
    def __init__(self, names: Iterable[str] = ("sns.amazonaws.com",), *, authority: Authority | None = None) -> None:
        self.authority = authority or Authority()
        self.key = rsa_key("sns")
        self.trust = Trust([self.authority.root])
        files = {
            CERTIFICATE_URL: self.authority.certificate(self.key, names),
            ISSUER_URL: self.authority.issuer.public_bytes(Encoding.DER),
        }
        self.web = Web(files)

    def notification(self, message: str = '{"eventType":"Send"}', **fields: Any) -> Json:
        return self.signed(
            {
                "Type": "Notification",
                "MessageId": "f8c2a0de-1111-5222-9333-444455556666",
                "TopicArn": TOPIC,
                "Subject": "Amazon SES Email Event Notification",
                "Message": message,
                "Timestamp": "2026-11-05T11:59:58.123Z",
                "UnsubscribeURL": f"https://{HOST}/?Action=Unsubscribe&SubscriptionArn={TOPIC}:1",
            }
            | fields
        )

    def confirmation(self, type: str = "SubscriptionConfirmation", **fields: Any) -> Json:
        return self.signed(
            {
                "Type": type,
                "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
                "Token": TOKEN,
                "TopicArn": TOPIC,
                "Message": f"You have chosen to subscribe to the topic {TOPIC}.\nTo confirm, visit the SubscribeURL.",
                "SubscribeURL": subscribe_url(),
                "Timestamp": "2026-11-05T11:59:58.123Z",
            }
            | fields
        )

    def signed(self, fields: Json, version: str = "2", key: rsa.RSAPrivateKey | None = None) -> Json:
        """Signs what it is given, whatever that is; a version, an address or a signature in it stay as they are."""
        fields = {"SignatureVersion": version, "SigningCertURL": CERTIFICATE_URL} | fields
        return {"Signature": signature(key or self.key, fields, version)} | fields


def subscribe_url(host: str = HOST, topic: str = TOPIC, token: str = TOKEN) -> str:
    return f"https://{host}/?Action=ConfirmSubscription&TopicArn={topic}&Token={token}"


def quoted(url: str) -> str:
    """The same address with everything in its values in percent signs."""
    start, _, query = url.partition("?")
    pairs = (pair.partition("=") for pair in query.split("&"))
    return f"{start}?" + "&".join(f"{name}={quote(value, safe='')}" for name, _, value in pairs)


def signature(key: rsa.RSAPrivateKey, fields: Json, version: str) -> str:
    """As the SNS developer guide has it, written down a second time."""
    if fields.get("Type") == "Notification":
        names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    else:
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    lines = [line for name in names if fields.get(name) is not None for line in (name, str(fields[name]))]
    text = "\n".join([*lines, ""]).encode()
    return base64.b64encode(key.sign(text, padding.PKCS1v15(), hashes.SHA1() if version == "1" else hashes.SHA256())).decode()


def body(fields: Json) -> bytes:
    return json.dumps(fields).encode()
