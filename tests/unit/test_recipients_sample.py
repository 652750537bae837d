"""The shipped sample is what its docstring says, and its templates take every row of it."""

from __future__ import annotations

from collections import Counter

from jinja2 import FileSystemLoader, StrictUndefined, select_autoescape
from jinja2.sandbox import SandboxedEnvironment

from mailer.cli.stack import sample_campaign
from mailer.message.email import Outcome
from mailer.recipients import BadRow, Recipient, Row, open_recipients
from mailer.sample import RECIPIENTS, TEMPLATES
from mailer.simulator.state import MAILBOX_SIMULATOR


async def rows() -> list[Row]:
    async with open_recipients(RECIPIENTS) as recipients:
        return [row async for batch in recipients for row in batch]


def environment() -> SandboxedEnvironment:
    return SandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(["html"]), undefined=StrictUndefined
    )


async def test_the_list_has_what_real_lists_have() -> None:
    all_rows = await rows()
    good = [row for row in all_rows if isinstance(row, Recipient)]
    bad = [row for row in all_rows if isinstance(row, BadRow)]
    assert len(all_rows) >= 1200
    assert [row.row for row in all_rows] == list(range(1, len(all_rows) + 1))
    assert Counter(row.outcome for row in bad) == {Outcome.DUPLICATE: 15, Outcome.REJECTED: 11}
    assert any("has 5 fields" in row.reason for row in bad)
    assert any("two addresses in one cell" in row.reason for row in bad)
    names, cities = "".join(row.data["name"] for row in good), "".join(row.data["city"] for row in good)
    assert all(mark in names for mark in ("é", "ł", "王", "サ" if "サ" in names else "佐", "김", "'", "<b>", "&", '"', ","))
    assert all(mark in cities for mark in ("\n", ",", '"'))
    assert all(any(mark in row.address for row in good) for mark in ("+", "xn--bcher-kva.example.com"))
    assert any(row.data["city"] == "" for row in good)
    assert {row.data["plan"] for row in good} == {"free", "plus", "team"}
    assert RECIPIENTS.read_bytes().startswith(b"\xef\xbb\xbfemail,name,city,plan\n")


async def test_every_domain_is_one_that_is_reserved_for_examples_or_sess_own_for_tests() -> None:
    tails = ("example.com", "example.org", "example.net", f"@{MAILBOX_SIMULATOR}")
    assert all(row.address.endswith(tails) for row in await rows() if isinstance(row, Recipient))


async def test_what_bounces_and_complains_does_not_trip_the_guard_of_the_demo_in_whatever_order_it_is_heard() -> None:
    ours = [row.address for row in await rows() if isinstance(row, Recipient) and row.address.endswith(MAILBOX_SIMULATOR)]
    kinds = Counter(address.partition("+")[0] for address in ours)
    assert kinds == {"bounce": 4, "suppressionlist": 1, "complaint": 1}
    campaign = sample_campaign()
    assert (kinds["bounce"] + kinds["suppressionlist"]) / campaign.guard_after <= campaign.max_bounce_rate
    assert kinds["complaint"] / campaign.guard_after <= campaign.max_complaint_rate


async def test_the_newsletter_takes_every_row_and_escapes_it() -> None:
    subject = environment().get_template("newsletter/subject.txt")
    body = environment().get_template("newsletter/body.html")
    for row in await rows():
        if isinstance(row, Recipient):
            assert row.data["name"] in subject.render(row.data)
            html = body.render(row.data)
            assert "<b>" not in html
            assert 3000 < len(html) < 6000
    assert not (TEMPLATES / "newsletter/body.txt").exists(), "its text part is made from the HTML"


def test_the_welcome_takes_a_name_alone() -> None:
    for name in ("subject.txt", "body.txt", "body.html"):
        template = environment().get_template(f"welcome/{name}")
        assert "Ana" in template.render(name="Ana")
        assert "Ana" in template.render(name="Ana", city="Porto", plan="plus")
