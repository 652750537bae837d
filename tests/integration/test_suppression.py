"""Who must not be written to: the tables in Redis, the gate that asks them, and SES's list that is read into them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from redis.exceptions import RedisError

from mailer import Mailer, Settings
from mailer.cli.processes import free_port
from mailer.errors import InvalidEmail, NotKnown
from mailer.ledger import Ledger
from mailer.queue import connect, disconnect
from mailer.ses import gateway as gateway_module
from mailer.ses import questions
from mailer.ses.gateway import Gateway
from mailer.simulator import Simulator
from mailer.simulator.faults import Fault, Kind
from mailer.suppression import check as gate
from mailer.suppression.lists import BUCKETS, STEP, STEP_OF_FEW, NewEntry, OwnEntry, Reason, SesEntry, SuppressionLists, place
from mailer.suppression.sync import Sync, SyncFailed
from mailer.suppression.writer import Put, SesRefused, SesWriter
from worker import maintenance
from worker.runtime import Runtime

ACCOUNT = "eu-west-1"
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ALL = frozenset({"BOUNCE", "COMPLAINT"})
HOSTILE = [
    "o'brien@example.org",
    '"a b"@example.org',
    "new\nline@example.org",
    "nul\0l@example.org",
    "*@example.org",
    "a:b%20c*d@example.org",
    "jos\u00e9@\u4f8b\u3048.jp",
    "\ud800half@example.org",
    "",
    " ",
    "x" * 5000 + "@example.org",
    "]] return 1 --@example.org",
]


async def known(ledger: Ledger, **fields: int | str) -> None:
    """SES's list has been read whole, just now or when it is said."""
    ms = int((await ledger.redis.time())[0]) * 1000
    about = {"whole": ms, "synced": ms, "checkpoint": ms, "generation": 1, **fields}
    await ledger.redis.hset(ledger.keys.suppressed_ses(ACCOUNT), mapping=about)


async def ask(
    ledger: Ledger, *addresses: str, reasons: Iterable[str] = ALL, stream: str = "", account: str = ACCOUNT, sync_s: float = 300
) -> dict[str, str]:
    return await gate.check(
        ledger, account=account, reasons=frozenset(reasons), stream=stream, addresses=addresses, sync_s=sync_s
    )


async def own(ledger: Ledger, address: str, reason: Reason = Reason.MANUAL, stream: str = "") -> bool:
    return (await SuppressionLists(ledger).add([NewEntry(address, reason, stream, NOW)]))[0]


# ---- our own list ------------------------------------------------------------------------------------------------------


async def test_whoever_is_on_our_own_list_is_found_in_whatever_case_and_with_a_name(ledger: Ledger) -> None:
    await own(ledger, "Ana@Example.org", Reason.BOUNCE)
    assert await ask(ledger, "bo@example.org", reasons=()) == {}
    given = ("aNA@example.ORG", '"<bo@x>, Ana" <ANA@example.org>', "Ana <ana@example.org>", "ana@example.orga", "na@example.org")
    found = await ask(ledger, *given, reasons=())
    assert found == dict.fromkeys(given[:3], "it is on the suppression list since 2026-03-04 (mail to it bounced)")


async def test_an_entry_for_one_stream_holds_for_that_stream_only(ledger: Ledger) -> None:
    await own(ledger, "ana@example.org", Reason.UNSUBSCRIBE, "news")
    why = "it is on the suppression list for 'news' since 2026-03-04 (its owner unsubscribed)"
    assert await ask(ledger, "ana@example.org", stream="news", reasons=()) == {"ana@example.org": why}
    for other in ("", "New", "news2", "new"):
        assert await ask(ledger, "ana@example.org", stream=other, reasons=()) == {}
    await own(ledger, "ana@example.org")
    why = "it is on the suppression list since 2026-03-04 (reason: manual)"
    assert await ask(ledger, "ana@example.org", stream="other", reasons=()) == {"ana@example.org": why}


async def test_what_was_there_keeps_its_time_and_each_reason_is_an_entry(ledger: Ledger) -> None:
    s = SuppressionLists(ledger)
    assert await own(ledger, "ana@example.org", Reason.BOUNCE)
    assert (await s.add([NewEntry("ANA@example.org", Reason.BOUNCE)])) == [False]
    assert await s.add([NewEntry("ana@example.org", Reason.MANUAL), NewEntry("ana@example.org", Reason.MANUAL)]) == [True, False]
    entries = [entry async for entry in s.walk_own()]
    assert entries[0] == OwnEntry("ana@example.org", Reason.BOUNCE, "", NOW)
    assert [entry.reason for entry in entries] == [Reason.BOUNCE, Reason.MANUAL]
    assert await s.own_entries() == 2


async def test_removing_takes_what_it_was_asked_for_and_no_more(ledger: Ledger) -> None:
    s = SuppressionLists(ledger)
    for stream in ("", "a", "*", "a b"):
        await own(ledger, "ana@example.org", stream=stream)
    assert [entry.stream for entry in await s.remove("ANA@example.org")] == [""]
    assert await s.remove("ana@example.org") == []
    assert [entry.stream for entry in await s.remove("ana@example.org", "*")] == ["*"]
    assert [entry.stream for entry in await s.remove("ana@example.org", None)] == ["a", "a b"]
    assert await s.own_entries() == 0
    assert [entry async for entry in s.walk_own()] == []


async def test_hostile_addresses_and_streams_are_kept_as_they_are_and_hit_nobody_else(ledger: Ledger) -> None:
    s, streams = SuppressionLists(ledger), [stream[:42] for stream in HOSTILE]
    await s.add([NewEntry(address, Reason.MANUAL, stream, NOW) for address, stream in zip(HOSTILE, streams, strict=True)])
    await s.listed(ACCOUNT, [SesEntry(address, "BOUNCE", NOW) for address in HOSTILE])
    await known(ledger)
    checked = await s.check([*HOSTILE, "ana@example.org"], account=ACCOUNT)
    assert sorted(checked.hits) == list(range(len(HOSTILE)))
    for number, (address, stream) in enumerate(zip(HOSTILE, streams, strict=True)):
        found = checked.hits[number]
        assert stream in [entry.stream for entry in found.own]
        assert found.ses == [SesEntry(address.strip(), "BOUNCE", NOW)]
    with pytest.raises(ValueError, match="128 bytes"):
        await s.add([NewEntry("ana@example.org", Reason.MANUAL, "\u00e9" * 65)])


async def test_two_addresses_that_share_a_bit_and_a_bucket_are_not_taken_for_each_other(ledger: Ledger) -> None:
    seen: dict[int, str] = {}
    while True:
        address = f"{secrets.token_hex(8)}@example.org"
        if (twin := seen.setdefault(place(address.encode()), address)) != address:
            break
    await own(ledger, twin)
    assert list(await ask(ledger, address, twin, reasons=())) == [twin]


async def test_a_check_of_thousands_finds_each_that_is_listed(ledger: Ledger) -> None:
    addresses = [f"u{number}@example.org" for number in range(2501)]
    listed = [addresses[number] for number in (0, 999, 1000, 1001, 1999, 2000, 2500)]
    await SuppressionLists(ledger).add([NewEntry(address, Reason.MANUAL) for address in listed])
    assert list(await ask(ledger, *addresses, reasons=())) == listed
    assert await ask(ledger, reasons=()) == {}


async def test_without_its_bits_the_tables_decide(ledger: Ledger) -> None:
    await own(ledger, "ana@example.org")
    await ledger.redis.delete(ledger.keys.suppressed_bits)
    assert await ask(ledger, "ana@example.org", reasons=())


async def test_an_entry_that_cannot_be_read_is_an_error_and_not_a_pass(ledger: Ledger) -> None:
    await own(ledger, "ana@example.org")
    bucket = f"{ledger.keys.suppressed_own}:{place(b'ana@example.org') & 0xFFFF:04x}"
    await ledger.redis.hset(bucket, "ana@example.org", "m12")
    with pytest.raises(ValueError, match="cannot be read"):
        await ask(ledger, "ana@example.org", reasons=())


async def test_an_address_is_found_from_the_moment_that_adding_it_has_returned(ledger: Ledger) -> None:
    addresses, added = [f"u{number}@example.org" for number in range(300)], 0

    async def add() -> None:
        nonlocal added
        for address in addresses:
            await own(ledger, address)
            added += 1

    adding = asyncio.create_task(add())
    while not adding.done():
        before = added
        assert len(await ask(ledger, *addresses, reasons=())) >= before
    await adding
    assert len(await ask(ledger, *addresses, reasons=())) == 300


# ---- SES's list, in the gate -------------------------------------------------------------------------------------------


async def test_the_reasons_that_hold_decide_over_ses_list(ledger: Ledger) -> None:
    await known(ledger)
    await SuppressionLists(ledger).listed(ACCOUNT, [SesEntry("Ana@x.org", "BOUNCE", NOW), SesEntry("bo@x.org", "COMPLAINT", NOW)])
    both = ("ana@x.org", "BO@x.org")
    bounced = "it is on the suppression list of SES since 2026-03-04 (mail to it bounced)"
    complained = "it is on the suppression list of SES since 2026-03-04 (its owner complained)"
    assert await ask(ledger, *both) == {"ana@x.org": bounced, "BO@x.org": complained}
    assert await ask(ledger, *both, reasons=["BOUNCE"]) == {"ana@x.org": bounced}
    assert await ask(ledger, *both, reasons=["COMPLAINT"]) == {"BO@x.org": complained}
    assert await ask(ledger, *both, reasons=()) == {}


async def test_a_reason_that_ses_did_not_have_before_holds_whichever_hold(ledger: Ledger) -> None:
    await known(ledger)
    await SuppressionLists(ledger).listed(ACCOUNT, [SesEntry("Ana@x.org", "COMPROMISED", NOW), SesEntry("bo@x.org", "", NOW)])
    assert await copy(ledger) == {"Ana@x.org": "OTHER", "bo@x.org": "OTHER"}
    for reason in ALL:
        found = await ask(ledger, "ana@x.org", "bo@x.org", reasons=[reason])
        why = "it is on the suppression list of SES since 2026-03-04 (a reason that is not known here)"
        assert found == {"ana@x.org": why, "bo@x.org": why}


async def test_two_spellings_are_two_entries_of_which_either_holds(ledger: Ledger) -> None:
    await known(ledger)
    await SuppressionLists(ledger).listed(
        ACCOUNT, [SesEntry("foo@x.org", "BOUNCE", NOW), SesEntry("Foo@x.org", "COMPLAINT", NOW)]
    )
    for reason in ALL:
        assert await ask(ledger, "fOO@x.org", reasons=[reason])
    assert (await SuppressionLists(ledger).ses_list(ACCOUNT)).entries == 2
    found = [entry async for entry in SuppressionLists(ledger).walk_ses(ACCOUNT)]
    assert sorted(entry.address for entry in found) == ["Foo@x.org", "foo@x.org"]
    assert await SuppressionLists(ledger).delisted(ACCOUNT, "FOO@x.org") == 2


async def test_a_list_that_was_never_read_lets_nothing_through_but_where_it_does_not_matter(ledger: Ledger) -> None:
    with pytest.raises(NotKnown, match=r"^the suppression list of SES has not been read yet$"):
        await ask(ledger, "ana@example.org")
    await SuppressionLists(ledger).listed(ACCOUNT, [SesEntry("x@x.org", "BOUNCE", NOW)])
    await ledger.redis.hset(ledger.keys.suppressed_ses(ACCOUNT), mapping={"passing": 1, "pass_seen": 12_000})
    with pytest.raises(NotKnown, match=r"has not been read yet \(12,000 entries so far\)$"):
        await ask(ledger, "ana@example.org")
    await ledger.redis.hset(ledger.keys.suppressed_ses(ACCOUNT), "trouble", "not allowed")
    with pytest.raises(NotKnown, match=r"^the suppression list of SES cannot be read: not allowed$"):
        await ask(ledger, "ana@example.org")
    assert await ask(ledger, "ana@example.org", "x@x.org", reasons=()) == {}
    await known(ledger)
    with pytest.raises(NotKnown):
        await ask(ledger, "ana@example.org", account="us-east-1")


@pytest.mark.parametrize(("sync_s", "age_s"), [(1, 900), (300, 900), (600, 1800)])
async def test_a_list_that_is_too_old_lets_nothing_through(ledger: Ledger, sync_s: float, age_s: int) -> None:
    ms = int((await ledger.redis.time())[0]) * 1000
    await known(ledger, synced=ms - age_s * 1000 + 60_000)
    assert await ask(ledger, "ana@example.org", sync_s=sync_s) == {}
    await known(ledger, synced=ms - age_s * 1000 - 1000)
    with pytest.raises(NotKnown, match=r"was last read at 20\d\d-\d\d-\d\d \d\d:\d\d UTC, which is too long ago$"):
        await ask(ledger, "ana@example.org", sync_s=sync_s)
    await known(ledger, synced=ms - age_s * 1000 - 1000, trouble="no way", trouble_since=int(NOW.timestamp() * 1000))
    with pytest.raises(NotKnown, match=r"could not be read since 2026-03-04 05:06 UTC: no way$"):
        await ask(ledger, "ana@example.org", sync_s=sync_s)


async def test_without_redis_there_is_no_answer() -> None:
    redis = connect(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"), retries=0)
    with pytest.raises((RedisError, OSError)):
        await ask(Ledger(redis, "t"), "ana@example.org", reasons=())
    await disconnect(redis)


# ---- reading SES's list ------------------------------------------------------------------------------------------------


@pytest.fixture
async def gateway(ses: Simulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """One try a call, and three entries a page."""
    monkeypatch.setitem(gateway_module._ASKING, "retries", {"total_max_attempts": 1, "mode": "standard"})
    monkeypatch.setattr(questions, "PAGE_SIZE", 3)
    async with Gateway() as gateway:
        yield gateway


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


def a_sync(ledger: Ledger, gateway: Gateway, *, every_s: float = 300) -> Sync:
    """As a process of its own has it."""
    return Sync(SuppressionLists(ledger), ACCOUNT, gateway, every_s=every_s, sleep=no_sleep)


async def whole(ledger: Ledger, gateway: Gateway) -> None:
    await a_sync(ledger, gateway).whole(lambda *_: None, lambda: None)


async def new(ledger: Ledger, gateway: Gateway) -> None:
    await a_sync(ledger, gateway).new(lambda *_: None, lambda: None)


async def copy(ledger: Ledger) -> dict[str, str]:
    return {entry.address: entry.reason async for entry in SuppressionLists(ledger).walk_ses(ACCOUNT)}


def fill(ses: Simulator, n: int) -> None:
    for number in range(n):
        ses.suppress(f"U{number}@example.org", "BOUNCE" if number % 2 else "COMPLAINT")


def there(ses: Simulator) -> dict[str, str]:
    return {entry.address: entry.reason for entry in ses.suppressed.values()}


LIST = "ListSuppressedDestinations"


async def test_all_pages_are_read_exactly_and_then_only_what_is_new(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    fill(ses, 8)
    assert await a_sync(ledger, gateway).when_due() is None
    assert (await copy(ledger), ses.counts[LIST]) == (there(ses), 3)
    found = [entry async for entry in SuppressionLists(ledger).walk_ses(ACCOUNT)]
    assert {entry.address: entry.updated_at.timestamp() for entry in found} == {e.address: e.at for e in ses.suppressed.values()}
    known = await SuppressionLists(ledger).ses_list(ACCOUNT)
    assert known.entries == 8
    assert known.whole_at is not None
    assert known.checkpoint is not None
    await a_sync(ledger, gateway).when_due()
    assert ses.counts[LIST] == 3, "nothing is due"
    for entry in ses.suppressed.values():  # long before the checkpoint
        entry.at -= 3600
    ses.suppress("new@example.org", "BOUNCE")
    await new(ledger, gateway)
    assert (await copy(ledger), ses.counts[LIST]) == (there(ses), 4)
    later = (await SuppressionLists(ledger).ses_list(ACCOUNT)).checkpoint
    assert later is not None
    assert later >= known.checkpoint


async def test_entries_a_little_older_than_the_checkpoint_are_read_again(
    ledger: Ledger, ses: Simulator, gateway: Gateway
) -> None:
    await whole(ledger, gateway)
    ses.suppress("late@example.org", "BOUNCE")  # SES showed it later than its time says
    ses.suppressed["late@example.org"].at -= 540
    await new(ledger, gateway)
    assert await copy(ledger) == there(ses)


async def test_a_full_pass_goes_on_in_another_process_where_it_was(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    fill(ses, 10)
    for read in (0, 3, 6, 9, 10):
        await a_sync(ledger, gateway).when_due(slice_s=0)
        known = await SuppressionLists(ledger).ses_list(ACCOUNT)
        assert (known.pass_seen, known.passing, known.whole_at) == (read, True, None)
        with pytest.raises(NotKnown):
            await ask(ledger, "u1@example.org")
    await a_sync(ledger, gateway).when_due()
    assert (await copy(ledger), ses.counts[LIST]) == (there(ses), 4)
    assert await ask(ledger, "u1@example.org")


async def test_a_token_that_ses_does_not_take_any_more_starts_over(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    fill(ses, 7)
    for _ in range(3):
        await a_sync(ledger, gateway).when_due(slice_s=0)
    await ledger.redis.hset(ledger.keys.suppressed_ses(ACCOUNT), "pass_token", "x")
    await a_sync(ledger, gateway).when_due()
    assert await copy(ledger) == there(ses)
    refused = Fault(kind=Kind.ERROR, operation=LIST, code="InvalidNextTokenException", status=400, message="No such token.")
    ses.faults.set([refused])
    with pytest.raises(SyncFailed, match="No such token"):
        await whole(ledger, gateway)


async def test_what_ses_has_removed_goes_and_what_was_added_meanwhile_stays(
    ledger: Ledger, ses: Simulator, gateway: Gateway
) -> None:
    fill(ses, 10)
    await whole(ledger, gateway)
    ses.unsuppress("U0@example.org")
    ses.unsuppress("U9@example.org")
    ses.suppress("u9@example.org", "BOUNCE")  # another spelling of the same
    await new(ledger, gateway)
    assert {"U0@example.org", "U9@example.org", "u9@example.org"} <= (await copy(ledger)).keys()
    await ledger.redis.hset(ledger.keys.suppressed_ses(ACCOUNT), "whole", 1000)  # a full pass is due
    for _ in range(2):
        await a_sync(ledger, gateway).when_due(slice_s=0)
    assert (await SuppressionLists(ledger).ses_list(ACCOUNT)).pass_seen == 3
    await SesWriter(SuppressionLists(ledger), ACCOUNT, gateway).put(
        "A-first@example.org", Reason.BOUNCE
    )  # on a page that was read
    await a_sync(ledger, gateway).when_due()
    assert await copy(ledger) == there(ses)
    assert (await SuppressionLists(ledger).ses_list(ACCOUNT)).entries == 10
    assert list(await ask(ledger, "u0@example.org", "u9@example.org", "a-first@example.org")) == [
        "u9@example.org",
        "a-first@example.org",
    ]


async def test_a_page_that_was_read_before_a_removal_does_not_bring_it_back(
    ledger: Ledger, ses: Simulator, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ses, 2)
    real, deleted = gateway.suppressed_page, list[bool]()

    async def slow(**asked: Any) -> Any:
        page = await real(**asked)
        deleted.append(await SesWriter(SuppressionLists(ledger), ACCOUNT, gateway).delete("u0@example.org"))
        return page

    await whole(ledger, gateway)
    monkeypatch.setattr(gateway, "suppressed_page", slow)
    await whole(ledger, gateway)
    assert deleted == [True]
    assert await copy(ledger) == there(ses) == {"U1@example.org": "BOUNCE"}


async def test_what_is_new_is_read_while_a_full_pass_goes_on(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    fill(ses, 10)
    await whole(ledger, gateway)
    about = ledger.keys.suppressed_ses(ACCOUNT)
    await ledger.redis.hset(about, "whole", 1000)
    for _ in range(2):
        await a_sync(ledger, gateway).when_due(slice_s=0)
    old = int((await ledger.redis.time())[0]) * 1000 - 1_000_000
    await ledger.redis.hset(about, mapping={"synced": old, "pass_at": old})
    for entry in ses.suppressed.values():
        entry.at -= 3600
    ses.suppress("a-new@example.org", "BOUNCE")
    await a_sync(ledger, gateway).when_due(slice_s=0)
    known = await SuppressionLists(ledger).ses_list(ACCOUNT)
    assert (known.passing, known.pass_seen) == (True, 3)
    assert "a-new@example.org" in await copy(ledger)
    assert await ask(ledger, "a-new@example.org")
    await a_sync(ledger, gateway).when_due()
    later = await SuppressionLists(ledger).ses_list(ACCOUNT)
    assert (later.passing, later.synced_at) == (False, known.synced_at), "not set back to when the pass began"


async def test_two_processes_do_not_read_at_the_same_time(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    fill(ses, 30)
    await asyncio.gather(*(a_sync(ledger, gateway).when_due() for _ in range(4)))
    assert (await copy(ledger), ses.counts[LIST]) == (there(ses), 10)
    first, second = a_sync(ledger, gateway), a_sync(ledger, gateway)
    assert await SuppressionLists(ledger).take_turn(ACCOUNT, "somebody")
    waited = asyncio.Event()
    task = asyncio.create_task(first.whole(lambda *_: None, waited.set))
    await waited.wait()
    await second.when_due()
    assert ses.counts[LIST] == 10
    await SuppressionLists(ledger).give_turn_back(ACCOUNT, "somebody")
    assert (await task).entries == 30


async def test_who_has_lost_the_turn_writes_nothing_more(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    s = SuppressionLists(ledger)
    await s.take_turn(ACCOUNT, "another")
    assert await s.listed(ACCOUNT, [SesEntry("ana@x.org", "BOUNCE", NOW)], owner="me") is None
    assert await s.sweep(ACCOUNT, 0, entries=0, owner="me") is None
    assert not await s.keep_turn(ACCOUNT, "me", {"whole": 1})
    await s.give_turn_back(ACCOUNT, "me")
    assert not await s.take_turn(ACCOUNT, "me")
    assert (await copy(ledger), (await s.ses_list(ACCOUNT)).whole_at) == ({}, None)
    assert BUCKETS % STEP == BUCKETS % STEP_OF_FEW == 0


async def test_why_ses_cannot_be_asked_is_kept_until_it_answers_again(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    text = "User: arn:aws:iam::1:user/w is not authorized to perform: ses:ListSuppressedDestinations on resource: *"
    denied = Fault(kind=Kind.ERROR, operation=LIST, code="AccessDeniedException", status=403, message=text)
    ses.faults.set([denied])
    refusal = await a_sync(ledger, gateway).when_due()
    assert refusal is not None
    assert refusal.reason == f"{text} (allow the role that action, on resource *)"
    since = (await SuppressionLists(ledger).ses_list(ACCOUNT)).trouble_since
    with pytest.raises(NotKnown, match="cannot be read: User: arn"):
        await ask(ledger, "ana@example.org")
    asked = ses.counts[LIST]
    assert await a_sync(ledger, gateway).when_due() is None
    assert ses.counts[LIST] == asked, "it is not asked again at once"
    await ledger.redis.hset(ledger.keys.suppressed_ses(ACCOUNT), "tried", 1000)
    await a_sync(ledger, gateway).when_due()
    assert (await SuppressionLists(ledger).ses_list(ACCOUNT)).trouble_since == since
    ses.faults.set([])
    await whole(ledger, gateway)
    assert (await SuppressionLists(ledger).ses_list(ACCOUNT)).trouble == ""
    assert await ask(ledger, "ana@example.org") == {}


async def test_throttled_pages_are_waited_for_and_then_read_more_slowly(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    fill(ses, 9)
    throttled = Fault(
        kind=Kind.ERROR, operation=LIST, code="TooManyRequestsException", status=429, message="Too many requests", count=4
    )
    ses.faults.set([throttled])
    slept = list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    sync = Sync(SuppressionLists(ledger), ACCOUNT, gateway, every_s=300, sleep=sleep, clock=lambda: sum(slept))
    assert await sync.when_due(slice_s=600) is None
    assert await copy(ledger) == there(ses)
    assert sum(slept[:4]) > 10, "longer each time"
    assert slept[-2:] == [pytest.approx(1.05)] * 2, "then a call a second"


async def test_a_cancelled_process_gives_its_turn_back(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    ses.faults.set([Fault(kind=Kind.LATENCY, operation=LIST, seconds=5)])
    task = asyncio.create_task(a_sync(ledger, gateway).when_due())
    while not ses.faults.fired[0]:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await SuppressionLists(ledger).take_turn(ACCOUNT, "next")


async def test_a_worker_reads_the_list_before_its_first_message_and_then_on_a_schedule(runtime: Runtime, ses: Simulator) -> None:
    check = partial(ask, runtime.ledger, "ana@example.org", account=runtime.own.account)
    assert await check() == {}, "known at once"
    assert "suppression" in maintenance.LOOPS
    ses.suppress("Ana@example.org", "BOUNCE")
    await runtime.ledger.redis.hset(runtime.ledger.keys.suppressed_ses(runtime.own.account), "synced", 1000)
    async with asyncio.timeout(5):
        while True:
            try:
                if await check():
                    return
            except NotKnown:
                pass
            await asyncio.sleep(0.02)


# ---- writing to SES's list -----------------------------------------------------------------------------------------------


async def test_a_put_is_at_ses_and_here_at_once_under_the_spelling_that_ses_has(
    ledger: Ledger, ses: Simulator, gateway: Gateway
) -> None:
    await known(ledger)
    both = SesWriter(SuppressionLists(ledger), ACCOUNT, gateway)
    assert await both.put("Ana@example.org", Reason.MANUAL) is Put.WRITTEN
    assert (there(ses), await copy(ledger)) == ({"Ana@example.org": "BOUNCE"},) * 2
    assert await both.put("ana@example.org", Reason.UNSUBSCRIBE) is Put.WRITTEN
    assert (there(ses), await copy(ledger)) == ({"Ana@example.org": "COMPLAINT"},) * 2
    asked = ses.counts["PutSuppressedDestination"]
    assert await both.put("ANA@example.org", Reason.COMPLAINT, unless_there=True) is Put.THERE
    assert ses.counts["PutSuppressedDestination"] == asked
    assert (await SuppressionLists(ledger).ses_list(ACCOUNT)).entries == 1
    assert await ask(ledger, "ana@EXAMPLE.org")


async def test_removing_uses_the_case_that_ses_has_stored(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    both = SesWriter(SuppressionLists(ledger), ACCOUNT, gateway)
    for spelling in ("FoO@x.org", "foo@x.org", "Other@x.org"):
        ses.suppress(spelling, "BOUNCE")
    await whole(ledger, gateway)
    assert {entry.address for entry in await both.asked("FOO@x.org")} == {"foo@x.org", "FoO@x.org"}
    assert await both.delete("fOO@X.ORG")
    assert there(ses) == await copy(ledger) == {"Other@x.org": "BOUNCE"}
    assert not await both.delete("foo@x.org")
    ses.suppress("Unread@x.org", "BOUNCE")  # not in our copy yet
    assert await both.delete("Unread@X.org")
    assert there(ses) == {"Other@x.org": "BOUNCE"}


async def test_what_ses_refuses_is_told_and_nothing_is_written_here(ledger: Ledger, ses: Simulator, gateway: Gateway) -> None:
    ses.production = False
    with pytest.raises(SesRefused, match="sandbox"):
        await SesWriter(SuppressionLists(ledger), ACCOUNT, gateway).put("ana@example.org", Reason.BOUNCE)
    assert await copy(ledger) == {}


# ---- from Python -------------------------------------------------------------------------------------------------------------


async def test_an_application_keeps_our_own_list(mailer: Mailer) -> None:
    assert await mailer.suppress("Ana@example.org", reason="unsubscribe", stream="news")
    assert not await mailer.suppress("ana@EXAMPLE.org", reason=Reason.UNSUBSCRIBE, stream="news")
    [entry] = await mailer.suppressed("ANA@example.org")
    assert (entry.address, entry.reason, entry.stream) == ("ana@example.org", Reason.UNSUBSCRIBE, "news")
    assert not await mailer.unsuppress("ana@example.org")
    assert await mailer.unsuppress("ana@example.org", stream="news")
    assert await mailer.suppressed("ana@example.org") == ()
    assert await mailer.suppress("ana@münchen.de")
    assert [entry.address for entry in await mailer.suppressed(" ana@MÜNCHEN.de")] == ["ana@xn--mnchen-3ya.de"]
    assert await mailer.unsuppress("ana@münchen.de")
    for ask in (mailer.suppress, mailer.unsuppress, mailer.suppressed):
        with pytest.raises(InvalidEmail, match="'nobody': an email address must have an @-sign"):
            await ask("nobody")
    for bad in ({"address": "ana"}, {"reason": "x"}, {"stream": "a\nb"}, {"stream": "x" * 129}):
        with pytest.raises(InvalidEmail):
            await mailer.suppress(**{"address": "ana@example.org", **bad})
