"""Who of a chunk must not be written to. It fails closed: where nobody knows, nothing is sent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ..errors import NotKnown
from ..ledger import Ledger
from .lists import OTHER, Found, OwnEntry, Reason, SesList, SuppressionLists

STALE_AFTER_SYNCS = 3  # SES's list is not believed when it was read longer ago than so many intervals,
STALE_S = 900.0  # and never before this


_OWN = {
    Reason.BOUNCE: "mail to it bounced",
    Reason.COMPLAINT: "its owner complained",
    Reason.UNSUBSCRIBE: "its owner unsubscribed",
    Reason.MANUAL: "reason: manual",
}
_SES = {"BOUNCE": "mail to it bounced", "COMPLAINT": "its owner complained", OTHER: "a reason that is not known here"}


async def check(
    ledger: Ledger,
    *,
    account: str,
    reasons: frozenset[str],
    stream: str,
    addresses: Sequence[str],
    sync_s: float,
) -> dict[str, str]:
    """Which of the addresses must not be written to, as they were given, each with one sentence that says why.

    `addresses` may have names with them. `reasons`: of SES's list, those that hold for these messages (BOUNCE, COMPLAINT); where
    none does, its list does not matter, and may be unknown; where one does, so does a reason that is not known here. `stream`:
    the sender profile's name, empty where there is none. `sync_s`: MAILER_SUPPRESSION_SYNC_S. One round trip.

    Raises NotKnown where SES's list matters and is not known, RedisError or OSError where Redis does not answer, and ValueError
    where an entry cannot be read: then nothing may be sent.
    """
    checked = await SuppressionLists(ledger).check(
        [_bare(address) for address in addresses], account=account if reasons else None
    )
    if checked.ses is not None and (why := why_not_known(checked.ses, sync_s)):
        raise NotKnown(why=why)
    found = {addresses[number]: why_suppressed(one, reasons, stream) for number, one in checked.hits.items()}
    return {address: why for address, why in found.items() if why is not None}


def why_suppressed(found: Found, reasons: frozenset[str], stream: str) -> str | None:
    """None where what there is about an address does not hold for these messages."""
    for own in found.own:
        if own.stream in ("", stream):
            return _own_sentence(own)
    for ses in found.ses:
        if ses.reason in reasons or ses.reason == OTHER:
            return _sentence("the suppression list of SES", ses.updated_at, _SES[ses.reason])
    return None


def why_not_known(known: SesList, sync_s: float) -> str | None:
    """Why SES's list cannot be relied on; None where it can."""
    if known.whole_at is None or known.synced_at is None:
        if known.trouble:
            return f"the suppression list of SES cannot be read: {known.trouble}"
        far = f" ({known.pass_seen:,} entries so far)" if known.passing and known.pass_seen else ""
        return f"the suppression list of SES has not been read yet{far}"
    if (known.now - known.synced_at).total_seconds() <= stale_after_s(sync_s):
        return None
    if known.trouble and known.trouble_since:
        return f"the suppression list of SES could not be read since {_minute(known.trouble_since)}: {known.trouble}"
    return f"the suppression list of SES was last read at {_minute(known.synced_at)}, which is too long ago"


def stale_after_s(sync_s: float) -> float:
    return max(STALE_AFTER_SYNCS * sync_s, STALE_S)


def _own_sentence(entry: OwnEntry) -> str:
    where = f"the suppression list for '{entry.stream}'" if entry.stream else "the suppression list"
    return _sentence(where, entry.since, _OWN[entry.reason])


def _sentence(where: str, since: datetime, why: str) -> str:
    """The day is written as common.lua of the ledger leaves it out where recipients are counted by reason."""
    return f"it is on {where} since {_day(since)} ({why})"


def _bare(address: str) -> str:
    """`Name <address>` → address. An address has no `<` in it, and a name may."""
    return address.rpartition("<")[2].rstrip("> ") if "<" in address else address


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
