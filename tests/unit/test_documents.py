"""README.md and docs/: links, lines, examples, and what they say of the program."""

from __future__ import annotations

import inspect
import json
import os
import re
from pathlib import PurePosixPath
from typing import Any

import pytest
import typer.main

import mailer
from mailer import Mailer, Sender, Settings, SyncMailer, queue
from mailer.cli.app import app
from mailer.compose import limits
from mailer.ledger import contents, intake
from mailer.message import checks
from mailer.redis.access import rule
from mailer.ses import wire
from mailer.templates import bounds, caps
from worker import alike, child, children, maintenance, render, runtime, settle, watchdog

from ..documents import PAGES, ROOT, Block, all_blocks, anchors, blocks, links, prose, steps, text_of

MAX_LINE = 120  # characters; tables and code excepted
# Why a block of code may not be run by the tests.
REASONS = {
    "needs Docker",
    "installs the project",
    "takes minutes",
    "is run by tests/integration/test_docs.py",
}


# ---- links and lines -------------------------------------------------------------------------------------------------


def test_every_link_leads_to_a_file_and_heading_that_are_there() -> None:
    wrong = []
    for page in PAGES:
        for file, heading in links(page):
            target = _resolved(page, file)
            if not (ROOT / target).exists():
                wrong.append(f"{page}: there is no {target}")
            elif heading and heading not in anchors(target):
                wrong.append(f"{page}: {target} has no heading #{heading}")
    assert wrong == []


def _resolved(page: str, file: str) -> str:
    if not file:
        return page
    return os.path.normpath(PurePosixPath(page).parent / file)


@pytest.mark.parametrize("page", PAGES)
def test_no_line_is_longer_than_a_reader_likes(page: str) -> None:
    lines = enumerate(prose(page).splitlines(), 1)
    assert [f"{page}:{number}" for number, line in lines if len(line) > MAX_LINE and not line.startswith("|")] == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {_resolved("README.md", file) for file, _ in links("README.md")}
    assert {page for page in PAGES if page.startswith("docs/")} <= linked


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 140


# ---- examples --------------------------------------------------------------------------------------------------------


def test_what_is_not_run_says_why() -> None:
    left = [block for block in all_blocks() if block.not_run]
    print("\n".join(f"{block}: {block.not_run}" for block in left))
    assert {block.not_run for block in left} == REASONS


def commands(group: Any, prefix: str = "mailer") -> dict[str, Any]:
    """`mailer campaign start` → the command, for every command there is."""
    found: dict[str, Any] = {}
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        words = f"{prefix} {name}"
        found |= commands(command, words) if hasattr(command, "commands") else {words: command}
    return found


ALL = typer.main.get_command(app)
THERE = commands(ALL)


def test_every_option_in_an_example_is_there() -> None:
    """Also where the example is not run."""
    lines = [step.command for block in all_blocks("console") for step in steps(block)]
    lines = [part.strip() for line in lines for part in re.split(r"[|&]|\$\(", line) if part.strip().startswith("mailer ")]
    assert len(lines) > 40
    for line in lines:
        words = line.split()
        command = THERE.get(" ".join(words[:3])) or THERE[" ".join(words[:2])]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= {*options, "--help"}, line


def test_every_command_and_option_that_a_page_names_is_there() -> None:
    groups = {" ".join(words.split()[:2]) for words in THERE}
    every = {option for command in (ALL, *THERE.values()) for parameter in command.params for option in parameter.opts}
    for page in PAGES:
        for code in re.findall(r"`([^`\n]+)`", prose(page)):
            words = code.split()
            if words[0] == "mailer" and len(words) > 1 and words[1].isalpha():
                assert " ".join(words[:2]) in groups, f"{page}: {code}"
            for option in re.findall(r"(?<!\S)--[a-z][a-z-]+", code) if words[0] in ("mailer",) or code.startswith("--") else ():
                assert option in every or option in OF_OTHERS, f"{page}: {code}"


# Options of other programs: of `make bench`, of the simulated SES, of AWS's own command.
OF_OTHERS = {"--help", "--host", "--port", "--allow-host", "--markdown", "--jobs"}


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_is_named_is_there(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|\$ )make ([a-z]+(?:-[a-z]+)*)\b", text_of(page)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_the_repository_that_a_page_names_is_there(page: str) -> None:
    named = re.findall(r"`((?:deploy|tests|docs|mailer|worker)/[\w./-]+\.\w+)`", prose(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("block", [block for block in all_blocks("python") if block.page != "docs/testing-your-app.md"], ids=str)
def test_every_python_example_is_python(block: Block) -> None:
    body = "\n".join(f"    {line}" for line in block.source.splitlines())
    compile(f"async def example():\n{body}\n", str(block), "exec")


# ---- what the pages say ----------------------------------------------------------------------------------------------


def test_every_key_of_a_sender_is_named() -> None:
    section = _section("docs/sending.md", "Senders")
    names = {field.alias or name for name, field in Sender.model_fields.items()}
    assert {name for name in names if f"`{name}`" not in section} == set()


def test_the_least_rights_of_a_user_of_redis_are_there() -> None:
    assert f"\n{rule('mailer')}\n" in text_of("docs/running.md")


def test_every_public_name_and_method_is_on_the_page_of_python() -> None:
    page = text_of("docs/python.md")
    assert {name for name in mailer.__all__ if not re.search(rf"`{name}\b", page)} == set()
    methods = {name for kind in (Mailer, SyncMailer) for name, _ in inspect.getmembers(kind, inspect.isfunction)}
    public = {name for name in methods if not name.startswith("_")}
    assert {name for name in public if not re.search(rf"`(?:await )?(?:mailer\.)?{name}\(", page)} == set()


def test_the_policy_of_a_worker_is_json_and_has_what_the_page_says() -> None:
    page = text_of("docs/iam.md")
    (policy,) = [json.loads(block.source) for block in blocks("docs/iam.md") if block.language == "json"]
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    rows = re.findall(r"^\| worker(?:, (?!a sender|`MAILER_STORE|`mailer)[^|]*)? \| ([^|]*) \|", page, re.MULTILINE)
    assert actions == {action for cell in rows for action in re.findall(r"`(s\w+:\w+)`", cell)}


def test_the_limits_are_those_of_the_program() -> None:
    page = text_of("docs/limits.md")
    for value, unit in (
        (checks.MAX_RECIPIENTS, ""),
        (limits.MAX_ENTRIES, ""),
        (limits.MAX_INLINE_REQUEST, " bytes"),
        (limits.MAX_DATA_CHARS, " characters"),
        (limits.MAX_STRUCTURED_HEADERS, f" of {limits.MAX_STRUCTURED_VALUE} characters"),
        (checks.MAX_ADDRESS, " characters"),
        (checks.MAX_TAG_LEN, " characters"),
        (checks.MAX_HEADERS, f" of {checks.MAX_HEADER_VALUE:,} characters"),
        (checks.MAX_BODY, " characters"),
        (checks.MAX_DATA, " bytes as JSON"),
        (settle.MAX_FAILURES, ", about two minutes"),
        (alike.LIMIT, ""),
        (wire.READ_TIMEOUT_S, " s"),
        (int(children.FULL_S), " s"),
        (child.ROOM_BYTES >> 20, " MiB"),
        (render.HOPELESS, ""),
    ):
        assert f"| {value:,}{unit}" in page, (value, unit)
    templates = text_of("docs/templates.md")
    for bound in (caps.MAX_SOURCE, caps.MAX_TOKENS, bounds.MAX_CHARS, bounds.MAX_ITEMS, bounds.MAX_WIDTH, caps.MAX_STEPS):
        assert re.search(rf"\b{bound:,}\b", templates), bound


def test_the_times_are_those_of_the_program() -> None:
    hour = 3600
    for page, text, seconds, unit in (
        ("durability", "takes over after {} s", runtime.LEASE_MS / 1000, 1),
        ("durability", "event loop hangs for {} s", watchdog.HANGS_AFTER_S, 1),
        ("durability", "does not answer within {} s", wire.READ_TIMEOUT_S, 1),
        ("durability", "call waits {} s for Redis", queue.APPLICATION_TIMEOUT_S, 1),
        ("durability", "a command {} s", queue.COMMAND_TIMEOUT_S, 1),
        ("python", "seconds without an answer is `Mailer(timeout=…)`, {} by default", queue.APPLICATION_TIMEOUT_S, 1),
        ("events", "`MAILER_UNKNOWN_GRACE_S` ({} s by default)", Settings.model_fields["unknown_grace_s"].default, 1),
        ("limits", "`MAILER_RETENTION_S`, {} days by default", Settings.model_fields["retention_s"].default, 24 * hour),
        ("limits", "| {} days after their last use", contents.CONTENT_KEEP_S, 24 * hour),
        ("limits", "| an idempotency key | {} h", intake.KEY_LIFE_S, hour),
        ("running", "nothing has changed for {} minutes", maintenance.ARCHIVE_AFTER_S, 60),
    ):
        written = " ".join(text_of(f"docs/{page}.md").split())
        assert text.format(f"{seconds / unit:g}") in written, text


_CALLED = {
    "ses": re.compile(r"_(?:reader|sender)\.([a-z_]+)\("),
    "s3": re.compile(r"_ask\(\"([a-z0-9_]+)\"|\b(get_object)\("),
    "sqs": re.compile(r"_call\(\"(\w+)\""),
    "sts": re.compile(r"sts\.([a-z_]+)\("),
}
# The action that IAM checks is called otherwise than the operation.
ACTIONS = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:DeleteObjects": "s3:DeleteObject",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
}


def called() -> set[str]:
    """The action of every operation of AWS that `mailer/ses` calls."""
    source, found = "\n".join(path.read_text() for path in (ROOT / "mailer/ses").glob("*.py")), {"sts:AssumeRole"}
    for service, pattern in _CALLED.items():
        for match in pattern.finditer(source):
            name = next(filter(None, match.groups()))
            action = f"{service}:{name if name[0].isupper() else ''.join(map(str.capitalize, name.split('_')))}"
            found.add(ACTIONS.get(action, action))
    return found


def test_every_permission_that_the_code_needs_is_on_the_page_of_iam_and_no_other() -> None:
    assert len(called()) > 15
    named = set(re.findall(r"`((?:ses|s3|sqs|sts):[A-Z]\w+)`", text_of("docs/iam.md")))
    # SES checks these in place of SendEmail and SendBulkEmail.
    sending = {"ses:SendRawEmail", "ses:SendTemplatedEmail", "ses:SendBulkTemplatedEmail"}
    conditions = {"ses:FromAddress", "ses:FromDisplayName", "ses:FeedbackAddress", "ses:Recipients"}
    assert named - conditions == called() | sending


def test_what_a_page_quotes_of_the_program_is_said_by_it() -> None:
    """The first column of the tables of troubleshooting: pieces between … are in the source."""
    sources = [path.read_text() for folder in ("mailer", "worker") for path in (ROOT / folder).rglob("*.py")]
    sources += [path.read_text() for path in (ROOT / "mailer").rglob("*.lua")]
    source = re.sub(r"\"\s*\n\s*f?\"", "", "\n".join(sources))
    rows = re.findall(r"^\| (.+?) \|", prose("docs/troubleshooting.md"), re.MULTILINE)
    quoted = [code for cell in rows for code in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) > 30
    pieces = [(code, piece.strip()) for code in quoted for piece in code.split("…") if piece.strip()]
    assert [code for code, piece in pieces if piece not in source] == []


def _section(page: str, heading: str) -> str:
    found = re.search(rf"^(#+) {heading}\n(.*?)(?=^\1 |\Z)", text_of(page), re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[2]


def test_there_are_blocks_on_every_page_that_shows_how() -> None:
    for page in ("README.md", "docs/sending.md", "docs/campaigns.md", "docs/lists.md", "docs/templates.md", "docs/python.md"):
        assert any(not block.not_run for block in blocks(page) if block.language in ("console", "python")), page
