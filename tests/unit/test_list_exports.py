"""What the programs export in which lists are kept is read without being edited first (tests/lists has a file of each)."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailer.recipients import Recipient, Role, open_recipients

LISTS = Path(__file__).parents[1] / "lists"
# The column of addresses, the encoding, and a variable of the first person.
EXPORTS = {
    "mailchimp-subscribed.csv": ("Email Address", "UTF-8", "Last Name", "Álvarez"),
    "hubspot-contacts.csv": ("Email", "UTF-8", "Last Name", "Álvarez"),
    "salesforce-report.csv": ("Email", "UTF-8", "Mailing Street", "12 Long Street\nSpringfield"),
    "excel-german.csv": ("E-Mail", "Windows-1252", "Straße", 'Weg "A"'),
    "excel-english.csv": ("Email Address", "Windows-1252", "City", "Málaga, ES"),
    "excel-unicode-text.txt": ("E-Mail", "UTF-16", "Ort", "Łódź\nPolska"),
    "excel-csv-utf8.csv": ("E-Mail", "UTF-8", "Vorname", "Łucja"),
    "excel-sep.csv": ("email", "UTF-8", "name", "Ana"),
    "google-sheets.csv": ("Email Address", "UTF-8", "Anything else?", "two\nlines"),
    "numbers.csv": ("E-Mail", "UTF-8", "Name", "Ana"),
    "outlook-english.csv": ("E-mail Address", "UTF-8", "First Name", "Ana"),
    "outlook-german.csv": ("E-Mail-Adresse", "Windows-1252", "Nachname", "Müller"),
    "thunderbird.csv": ("Primary Email", "UTF-8", "Display Name", "Ana Álvarez"),
    "brevo.csv": ("EMAIL", "UTF-8", "LASTNAME", "Álvarez"),
}
FOOTER = 5  # lines below the rows of a Salesforce report


def test_each_file_is_tried() -> None:
    assert {path.name for path in LISTS.iterdir() if not path.name.startswith(".")} == EXPORTS.keys()


@pytest.mark.parametrize("name", EXPORTS)
async def test_an_export_is_read_as_it_is(name: str) -> None:
    column, encoding, variable, value = EXPORTS[name]
    async with open_recipients(LISTS / name) as recipients:
        rows = [row async for batch in recipients for row in batch if isinstance(row, Recipient)]
        found = recipients.understood
    assert [row.address for row in rows] == ["ana@example.org", "bo@example.org"]
    assert all(row.cc == row.bcc == () and row.tags == {} for row in rows)
    assert rows[0].data[variable] == value
    assert (found.named(Role.ADDRESS), found.encoding) == ((column,), encoding)
    assert found.rejected == (FOOTER if name.startswith("salesforce") else 0)
