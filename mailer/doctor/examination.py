"""The table of the checks, and the run of all of them at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from redis.exceptions import RedisError

from ..errors import MailerError
from ..ledger import Ledger, Route
from ..message.sender import Sender
from ..queue import connect, disconnect
from ..settings import Settings
from . import account, redis, senders
from . import local as here
from . import runtime as work
from .aws import Unanswered, Ways
from .finding import Finding, each_once, told, wrong

CHECK_S = 12.0  # that one check may take; they run at the same time
Found = Finding | Sequence[Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    settings: Settings
    senders: Mapping[str, Sender]  # that are looked at
    own: bool = True  # look at the worker's own account, whether or not a sender uses it
    from_: str | None = None  # a From address that is looked at, too
    to: str | None = None  # whether this recipient could be written to


@dataclass(frozen=True, slots=True)
class Check:
    name: str  # of what it found, where it found nothing because it took too long
    ask: Callable[[], Awaitable[Found]]


async def examine(patient: Patient, left: Callable[[Sequence[str]], None] = lambda _: None) -> list[Finding]:
    """What all checks found, in their order. Raises nothing. `left` gets the names of those that are not done, as they end."""
    settings = patient.settings
    client = connect(settings, retries=0)
    ledger = Ledger(client, settings.namespace)
    try:
        async with Ways(settings, ledger) as ways:
            table = list(_table(patient, ledger, ways))
            waited = [check.name for check in table]
            left(waited)
            await ways.open_at_once(_routes(patient))

            async def run(check: Check) -> Sequence[Finding]:
                found = await _run(check)
                waited.remove(check.name)
                left(waited)
                return found

            return list(each_once([one for found in await asyncio.gather(*map(run, table)) for one in found]))
    finally:
        await disconnect(client)


def without_settings(error: MailerError) -> list[Finding]:
    """All that can be said where the settings cannot be read."""
    return [wrong("settings", str(error), "correct it; the rest is looked at then"), here.versions()]


async def _run(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(CHECK_S):
            found = await check.ask()
        return [found] if isinstance(found, Finding) else found
    except TimeoutError:
        do = "see that it can be reached from here: network, proxy, address"
        return [wrong(check.name, f"no answer within {CHECK_S:g} s", do, cause=f"{check.name} takes too long")]
    except Unanswered as error:
        return [wrong(check.name, error.refusal.said, error.refusal.do)]
    except MailerError as error:
        return [told(check.name, error)]
    except (RedisError, OSError) as error:
        return [redis.unanswered(check.name, "", error)]
    except Exception as error:
        what = f"the check has a mistake in it: {type(error).__name__}: {error}"
        return [wrong(check.name, what, "report it; what it looks at may be in order")]


def _table(patient: Patient, ledger: Ledger, ways: Ways) -> Iterator[Check]:
    settings, client = patient.settings, ledger.redis
    yield Check("settings", _now(here.settings_in_use, settings))
    yield Check("versions", _now(here.versions))
    yield Check("worker program", _now(here.worker_program))
    yield Check("redis", partial(redis.redis, settings, client))
    yield Check("redis commands", partial(redis.scripts, ledger, client))
    yield Check("redis clock", partial(redis.clock, client))
    yield Check("intake on disk", partial(redis.intake, ledger, client, settings))
    yield Check("store", partial(here.store, settings))
    yield Check("templates", partial(asyncio.to_thread, here.templates, settings))
    yield Check("unsubscribe key", _now(here.secret_key, settings, patient.senders))
    for route, whose in _routes(patient).items():
        yield Check(f"aws credentials{whose}", partial(account.credentials, ways, route, whose))
        yield Check(f"ses account{whose}", partial(account.account, ways, route, whose))
        yield Check(f"ses clock{whose}", partial(account.clock, ways, route, whose))
        yield Check(f"ses permissions{whose}", partial(account.permissions, ways, route, whose))
        yield Check(f"suppression list{whose}", partial(work.suppression, settings, ledger, ways, route, whose))
    for name in patient.senders:
        yield Check(f"sender {name}", partial(senders.sender, settings, ledger, ways, name, None))
    if patient.from_ is not None:
        yield Check(f"sender {patient.from_}", partial(senders.sender, settings, ledger, ways, patient.from_, patient.from_))
    yield Check("events", _now(work.events, settings))
    if settings.events_sqs_url is not None:
        yield Check("events queue", partial(work.queue, settings.events_sqs_url))
    yield Check("events without tags", partial(work.untagged, settings, ledger))
    yield Check("worker", partial(work.worker, settings, ledger, ways, next(iter(_routes(patient)))))
    if patient.to is not None:
        for route, whose in _routes(patient).items():
            streams = ["", *(name for name, one in patient.senders.items() if Route.of(one) == route)]
            yield Check(f"recipient{whose}", partial(senders.sandbox, ways, route, patient.to, whose))
            suppressed = partial(senders.suppressed, ledger, ways, route, patient.to, streams, whose)
            yield Check(f"suppression of {patient.to}{whose}", suppressed)


def _now(check: Callable[..., Found], *args: object) -> Callable[[], Awaitable[Found]]:
    async def ask() -> Found:
        return check(*args)

    return ask


def _routes(patient: Patient) -> dict[Route, str]:
    """The ways that are looked at, each with what its checks are called by; the worker's own has no name."""
    found = {Route(): ""} if patient.own or patient.from_ is not None else {}
    for name, sender in patient.senders.items():
        route = Route.of(sender)
        found.setdefault(route, "" if route == Route() else f" of {name}")
    return found
