"""Names and reasons that hold a terminal's commands, through every command that shows them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Awaitable, Callable

import pytest

from mailer import Email, Mailer, Settings
from mailer.cli import account, campaign, status
from mailer.cli.campaign import Format
from mailer.simulator import Simulator

from ..conftest import running_worker
from .test_delivery import FROM, finished, letter, rows, settled

EVIL = "a\x1b[2J\x9b31m\x1b]0;x\x07\u202eb\x7fc"
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
async def ids(settings: Settings, ses: Simulator, mailer: Mailer, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A campaign and a message of which every text that comes from outside is hostile."""
    monkeypatch.setenv("MAILER_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("MAILER_NAMESPACE", settings.namespace)
    id = await mailer.start_campaign(letter(), rows(2))
    message = await mailer.send(Email(to="ana@example.org", from_=FROM, subject="Hello", text="…"))
    async with running_worker(settings) as runtime:
        await finished(mailer, id)
        await settled(mailer, message)
        redis, keys = mailer._ledger.redis, runtime.ledger.keys
    await redis.hset(keys.container(id), mapping={"name": EVIL, "reason": EVIL, "state": "stopped", f"why:{EVIL}": 2})
    for chunk in (f"{id}-0", f"{message}-0"):
        await redis.hset(keys.details(chunk), mapping={"0": EVIL, "i0": EVIL})
    return id, message


async def account_of(as_json: bool) -> None:
    await account._account(None, False, as_json)


async def listed(as_json: bool) -> None:
    await campaign._list(as_json, 10)


@pytest.mark.parametrize("as_json", [False, True])
async def test_no_command_hands_a_terminal_what_it_would_obey(
    ids: tuple[str, str], as_json: bool, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    id, message = ids
    commands: list[Callable[[], Awaitable[None]]] = [
        lambda: campaign.show(id, as_json),
        lambda: status._message(message, as_json),
        lambda: status._recipient(f"{id}-0-0", as_json),
        lambda: listed(as_json),
        lambda: account_of(as_json),
    ]
    for command in commands:
        await command()
        captured = capfdbinary.readouterr()
        out = captured.out.decode()
        assert out
        assert not OBEYED.search(out + captured.err.decode()), out
        if as_json:
            assert EVIL in str(json.loads(out)) or "\\x1b" in str(json.loads(out))  # it is all there, for a program


@pytest.mark.parametrize("format", list(Format))
async def test_no_report_does_either(ids: tuple[str, str], format: Format, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    await campaign._report(ids[0], format, [], False)
    out = capfdbinary.readouterr().out.decode()
    assert not OBEYED.search(out)
    if format is Format.NDJSON:
        assert [json.loads(line)["reason"] for line in out.splitlines()] == [EVIL, ""]
    else:
        assert len(list(csv.DictReader(io.StringIO(out)))) == 2
