"""SNS's signing certificates: fetched once, believed only with a chain to an authority that this machine trusts.

The file at a SigningCertURL is one certificate, without its issuer. Where the issuer can be had is written in the
certificate itself (RFC 5280 4.2.2.1); for Amazon's it is a plain HTTP address. That is no weakness: what comes from there counts
only as a link between the certificate and an authority of this machine, and each link is a signature that is checked.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
import warnings
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from ..errors import CannotVerify, ConfigError, FetchFailed, NotBelieved
from .budget import Budget
from .rejection import SnsRejection

Fetch = Callable[[str], Awaitable[bytes]]

MAX_FILE: Final = 64 << 10  # bytes of what is fetched
MIN_KEY: Final = 2048  # bits
_MAX_LINKS = 4  # certificates of one file
_KEPT = 32  # certificates; each topic's region has one at a time, and a new one about once a year

# Of the regions that have SES. Suffixes: AWS's table of service endpoints.
SUFFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
)
_AMAZONS = re.compile(r"http://crt\.([a-z0-9]{1,32})\.amazontrust\.com/\1\.(?:cer|crt|der)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a topic is, as far as SNS's names depend on it."""

    partition: str
    region: str


@dataclass(frozen=True, slots=True)
class Trust:
    """What a certificate has to come from and be for. `issuers`: the addresses where an issuer may be fetched from."""

    anchors: Sequence[x509.Certificate]
    suffixes: Mapping[str, str] = field(default_factory=lambda: SUFFIXES)
    issuers: re.Pattern[str] = _AMAZONS

    @classmethod
    def of_this_machine(cls) -> Trust:
        """The authorities that HTTPS is trusted by here. Raises ConfigError where there are none."""
        anchors = []
        with warnings.catch_warnings(action="ignore"):  # about old ones that break a rule, which nobody can do anything about
            for der in ssl.create_default_context().get_ca_certs(binary_form=True):
                with suppress(ValueError):
                    anchors.append(x509.load_der_x509_certificate(der))
        if not anchors:
            raise ConfigError(where="certificates", why="this machine trusts no certificate authority; install ca-certificates")
        return cls(anchors)

    def host(self, place: Place) -> str | None:
        suffix = self.suffixes.get(place.partition)
        return suffix and f"sns.{place.region}.{suffix}"

    def names(self, place: Place) -> tuple[str, ...]:
        """What SNS calls itself in its certificates. It depends on the region, in a way that only AWS's SDK for Java tells:
        the oldest have the first of these, opt-in regions the second, GovCloud and China the last."""
        suffix = self.suffixes[place.partition]
        names = [f"sns.{suffix}", f"sns-signing.{place.region}.{suffix}", f"sns.{place.region}.{suffix}"]
        names += [f"sns-{place.region}.{suffix}"] if place.partition != "aws" else []
        names += [f"sns-us-gov-west-1.{suffix}"] if place.partition == "aws-us-gov" else []  # signs for us-gov-east-1, too
        return tuple(names)


@dataclass(frozen=True, slots=True)
class _Key:
    key: RSAPublicKey
    names: frozenset[str]
    until: datetime  # the end of the first certificate of the chain that ends


class Shelf(Protocol):
    """Where certificates that were believed are kept for other processes, and for this one when it starts anew. They are checked
    again when they come from there."""

    async def get(self, url: str) -> bytes | None: ...

    async def put(self, url: str, chain: bytes, until: datetime) -> None: ...


class Certificates:
    """Public keys by the address of their certificate, kept until the certificate ends.

    `clock` gives seconds since the epoch. `patience_s` is how long a message waits for a certificate; the fetch goes on
    after it, so that the message finds the certificate here when SNS sends it again.
    """

    def __init__(
        self,
        trust: Trust,
        fetch: Fetch,
        *,
        shelf: Shelf | None = None,
        clock: Callable[[], float] = time.time,
        patience_s: float = 0.7,
        timeout_s: float = 10,
    ) -> None:
        self.trust = trust
        self._fetch, self._shelf, self._clock = fetch, shelf, clock
        self._patience_s, self._timeout_s = patience_s, timeout_s
        self._store = Store(list(trust.anchors))
        self._kept: OrderedDict[str, _Key] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[_Key]] = {}
        self._budget = Budget(clock)

    async def key(self, url: str, place: Place) -> RSAPublicKey:
        """`url` has been checked: it is one of SNS's in that place. Raises NotBelieved, or CannotVerify to try again."""
        found = self._kept.get(url)
        if found is None or found.until < self._now():
            found = await self._new(url, place)
        if found.names.isdisjoint(self.trust.names(place)):
            raise NotBelieved(why=SnsRejection.CERTIFICATE_NAME)
        return found.key

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    async def _new(self, url: str, place: Place) -> _Key:
        task = self._under_way.get(url)
        if task is None:
            task = asyncio.create_task(self._get(url, place))
            task.add_done_callback(lambda done: self._done(url, done))
            self._under_way[url] = task
        # wait, not wait_for: neither the end of the patience nor that of the request ends what others wait for, too.
        done, _ = await asyncio.wait({task}, timeout=self._patience_s)
        if not done or task.cancelled():
            raise CannotVerify(why=SnsRejection.SLOW)
        return task.result()

    def _done(self, url: str, task: asyncio.Task[_Key]) -> None:
        self._under_way.pop(url, None)
        if not task.cancelled() and task.exception() is None:
            self._kept[url] = task.result()
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    async def _get(self, url: str, place: Place) -> _Key:
        if self._shelf is not None and (chain := await self._shelf.get(url)) is not None:
            with suppress(NotBelieved):  # else it has ended, or somebody has put it there who is nobody
                return self._believed(_pem(chain), place)
        if not self._budget.may_fetch(url):
            raise CannotVerify(why=SnsRejection.BUSY)
        try:
            async with asyncio.timeout(self._timeout_s):
                links = _pem(await self._read(url))
                if len(links) == 1 and (issuer := self._issuer(links[0])):
                    links += _der(await self._read(issuer))
            found = self._believed(links, place)
        except (FetchFailed, TimeoutError):
            self._budget.failed(url)
            raise CannotVerify(why=SnsRejection.UNREACHABLE) from None
        except NotBelieved:
            self._budget.failed(url)
            raise
        if self._shelf is not None:
            await self._shelf.put(url, b"".join(link.public_bytes(Encoding.PEM) for link in links), found.until)
        return found

    async def _read(self, url: str) -> bytes:
        data = await self._fetch(url)
        if len(data) > MAX_FILE:
            raise NotBelieved(why=SnsRejection.CERTIFICATE_BROKEN)
        return data

    def _issuer(self, certificate: x509.Certificate) -> str | None:
        """Where the certificate says that its issuer is, if that is an address of the issuers that SNS has."""
        try:
            access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        except x509.ExtensionNotFound:
            return None
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            raise NotBelieved(why=SnsRejection.CERTIFICATE_BROKEN) from None
        for way in access:
            if way.access_method == AuthorityInformationAccessOID.CA_ISSUERS:
                url = str(way.access_location.value)
                if self.trust.issuers.fullmatch(url):
                    return url
        return None

    def _believed(self, links: list[x509.Certificate], place: Place) -> _Key:
        leaf, now = links[0], self._now()
        try:
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
            key = leaf.public_key()
        except x509.ExtensionNotFound:
            raise NotBelieved(why=SnsRejection.CERTIFICATE_NAME) from None
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            raise NotBelieved(why=SnsRejection.CERTIFICATE_BROKEN) from None
        name = next((name for name in self.trust.names(place) if name in names), None)  # in full: no wildcards
        if name is None:
            raise NotBelieved(why=SnsRejection.CERTIFICATE_NAME)
        if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
            raise NotBelieved(why=SnsRejection.CERTIFICATE_DATES)
        if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY:
            raise NotBelieved(why=SnsRejection.CERTIFICATE_BROKEN)
        verifier = PolicyBuilder().store(self._store).time(now).build_server_verifier(x509.DNSName(name))
        try:
            chain = verifier.verify(leaf, links[1:])
        except (VerificationError, ValueError):
            raise NotBelieved(why=SnsRejection.CERTIFICATE_CHAIN) from None
        return _Key(key, frozenset(names), min(link.not_valid_after_utc for link in chain))


def _pem(data: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)[:_MAX_LINKS]
    except ValueError:
        raise NotBelieved(why=SnsRejection.CERTIFICATE_BROKEN) from None


def _der(data: bytes) -> list[x509.Certificate]:
    try:
        return [x509.load_der_x509_certificate(data)]
    except ValueError:
        return _pem(data)
