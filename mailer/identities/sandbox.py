"""Whom an account in the SES sandbox may write to: verified identities and the mailbox simulator. Asked before SES is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..message.address import bare, identities_of
from .cache import Identity
from .lookup import IdentityLookup
from .sender import verify_command

MAILBOX_SIMULATOR = "simulator.amazonses.com"  # developer guide, "Using the mailbox simulator"
SINGLY = 10  # names that are looked up one by one; for more, one list of all is the shorter way


async def unverified(register: IdentityLookup, mailboxes: Iterable[str]) -> dict[str, str]:
    """Those of the recipients (`Name <address>` or `address`) that SES would refuse, each with a sentence. Raises NotKnown."""
    candidates = {mailbox: identities_of(mailbox) for mailbox in dict.fromkeys(mailboxes) if not is_mailbox_simulator(mailbox)}
    known = (await register.find(name for names in candidates.values() for name in names)).identities
    doubtful = {mailbox: names for mailbox, names in candidates.items() if not _verified(names, known)}
    # A name that was not there a while ago may have been verified a moment ago: nobody is refused before SES was asked.
    unknown = {name.lower() for names in doubtful.values() for name in names if not _looked_up(name, known)}
    if len(unknown) > SINGLY:
        await register.list_anew()
        known = (await register.find(name for names in doubtful.values() for name in names)).identities
    elif unknown:
        known = await _looked_up_singly(register, doubtful, known)
    return {mailbox: _sentence(mailbox, register.region) for mailbox, names in doubtful.items() if not _verified(names, known)}


async def _looked_up_singly(
    register: IdentityLookup, doubtful: Mapping[str, tuple[str, ...]], known: Mapping[str, Identity]
) -> dict[str, Identity]:
    known = dict(known)
    for names in doubtful.values():
        for name in names:
            if _verified(names, known):
                break
            if not _looked_up(name, known):
                known[name.lower()] = await register.look_up(known.get(name.lower(), name))
    return known


def is_mailbox_simulator(mailbox: str) -> bool:
    return bare(mailbox).rpartition("@")[2].lower() == MAILBOX_SIMULATOR


def _verified(names: tuple[str, ...], known: Mapping[str, Identity]) -> bool:
    return any((found := known.get(name.lower())) is not None and found.verified for name in names)


def _looked_up(name: str, known: Mapping[str, Identity]) -> bool:
    found = known.get(name.lower())
    return found is not None and found.looked_up_ms > 0


def _sentence(mailbox: str, region: str) -> str:
    address = bare(mailbox)
    return (
        f"the account is in the SES sandbox and {address} is not verified: verify it or its domain in SES (region {region}), "
        f"for example with `{verify_command(address, region)}`, or ask for production access"
    )
