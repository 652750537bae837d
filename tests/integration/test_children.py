"""What is rendered by a child is what would be rendered here; and what is hostile ends there, costs its row, and nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from mailer import Email, Lane, Mailer
from mailer.compose.shared_template import segments, text_segments
from mailer.errors import RenderFailed
from mailer.message.email import Campaign
from mailer.simulator import Simulator
from mailer.simulator.catalogue import create_email_template
from mailer.templates import Compiled, Content
from mailer.templates.text import html_to_text
from worker import child, children
from worker.child import PROGRESS
from worker.children import FORGIVEN_AFTER, Broken, Children, Made
from worker.room import Busy
from worker.runtime import Runtime

from ..hostile import templates as hostile
from ..hostile.bodies import body

LANE = Lane.BULK
FROM = "letter@example.com"


@pytest.fixture
async def rendering(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Children]:
    found = Children()
    yield found
    await found.close()
    assert not [one for one in caplog.records if one.name == "asyncio"], "asyncio was told how each process ended"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short deadlines, and as much of the processor as the other tests beside it."""
    deadlines = {"QUICK_S": 0.1, "QUICK_STILL_S": 1.0, "FULL_S": 0.3, "FULL_STILL_S": 2.0}
    for name, value in {**deadlines, "NICE": 0, "SLOW_NICE": 0}.items():
        monkeypatch.setattr(children, name, value)


def content(html: str, *, subject: str = "s", text: str | None = None) -> Content:
    return Content.inline(subject=subject, html=html, text=text)


def packed(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    return [orjson.dumps({"data": row}) for row in rows]


async def made(rendering: Children, template: Content, rows: Sequence[dict[str, Any]], digest: str = "d") -> children.Made:
    return await rendering.render(LANE, digest, template.dump(), b"{}", packed(rows))


SOURCES = [
    "<p>Dear {{ name }}</p>",
    "{% macro m(x) %}<b>{{ x }}</b>{% endmacro %}<p>{{ m(name) }}, {{ m(n) }}</p>",
    "{% for a in lists %}<ul>{% for b in a %}<li>{{ b }}</li>{% endfor %}</ul>{% endfor %}",
    "<p>{% if n is odd %}<b>{{ name }}</b>{% else %}{{ name }}{% endif %}</p><a href='https://e.com/{{ n }}'>{{ name }}</a>",
    "<img src='{{ n }}'>",
    "<p title={{ n }}>{{ name|safe }}</p>",
]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("text", [None, "Dear {{ name }}"])
async def test_what_a_child_makes_is_what_is_made_here(rendering: Children, source: str, text: str | None) -> None:
    template = content(source, subject="Hi {{ name }}", text=text)
    rows = [{"name": f"N{n} & <i>", "n": n, "lists": [[n, 1], [2]]} for n in range(5)]
    rows.append({"n": 1, "lists": []})
    found, here = await made(rendering, template, rows), Compiled(template)
    assert found.done == 6
    for number, row in enumerate(rows):
        if number in found.failed:
            with pytest.raises(RenderFailed) as failed:
                here.render(row)
            assert found.failed[number] == str(failed.value)
            continue
        wanted, rendered = here.render(row), found.pieces[number].join()
        assert (rendered.subject, rendered.html) == (wanted.subject, wanted.html)
        assert (rendered.text or "").split() == (wanted.text or "").split()


async def test_what_all_rows_have_is_given_once_and_long_numbers_arrive_whole(rendering: Children) -> None:
    shared, row = orjson.dumps({"site": "S", "n": {"\0": "d1.50"}}), orjson.dumps({"data": {"name": "Ana"}})
    found = await rendering.render(LANE, "d", content("{{ site }} {{ name }} {{ n }}").dump(), shared, [row])
    assert found.pieces[0].join().html == "S Ana 1.50"


async def test_a_row_that_takes_too_long_fails_alone(impatient: None, rendering: Children) -> None:
    template = content("{% for i in range(n) %}{% for j in range(n) %}{% endfor %}{% endfor %}x")
    rows, done, failed = [{"n": 99_999 if i == 3 else 1} for i in range(8)], 0, dict[int, str]()
    while done < len(rows):
        found = await made(rendering, template, rows[done:])
        failed |= {done + place: why for place, why in found.failed.items()}
        done += found.done
    assert failed.keys() == {3}
    assert failed[3] in (
        "the template took longer than 0.3 s for this row",
        "the template failed on this row, in line 1 of body.html: its loops and calls take more than 1,000,000 steps",
    )


@pytest.mark.parametrize("name", hostile.SLOW)
async def test_what_looks_at_no_clock_is_ended_by_the_system(impatient: None, rendering: Children, name: str) -> None:
    found = await made(rendering, content(hostile.SLOW[name]), [hostile.DATA] * 2)
    assert found.done == 1
    assert any(words in found.failed[0] for words in ("took longer than", "needs more memory", "too large", "larger than")), found


@pytest.mark.parametrize("name", hostile.MEMORY)
async def test_what_fills_the_memory_fails_its_row_and_the_next_has_room_again(rendering: Children, name: str) -> None:
    found = await made(rendering, content(hostile.MEMORY[name]), [hostile.DATA])
    assert any(words in found.failed[0] for words in ("too large", "needs more memory")), found
    assert (await made(rendering, content("<p>{{ name }}</p>"), [hostile.DATA], "e")).pieces[0].join().html == "<p>Ana</p>"


async def test_a_process_that_dies_costs_nobody_anything(rendering: Children) -> None:
    template = content("<p>{{ name }}</p>")
    rows = [{"name": str(i)} for i in range(3)]
    assert (await made(rendering, template, rows)).done == 3
    child = await rendering._quick[LANE].start()
    os.kill(child._process.pid, signal.SIGKILL)
    while child.lives:
        await asyncio.sleep(0.01)
    assert (await made(rendering, template, rows)).done == 3
    assert "d" not in rendering._known, "it was not its fault"


async def test_a_slow_template_is_remembered_and_forgiven(impatient: None, rendering: Children) -> None:
    slow = hostile.SLOW["links that are looked for"]
    template = content("{% if slow %}" + slow + "{% endif %}x")
    await made(rendering, template, [hostile.DATA | {"slow": True}])
    assert "d" in rendering._known
    for _ in range(FORGIVEN_AFTER):
        await made(rendering, template, [{"slow": False}])
    assert "d" not in rendering._known


async def test_what_is_slow_holds_up_nobody_else(impatient: None, rendering: Children) -> None:
    """A row that another template is waiting for, while slow ones are rendered all the while."""
    template = content(hostile.SLOW["links that are looked for"])
    for number in range(2):
        await made(rendering, template, [hostile.DATA], f"slow{number}")
    slow = [asyncio.create_task(made(rendering, template, [hostile.DATA], f"slow{n}")) for n in range(2)]
    await asyncio.sleep(0.05)
    found = await made(rendering, content("<p>x</p>"), [{}], "quick")
    assert found.done == 1
    assert not all(task.done() for task in slow)
    for result in await asyncio.gather(*slow, return_exceptions=True):
        assert isinstance(result, Made | Busy), result  # the second may have to come again, where the machine is slow


async def test_who_finds_too_many_waiting_is_told_when_to_come_again(rendering: Children) -> None:
    template = content(hostile.STEPS["two loops"])
    waiting = [asyncio.create_task(made(rendering, template, [{}], f"d{n}")) for n in range(12)]
    await asyncio.sleep(0.1)
    with pytest.raises(Busy) as busy:
        await asyncio.wait_for(made(rendering, template, [{}], "late"), 5)
    assert 0.4 < busy.value.again_s < 40
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_request_that_is_cancelled_leaves_no_answer_for_the_next(rendering: Children) -> None:
    task = asyncio.create_task(made(rendering, content(hostile.SLOW["punycode"]), [{}]))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await made(rendering, content("<p>{{ a }}</p>"), [{"a": 1}], "e")).pieces[0].join().html == "<p>1</p>"


async def test_a_template_that_does_not_compile_says_so(rendering: Children) -> None:
    broken = Content(
        name="t", files={"subject.txt": "s", "body.html": "{% for %}"}, subject="subject.txt", html="body.html", text=None
    )
    with pytest.raises(Broken, match=r"Template t does not compile: body\.html, line 1: "):
        await made(rendering, broken, [{}])


async def test_more_than_is_held_at_a_time_is_handed_back(rendering: Children) -> None:
    template, rows = content("{% for i in range(n) %}{{ a }}{% endfor %}"), [{"a": "x" * 10_000, "n": 100}] * 20
    found = await made(rendering, template, rows)
    assert 8 <= found.done <= 10
    assert len(found.pieces) == found.done
    template = content("{{ a }}{% macro m() %}{% endmacro %}")
    one = await made(rendering, template, [{"a": "x" * 4_000_000}], "e")
    assert one.done == 1
    larger = await made(rendering, template, [{"a": "x" * 4_300_000}], "e")
    assert larger.failed == {0: "the template failed on this row: the message is larger than 4,194,304 characters"}


async def test_text_parts_are_made_of_what_is_too_large_to_be_read_here(rendering: Children) -> None:
    rows = [["<p>", body("lists in lists", 30_000), str(number), "</p>"] for number in range(3)]
    found, count = await rendering.text(LANE, segments(rows))
    assert count == 3
    texts = ["".join(part if isinstance(part, str) else part[number] for part in found) for number in range(3)]
    assert texts == [html_to_text("".join(row)) for row in rows]
    assert text_segments(segments(rows), 3) == found


async def test_a_child_whose_worker_died_while_it_started_ends_without_a_word(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with (tmp_path / "progress").open("w+b") as file:
        file.truncate(PROGRESS.size)
        command = (sys.executable, "-P", child.__file__, str(file.fileno()), "0")
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=writing, stderr=asyncio.subprocess.PIPE, pass_fds=[file.fileno()]
        )
        os.close(writing)
        _, err = await process.communicate()
    assert err == b""


async def test_it_has_nothing_of_the_workers_environment(rendering: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILER_SECRET_KEY", "a secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    child = await rendering._quick[LANE].start()
    environment = Path(f"/proc/{child._process.pid}/environ").read_bytes()
    assert b"a secret" not in environment
    assert not [one for one in environment.split(b"\0") if one.startswith((b"MAILER", b"AWS"))]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_it_ends_with_the_worker_and_with_nothing_else(how: signal.Signals) -> None:
    program = (
        "import asyncio, sys\n"
        "from worker.children import Children\n"
        "async def main():\n"
        "    children = Children()\n"
        "    child = await children._slow.start()\n"
        "    print(child._process.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=-3)
    assert worker.stdout is not None
    child = int(await worker.stdout.readline())
    for ignored in (signal.SIGINT, signal.SIGTERM):  # as a terminal and a service manager send them to all
        os.kill(child, ignored)
    await asyncio.sleep(0.2)
    assert lives(child)
    worker.send_signal(how)
    await worker.wait()
    async with asyncio.timeout(10):
        while lives(child):
            await asyncio.sleep(0.02)


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- through a worker ------------------------------------------------------------------------------------------------


async def settled(mailer: Mailer, email: Email, within: float = 30) -> str:
    id = await mailer.send(email)
    async with asyncio.timeout(within):
        while (status := await mailer.status(id)).state in ("queued", "claimed"):
            await asyncio.sleep(0.02)
    return f"{status.state}: {status.reason}"


async def test_a_large_body_gets_its_text_part_from_a_child(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    html = "<p>Hello</p>" + "<p>A line</p>" * 5_000
    assert await settled(mailer, Email(to="a@example.org", from_=FROM, subject="s", html=html)) == "sent: "
    message = ses.mailroom.get(next(iter(ses.log)).id)
    assert message is not None
    assert message.json()["text"].split() == html_to_text(html).split()
    assert message.json()["html"] == html


async def test_a_campaign_of_macros_and_nested_loops_is_sent_whole(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    html = "{% macro m(x) %}<b>{{ x }}</b>{% endmacro %}{% for a in lists %}{% for b in a %}{{ m(b) }}{% endfor %}{% endfor %}"
    rows = [{"email": f"u{i}@example.org", "lists": [[i], [i, i]]} for i in range(120)]
    id = await mailer.start_campaign(Campaign(from_=FROM, subject="{{ lists[0][0] }}", html=html), rows)
    assert (await mailer.wait(id, every_s=0.05)).counts == {"sent": 120}
    found = {entry.recipients[0]: ses.mailroom.get(entry.id) for entry in ses.log}
    for i in (0, 57, 119):
        message = found[f"u{i}@example.org"]
        assert message is not None
        assert (message.json()["subject"], message.json()["html"]) == (str(i), f"<b>{i}</b>" * 3)
        assert message.json()["text"].strip() == str(i) * 3


@pytest.mark.parametrize("name", ["links that are looked for", "numbers that are read"])
async def test_a_campaign_stops_where_its_template_is_too_slow_for_everybody(
    impatient: None, runtime: Runtime, ses: Simulator, mailer: Mailer, name: str
) -> None:
    source = hostile.SLOW[name]
    rows = [{"email": f"u{i}@example.org"} for i in range(200)]
    id = await mailer.start_campaign(Campaign(from_=FROM, subject="s", html=source), rows)
    async with asyncio.timeout(60):
        while (status := await mailer.campaign(id)).state != "stopped":
            await asyncio.sleep(0.1)
    assert "recipients in a row failed, and each took long: the template " in status.reason
    assert status.counts["queued"] >= 100


async def test_a_stored_template_with_blocks_is_looked_at_by_a_child(runtime: Runtime, ses: Simulator, mailer: Mailer) -> None:
    nested = "{{#each a}}{{#each ../a}}{{x}}{{/each}}{{/each}}"
    stored = {"Subject": "s", "Html": nested, "Text": "t"}
    create_email_template(ses, {"TemplateName": "nested", "TemplateContent": stored})
    email = Email(to="a@example.org", from_=FROM, ses_template="nested", data={"a": [{"x": 1}, {"x": 2}]})
    assert (await settled(mailer, email)).startswith("sent")
    lacks = email.model_copy(update={"data": {"a": [{"y": 1}]}})
    assert await settled(mailer, lacks) == "failed: the template nested uses 'x', which this row does not have"


async def test_an_application_does_not_render_what_could_take_long(mailer: Mailer) -> None:
    """It compiles and checks at the call; with a missing variable it is refused there, also where nothing is rendered."""
    started = time.thread_time()
    for source in (*hostile.SLOW.values(), *hostile.STEPS.values(), *hostile.MEMORY.values()):
        await mailer.send(Email(to="a@example.org", from_=FROM, subject="s", html=source, data=hostile.DATA))
    assert time.thread_time() - started < 5
    macro = "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(1) }}{{ nmae }}"
    with pytest.raises(RenderFailed, match="'nmae'"):
        await mailer.send(Email(to="a@example.org", from_=FROM, subject="s", html=macro, data={"name": "Ana"}))
