"""Whether the sender is verified, and which configuration set holds for what it sends."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigurationSetGone, HeaderNotVerified, NotKnown, SenderNotVerified
from ..ledger.spec import Spec
from ..message.address import bare, identities_of
from .cache import Glance, Identity, KnownSet
from .lookup import IdentityLookup

NO_AGAIN_MS = 5000  # a sender that was looked up and is not verified is looked up anew after this: someone is verifying it


@dataclass(frozen=True, slots=True)
class Stand:
    """What stands for an address of the sender: it is verified by any of these identities of the own account."""

    address: str  # what is verified, as a reader of the reason knows it
    names: tuple[str, ...]  # the most special first
    header: str | None = None  # of the caller's own MIME message, which names the address


@dataclass(frozen=True, slots=True)
class Admitted:
    """The sender may send."""

    glance: Glance
    configuration_set: str | None  # that holds, whether it is named or the From identity's default
    set_state: KnownSet | None
    reasons: frozenset[str]  # of SES's suppression list, those that hold for what it sends


async def admit(register: IdentityLookup, spec: Spec, holds: Sequence[str] = ()) -> Admitted | None:
    """What holds for the sender of a spec; None where the account's state is not known, which others wait for. `holds`: keys of
    what it may be held by; where it is, NotKnown says in its `again_s` how long.

    Raises SenderNotVerified, ConfigurationSetGone and NotKnown. One round trip to Redis, where everything is known.
    """
    stands, defaults = await _stands(register, spec)
    names = [*defaults, *(name for stand in stands for name in stand.names)]
    glance = await register.glance(names, defaults=len(defaults), named_set=spec.configuration_set, holds=holds)
    if not glance.believed:
        return None
    if glance.held_s > 0:
        raise NotKnown(why=glance.held_for, again_s=glance.held_s)
    known = dict(glance.identities)
    for stand in stands:
        await _verify(register, stand, known, glance)
    set_name = spec.configuration_set or await _default_set(register, defaults, known, listed=glance.listed_ms > 0)
    state = None
    if set_name is not None:
        state = glance.set_state if glance.set_name == set_name else None
        if state is None:
            state = await register.look_up_set(set_name)
        if state.gone:
            raise ConfigurationSetGone(name=set_name, region=register.region)
    reasons = glance.suppressed_reasons
    if state is not None and state.suppressed_reasons is not None:
        reasons = state.suppressed_reasons
    return Admitted(glance, set_name, state, reasons)


async def _stands(register: IdentityLookup, spec: Spec) -> tuple[list[Stand], tuple[str, ...]]:
    """What has to be verified, and the identities whose default configuration set may hold, both of the own account only:
    another account's identity cannot be looked up, and has no set that is one of ours. Where our own number cannot be learnt,
    any ARN is taken for another account's: SES itself checks who sends."""
    found, defaults = [], () if spec.configuration_set else identities_of(spec.from_address)
    for address, arn in ((spec.from_address, spec.identity_arn), (spec.feedback_address, spec.feedback_identity_arn)):
        if address is None:
            continue
        if arn is None:
            found.append(Stand(bare(address), identities_of(address)))
        elif arn.split(":")[4] == await register.known_account():
            name = arn.split("identity/", 1)[1]
            found.append(Stand(name, (name,)))
        elif address is spec.from_address:
            defaults = ()
    for header, address in spec.header_senders:
        names = identities_of(address)
        if spec.identity_arn is None or spec.identity_arn.split("identity/", 1)[1].lower() not in map(str.lower, names):
            found.append(Stand(bare(address), names, header))
    return found, defaults


async def _verify(register: IdentityLookup, stand: Stand, known: dict[str, Identity], glance: Glance) -> None:
    """Raises SenderNotVerified; what is looked up for it is added to what is known."""
    if any(_verified(known, name) for name in stand.names):
        return
    since_ms = glance.now_ms - NO_AGAIN_MS
    for name in stand.names:
        found = known.get(name.lower())
        if found is None or found.looked_up_ms < since_ms:
            found = known[name.lower()] = await register.look_up(found or name, since_ms=since_ms)
        if found.verified:
            return
    fields = {"identity": stand.address, "region": register.region}
    fields["command"] = verify_command(stand.address.rpartition("@")[2], register.region)
    if stand.header is not None:
        raise HeaderNotVerified(header=stand.header, **fields)
    raise SenderNotVerified(**fields)


def _verified(known: dict[str, Identity], name: str) -> bool:
    found = known.get(name.lower())
    return found is not None and found.verified


async def _default_set(register: IdentityLookup, names: Sequence[str], known: dict[str, Identity], *, listed: bool) -> str | None:
    """The default set of the most special identity that is verified and has one. The list does not say it."""
    for name in names:
        found = known.get(name.lower())
        if (found is None and not listed) or (found is not None and found.verified and not found.looked_up_ms):
            found = known[name.lower()] = await register.look_up(found or name)
        if found is not None and found.verified and found.configuration_set:
            return found.configuration_set
    return None


def verify_command(identity: str, region: str) -> str:
    """For a person to type; the identity may come from anybody, so it is quoted."""
    return f"aws sesv2 create-email-identity --region {region} --email-identity {shlex.quote(identity)}"
