"""The sample that is shipped: a list as real lists are, and the templates for it.

The list has what goes wrong in practice: a byte order mark, quoted commas and line breaks, names in many scripts and with
markup in them, people who are on it twice, addresses that are none, two addresses in one cell, and a row with a field too many.
Six of its addresses are of SES's mailbox simulator: five bounce, and one complains.
"""

from pathlib import Path
from typing import Final

SAMPLE: Final = Path(__file__).parent
RECIPIENTS: Final = SAMPLE / "recipients.csv"  # columns email, name, city (sometimes empty), plan (free, plus or team)
TEMPLATES: Final = SAMPLE / "templates"  # `newsletter` for the list, `welcome` for one message; both use name, city and plan
