"""`mailer suppression …` as its user meets it: the whole program, a real Valkey, a simulated SES."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import logging
import sys
from collections.abc import AsyncIterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailer import Settings
from mailer.cli import main
from mailer.ledger import Ledger
from mailer.queue import connect, disconnect
from mailer.simulator import Simulator
from mailer.simulator.faults import Fault, Kind
from mailer.suppression.lists import NewEntry, Reason, SuppressionLists

from ..servers import RedisServer

ACCOUNT = "eu-west-1"


class Said(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
async def ledger(server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ledger]:
    """What the commands work on."""
    monkeypatch.setenv("MAILER_REDIS_URL", server.url)
    monkeypatch.setenv("MAILER_NAMESPACE", namespace)
    Path("mailer.toml").write_text(
        '[senders.news]\nfrom = "news@example.com"\n[senders.us]\nfrom = "news@example.com"\nregion = "us-east-1"\n'
    )
    redis = connect(Settings(redis_url=server.url))
    yield Ledger(redis, namespace)
    await disconnect(redis)


async def suppression(*words: str, stdin: str = "") -> Said:
    """The whole program in a thread: a process for each command would take a second longer."""
    return await asyncio.to_thread(_program, words, stdin)


def _program(words: tuple[str, ...], stdin: str) -> Said:
    stdout, stderr = (TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    status = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mailer", "suppression", *words])
        patch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin.encode())))
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        try:
            main()
        except SystemExit as error:
            status = int(error.code or 0)
        finally:
            logging.disable(logging.NOTSET)
    out, err = (stream.buffer.getvalue().decode() for stream in (stdout, stderr))
    return Said(status, out, err)


async def shown(*words: str) -> Any:
    said = await suppression(*words, "--json")
    assert said.status == 0, said.err
    return json.loads(said.out)


async def own(ledger: Ledger) -> set[tuple[str, str, str]]:
    return {(entry.address, entry.reason.value, entry.stream) async for entry in SuppressionLists(ledger).walk_own()}


async def copied(ledger: Ledger) -> dict[str, str]:
    return {entry.address: entry.reason async for entry in SuppressionLists(ledger).walk_ses(ACCOUNT)}


def at_ses(ses: Simulator) -> dict[str, str]:
    return {entry.address: entry.reason for entry in ses.suppressed.values()}


async def test_add_check_and_remove_are_at_ses_too_in_the_case_that_it_has(ledger: Ledger, ses: Simulator) -> None:
    said = await suppression("add", "Ana@example.org", "bo@example.org", "--reason", "complaint")
    assert (said.status, said.out) == (0, "")
    assert said.err.splitlines() == ["Ana@example.org: suppressed for everything", "bo@example.org: suppressed for everything"]
    assert await own(ledger) == {("ana@example.org", "complaint", ""), ("bo@example.org", "complaint", "")}
    assert at_ses(ses) == await copied(ledger) == {"Ana@example.org": "COMPLAINT", "bo@example.org": "COMPLAINT"}
    assert await shown("add", "ANA@example.org", "--reason", "complaint", "--stream", "news") == [
        {"email": "ANA@example.org", "reason": "complaint", "stream": "news", "new": True, "ses": False}
    ]
    found = await shown("check", "aNA@example.org", "cy@example.org")
    assert [one["listed"] for one in found["addresses"]] == [True, False]
    entries = [(entry["list"], entry["email"], entry["stream"]) for entry in found["addresses"][0]["entries"]]
    assert entries == [("own", "ana@example.org", None), ("own", "ana@example.org", "news"), ("ses", "Ana@example.org", None)]
    assert (found["ses"]["account"], found["ses"]["entries"], found["ses"]["whole_at"]) == (ACCOUNT, 2, None)
    said = await suppression("remove", "ana@EXAMPLE.org", "nobody@example.org")
    assert (said.status, said.out) == (0, "")
    assert said.err.splitlines()[1:] == [
        "ana@example.org: removed from our own list and SES's list",
        "ana@example.org: still suppressed for 'news' (complaint); see --stream and --every-stream",
        "nobody@example.org: was not on our own list, nor on SES's",
    ]
    assert "has not been read yet" in said.err
    assert at_ses(ses) == await copied(ledger) == {"bo@example.org": "COMPLAINT"}
    assert await own(ledger) == {("ana@example.org", "complaint", "news"), ("bo@example.org", "complaint", "")}
    await suppression("remove", "ana@example.org", "bo@example.org", "--every-stream", "--local")
    assert (await own(ledger), at_ses(ses)) == (set(), {"bo@example.org": "COMPLAINT"})


async def test_local_and_streams_stay_here(ledger: Ledger, ses: Simulator) -> None:
    local = await suppression("add", "ana@example.org", "--local")
    stream = await suppression("add", "ana@example.org", "--stream", "typo", "--reason", "unsubscribe")
    assert (local.status, stream.status) == (0, 0)
    assert "no sender 'typo'" in stream.err
    assert "SES's list knows no streams, so it is kept here only" in stream.err
    assert await own(ledger) == {("ana@example.org", "manual", ""), ("ana@example.org", "unsubscribe", "typo")}
    assert (at_ses(ses), ses.counts["PutSuppressedDestination"]) == ({}, 0)


async def test_what_was_added_is_found_and_removed_under_the_same_words(ledger: Ledger, ses: Simulator) -> None:
    assert (await suppression("add", " Ana@MÜNCHEN.de")).status == 0
    assert set(at_ses(ses)) == {"Ana@xn--mnchen-3ya.de"}
    (found,) = (await shown("check", "ana@münchen.de"))["addresses"]
    assert (found["email"], len(found["entries"])) == ("ana@xn--mnchen-3ya.de", 2)
    said = await suppression("remove", "ana@münchen.de")
    assert said.err.splitlines()[1:] == ["ana@xn--mnchen-3ya.de: removed from our own list and SES's list"]
    assert (await own(ledger), at_ses(ses)) == (set(), {})


async def test_in_the_sandbox_it_is_kept_here_and_one_sentence_says_so(ledger: Ledger, ses: Simulator) -> None:
    ses.production = False
    said = await suppression("add", "ana@example.org")
    assert said.status == 1
    why = "the account is in the SES sandbox, where SES's list takes no entries; --local leaves it out"
    assert said.err.splitlines()[1:] == [f"mailer: kept here, but not written to SES's list: {why}"]
    assert await own(ledger) == {("ana@example.org", "manual", "")}
    text = "ana@example.org,BOUNCE\nbo@example.org,BOUNCE\n"
    said = await suppression("import", "-", stdin=text)
    assert said.status == 1
    assert said.err.splitlines()[-1] == f"mailer: kept here, but not all written to SES's list: {why}"
    assert len(await own(ledger)) == 3


async def test_sync_reads_all_of_it_and_new_only_what_was_added(ledger: Ledger, ses: Simulator) -> None:
    for number in range(1200):
        ses.suppress(f"U{number}@example.org", "BOUNCE")
    found = await shown("sync")
    assert (found["entries"], found["trouble"], ses.counts["ListSuppressedDestinations"]) == (1200, None, 2)
    ses.unsuppress("U7@example.org")
    ses.suppress("new@example.org", "BOUNCE")
    assert (await shown("sync", "--new"))["entries"] == 1201
    said = await suppression("sync")
    assert said.status == 0
    assert "1,200" in said.out
    assert await copied(ledger) == at_ses(ses)
    refused = {"code": "AccessDeniedException", "status": 403, "message": "is not authorized to perform: ses:ListSuppressed"}
    ses.faults.set([Fault.model_validate({"kind": Kind.ERROR, "operation": "ListSuppressedDestinations", **refused})])
    said = await suppression("sync")
    assert said.status == 1
    why = "is not authorized to perform: ses:ListSuppressed (allow the role that action, on resource *)"
    assert said.err == f"mailer: SES's suppression list cannot be read: {why}\n"


async def test_what_was_exported_can_be_imported(ledger: Ledger, ses: Simulator) -> None:
    mine = {("ana@example.org", "bounce", ""), ("=bo@example.org", "unsubscribe", "news")}
    for address, reason, stream in mine:
        await SuppressionLists(ledger).add([NewEntry(address, Reason(reason), stream)])
    ses.suppress("Theirs@example.org", "COMPLAINT")
    await shown("sync")
    exported = await suppression("export", "all.csv.gz")
    assert (exported.status, exported.err) == (0, "3 entries\n")
    text = gzip.decompress(Path("all.csv.gz").read_bytes()).decode()
    assert text.splitlines()[0] == "email,list,reason,stream,since"
    only = await suppression("export", "-", "--format", "ndjson", "--list", "own", "--reason", "bounce")
    assert [json.loads(row)["email"] for row in only.out.splitlines()] == ["ana@example.org"]
    listed, limited = await shown("list"), await suppression("list", "--limit", "1")
    assert len(listed) == 3
    assert "1 of 3 entries" in limited.err
    for address, _, _ in mine:
        await SuppressionLists(ledger).remove(address, None)
    await shown("remove", "theirs@example.org")
    assert (await own(ledger), at_ses(ses)) == (set(), {})
    numbers = await shown("import", "all.csv.gz")
    assert await own(ledger) == mine
    assert at_ses(ses) == await copied(ledger) == {"ana@example.org": "BOUNCE", "Theirs@example.org": "COMPLAINT"}
    expected = {"lines": 3, "added": 2, "there": 0, "unusable": 0, "ses_written": 2, "ses_there": 0, "ses_left_out": 0}
    expected["subscribed"] = 0
    assert numbers == expected
    again = await shown("import", "all.csv.gz", "--local")
    assert again == {**expected, "added": 0, "there": 2, "ses_written": 0, "ses_left_out": 1}


async def test_an_export_that_fails_half_way_leaves_the_file_that_was_there(
    ledger: Ledger, ses: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await SuppressionLists(ledger).add([NewEntry("ana@example.org", Reason.MANUAL)])
    files = [tmp_path / "out" / name for name in ("all.csv", "all.csv.gz", "new.csv")]
    files[0].parent.mkdir()
    for file in files[:2]:
        file.write_bytes(b"good")
        file.chmod(0o600)
    with monkeypatch.context() as patch:
        patch.setattr("mailer.cli.suppression_list.as_row", lambda _: {"email": "ana@example.org"})  # no such row can be written
        for file in files:
            assert (await suppression("export", str(file), "--list", "own")).status == 1
    assert {file.name: file.read_bytes() for file in files[0].parent.iterdir()} == {"all.csv": b"good", "all.csv.gz": b"good"}
    for file in files:
        assert (await suppression("export", str(file), "--list", "own")).status == 0
    texts = [(gzip.decompress if file.suffix == ".gz" else bytes)(file.read_bytes()).decode() for file in files]
    assert len(set(texts)) == 1
    assert "ana@example.org,own,manual" in texts[0]
    assert [file.stat().st_mode & 0o777 for file in files[:2]] == [0o600, 0o600]
    (tmp_path / "link.csv").symlink_to(files[0])
    assert (await suppression("export", str(tmp_path / "link.csv"), "--reason", "bounce", "--list", "own")).status == 0
    assert files[0].read_text() == "email,list,reason,stream,since\n"
    assert sorted(file.name for file in files[0].parent.iterdir()) == ["all.csv", "all.csv.gz", "new.csv"]


@pytest.mark.parametrize("words", [(), ("-",)], ids=["nothing", "-"])
async def test_an_export_to_standard_output_has_the_entries_and_nothing_else(
    ledger: Ledger, ses: Simulator, words: tuple[str, ...]
) -> None:
    await SuppressionLists(ledger).add(
        [NewEntry("ana@example.org", Reason.BOUNCE), NewEntry("bo@example.org", Reason.MANUAL, "news")]
    )
    said = await suppression("export", *words, "--list", "own")
    head, *entries = csv.reader(said.out.splitlines())
    assert (said.status, head) == (0, ["email", "list", "reason", "stream", "since"])
    assert sorted(entry[:4] for entry in entries) == [
        ["ana@example.org", "own", "bounce", ""],
        ["bo@example.org", "own", "manual", "news"],
    ]
    assert said.err.endswith("2 entries\n")
    lines = await suppression("export", *words, "--list", "own", "--format", "ndjson")
    assert sorted(json.loads(line)["email"] for line in lines.out.splitlines()) == ["ana@example.org", "bo@example.org"]
    await SuppressionLists(ledger).remove("ana@example.org", None)
    again = await suppression("import", "-", "--local", stdin=said.out)  # what was written is a list again
    assert (again.status, "1 added, 1 were there already" in again.err) == (0, True)


async def test_an_import_takes_what_it_can_and_names_the_lines_that_it_cannot(ledger: Ledger, ses: Simulator) -> None:
    bad = "".join(f"nobody{number}\n" for number in range(30))
    said = await suppression(
        "import", "-", "--reason", "bounce", "--stream", "news", "--local", stdin=f"email\na@x.org\n{bad}b@x.org"
    )
    assert said.status == 1
    lines = said.err.splitlines()
    assert lines[0] == "line 3 cannot be used: 'nobody0': an email address must have an @-sign"
    assert sum(line.startswith("line ") for line in lines) == 20
    assert lines[-1] == "mailer: 30 of 32 lines of - could not be used; the others were taken"
    assert await own(ledger) == {("a@x.org", "bounce", "news"), ("b@x.org", "bounce", "news")}


async def test_an_import_of_many_goes_to_ses_and_can_be_done_again(ledger: Ledger, ses: Simulator) -> None:
    Path("many.csv").write_text("".join(f"u{number}@example.org,BOUNCE\n" for number in range(700)))
    throttled = {"code": "TooManyRequestsException", "status": 429, "message": "Too many requests"}
    ses.faults.set([Fault.model_validate({"kind": Kind.ERROR, "operation": "PutSuppressedDestination", "nth": 698, **throttled})])
    first = await shown("import", "many.csv")
    assert (first["added"], first["ses_written"], len(at_ses(ses))) == (700, 700, 700)
    ses.unsuppress("u1@example.org")
    await SuppressionLists(ledger).delisted(ACCOUNT, "u1@example.org")
    again = await shown("import", "many.csv")
    assert (again["there"], again["ses_written"], again["ses_there"]) == (700, 1, 699)


async def test_a_sender_has_the_list_of_its_own_account(ledger: Ledger, ses: Simulator) -> None:
    ses.suppress("ana@example.org", "BOUNCE")
    assert (await shown("sync", "--sender", "us"))["account"] == "us-east-1"
    here = await shown("check", "ana@example.org")
    there = await shown("check", "ana@example.org", "--sender", "us", "--ses")
    missing = await suppression("check", "ana@example.org", "--sender", "none")
    assert [one["addresses"][0]["listed"] for one in (here, there)] == [False, True]
    assert (missing.status, missing.out) == (1, "")


async def test_our_own_list_can_be_looked_at_without_aws(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    said = await suppression("add", "ana@example.org")
    assert said.status == 1
    assert "kept here, but not written to SES's list: AWS: " in said.err
    looked = await suppression("list")
    assert looked.status == 0
    assert "SES's list is left out: AWS: " in looked.err
    assert "ana@example.org" in looked.out


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("add", "nobody"), 1, "mailer: 'nobody': an email address must have an @-sign"),
        (("check", "nobody"), 1, "mailer: 'nobody': an email address must have an @-sign"),
        (("remove", "nobody"), 1, "mailer: 'nobody': an email address must have an @-sign"),
        (("add", "ana@example.org", "--reason", "spam"), 2, "'spam' is not one of bounce, complaint, unsubscribe, manual"),
        (("remove", "a@x.org", "--stream", "a", "--every-stream"), 2, "give either --stream or --every-stream, not both"),
        (("import", "none.csv", "--local"), 1, "mailer: none.csv cannot be read: there is no such file."),
        (("export", "none/a.csv"), 1, "mailer: none/a.csv: cannot be written: No such file or directory"),
    ],
)
async def test_what_is_wrong_gets_one_sentence(
    ledger: Ledger, ses: Simulator, words: tuple[str, ...], status: int, why: str
) -> None:
    said = await suppression(*words)
    assert (said.status, said.out) == (status, "")
    assert why in said.err
    assert await own(ledger) == set()
