"""What other programs export is sent as it is: one campaign a file, and each person gets one message, with the name in it."""

from __future__ import annotations

from collections import Counter
from email.utils import parseaddr

import pytest

from mailer import Campaign, Mailer
from mailer.simulator import Simulator
from worker.runtime import Runtime

from ..unit.test_list_exports import EXPORTS, FOOTER, LISTS
from .test_delivery import FROM, finished

# The variable that a template writes for it, and the values of both people.
NAMES = {
    "mailchimp-subscribed.csv": ("first_name", "Ana", "Bo"),
    "hubspot-contacts.csv": ("first_name", "Ana", "Bo"),
    "salesforce-report.csv": ("first_name", "Ana", "Bo"),
    "excel-german.csv": ("Vorname", "Jörg", "Zoé"),
    "excel-english.csv": ("Name", "José", "Bo"),
    "excel-unicode-text.txt": ("Vorname", "Łucja", "Jörg"),
    "excel-csv-utf8.csv": ("Vorname", "Łucja", "Jörg"),
    "excel-sep.csv": ("name", "Ana", "Bo"),
    "google-sheets.csv": ("your_name", "Ana", "Bo"),
    "numbers.csv": ("Name", "Ana", "Bo"),
    "outlook-english.csv": ("first_name", "Ana", "Bo"),
    "outlook-german.csv": ("Vorname", "Jörg", "Bo"),
    "thunderbird.csv": ("first_name", "Ana", "Bo"),
    "brevo.csv": ("FIRSTNAME", "Ana", "Bo"),
}


def test_each_file_is_sent() -> None:
    assert NAMES.keys() == EXPORTS.keys()


@pytest.mark.parametrize("name", NAMES)
async def test_an_export_is_sent_as_it_is(runtime: Runtime, ses: Simulator, mailer: Mailer, name: str) -> None:
    variable, ana, bo = NAMES[name]
    campaign = Campaign(from_=FROM, subject=f"Hello {{{{ {variable} }}}}", text=f"Dear {{{{ {variable} }}}}!")
    status = await finished(mailer, await mailer.start_campaign(campaign, LISTS / name))
    assert status.counts == {"sent": 2} | ({"rejected": FOOTER} if name.startswith("salesforce") else {})
    got = Counter(
        (parseaddr(to)[1], (message.content.show().text or "").strip()) for message in ses.mailroom for to in message.to
    )
    assert got == {("ana@example.org", f"Dear {ana}!"): 1, ("bo@example.org", f"Dear {bo}!"): 1}
    assert Counter(address for entry in ses.log for address in entry.recipients).total() == 2


@pytest.mark.parametrize("name", ["mailchimp-subscribed.csv", "google-sheets.csv"])
async def test_a_name_that_is_no_word_is_reached_by_row(runtime: Runtime, ses: Simulator, mailer: Mailer, name: str) -> None:
    column = {"m": "First Name", "g": "Your name"}[name[0]]
    campaign = Campaign(from_=FROM, subject="Hello", text=f'Dear {{{{ row["{column}"] }}}}!')
    status = await finished(mailer, await mailer.start_campaign(campaign, LISTS / name))
    assert status.counts == {"sent": 2}
    assert {(message.content.show().text or "").strip() for message in ses.mailroom} == {"Dear Ana!", "Dear Bo!"}
