"""Addresses: checked by email-validator, normalised for SES (ASCII local part kept, domain lower-case and Punycode).

email-validator decides; it takes some 15 µs an address. Nearly every address of a real list is plain ASCII and short,
and for those one regular expression comes to the same answer in well under 1 µs (tests/unit/test_address.py compares the two).
SES takes what JavaMail takes, so a quoted local part and a domain with emoji, which email-validator refuses by itself, pass here.
Special names are treated as email-validator treats them: ``example``, ``example.com`` and their like pass (RFC 6761
tells applications not to single them out), ``test``, ``invalid``, ``local``, ``localhost``, ``onion`` and ``arpa`` are refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

import idna
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES

from ..errors import InvalidAddress

MAX_LEN: Final = 254  # characters of an address, RFC 5321 4.5.3.1.3 less the angle brackets
MAX_CELL: Final = 1000  # characters of `Name <address>` in a list; what is longer is not looked at
MAX_NAME: Final = 200  # characters of a name that are kept

# Below 65 characters no limit can be broken: 64 for the local part, 63 for a label, 253 for the domain, 254 for the whole.
_PLAIN_LEN = 64
# Two hyphens in a row are left to the library, because `xn--` and its like have rules of their own.
# No possessive quantifiers: those of Python 3.11.2, which is Debian 12's, match what they should not.
_PLAIN = re.compile(
    r"[a-z0-9_!#$%&'*+\-/=?^`{|}~]+(?:\.[a-z0-9_!#$%&'*+\-/=?^`{|}~]+)*@"
    rf"(?!(?:[^@]*\.)?(?:{'|'.join(map(re.escape, SPECIAL_USE_DOMAIN_NAMES))})\Z)"
    r"(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]{2,}"
)
_FOLDED = frozenset(CASE_INSENSITIVE_MAILBOX_NAMES)  # RFC 2142: POSTMASTER@ and postmaster@ are one mailbox everywhere
# Marks that nobody sees: soft hyphens, zero-width characters, changes of direction, byte order marks.
_MARKS = "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufffc"
_MARK = re.compile(f"[{_MARKS}]")
_AROUND = "".join(one for one in map(chr, (*range(0x3001), 0xFEFF, 0xFFFC)) if one.isspace() or _MARK.match(one))
# Of a name. The joiners U+200C and U+200D stay: scripts and emoji need them.
_NOT_IN_A_NAME = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufffc]"
)
_BETWEEN = re.compile(r"[;,<>\s]+")  # two addresses
_AROUND_AN_ADDRESS = re.compile(r"[;,<>\s|\"'(){}\[\]:\\]+")  # in a line whose form is not known
_FORMULA = re.compile(r'="([^"]*)"')  # by which a spreadsheet's export keeps a cell a text
_QUOTED = re.compile(r'"[A-Za-z0-9_!#$%&\'*+\-/=?^`{|}~. ]+"')
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
_NOT_ASCII = "Internationalized characters before the @-sign are not supported"


def normalise(text: str) -> str:
    """The address as it is sent to SES. Raises InvalidAddress with half a sentence that says why.

    Blanks and invisible marks around it do not matter. Refused are display names, domain literals (``[192.0.2.1]``), reserved
    domains, and local parts that are not 7-bit ASCII (SES has no SMTPUTF8).
    """
    if len(text) <= _PLAIN_LEN and _PLAIN.fullmatch(text):
        return text
    text = stripped(text)
    if len(text) <= _PLAIN_LEN and text.isascii():
        lower = text.lower()  # after isascii: the lower case of the Kelvin sign is a plain k
        if _PLAIN.fullmatch(lower):
            local, _, domain = lower.partition("@")
            return lower if local in _FOLDED else f"{text[: len(local)]}@{domain}"
    return _by_library(text)


def cell(text: str) -> tuple[str, str]:
    """A cell of a list, ``ana@example.com`` or ``Ana <ana@example.com>`` → a name, "" where it has none, and the address.

    Raises InvalidAddress. Its time grows with the length of the text, and not faster.
    """
    if len(text) <= _PLAIN_LEN and _PLAIN.fullmatch(text):
        return "", text
    text = as_text(stripped(text))
    if len(text) > MAX_CELL:
        raise InvalidAddress(why=_too_long(text))
    text = text.rstrip(";, \t")
    if text[:7].lower() == "mailto:":
        text = text[7:]
    name, angle, address = text[:-1].rpartition("<") if text.endswith(">") else ("", "", "")
    several = sum("@" in part for part in _BETWEEN.split(text))
    if several > 1 and (not angle or ";" in text or "," in text or "<" in name):
        many = _COUNTS.get(several, str(several))
        raise InvalidAddress(why=f"there are {many} addresses in one cell; give each of them a row of its own")
    return (_name(name), normalise(address)) if angle else ("", normalise(text))


def every(text: str) -> tuple[str, ...]:
    """All addresses of a cell, each once; what stands beside them does not matter. Raises InvalidAddress where there is none."""
    try:
        return (cell(text)[1],)
    except InvalidAddress as error:
        if found := tuple(dict.fromkeys(_among(_BETWEEN.split(text)))):
            return found
        raise error


def only(text: str) -> tuple[str, ...]:
    """The one address of a text that is damaged, as a line of a list may be; none where it has none or several."""
    found = tuple(dict.fromkeys(_among(_AROUND_AN_ADDRESS.split(text))))
    return found if len(found) == 1 else ()


def _among(parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        if "@" in part:
            with suppress(InvalidAddress):
                yield cell(part.strip("()[]\"',:."))[1]


def stripped(text: str) -> str:
    """Without blanks and invisible marks at its ends."""
    return text.strip(_AROUND)  # linear, as a regular expression for the end of a text is not


def as_text(text: str) -> str:
    """`="x"`, as a spreadsheet's export may have it, → `x`; another text as it is."""
    return match[1] if text.startswith('="') and (match := _FORMULA.fullmatch(text)) else text


def _name(text: str) -> str:
    """A display name in one line, without its quotes. An address in place of a name is none."""
    text = " ".join(_NOT_IN_A_NAME.sub(" ", text).split())
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = re.sub(r"\\(.)", r"\1", text[1:-1]).strip()
    return "" if "@" in text else text[:MAX_NAME].strip()


def bare(mailbox: str) -> str:
    """``Ana <ana@example.com>``, as it was checked for SES, or ``ana@example.com`` → ``ana@example.com``."""
    return mailbox[mailbox.rindex("<") + 1 : -1] if mailbox.endswith(">") else mailbox


def identities_of(address: str) -> tuple[str, ...]:
    """The SES identities by each of which an address is verified, the most special first.

    The address itself, also without its label (`ana+label@`: developer guide, "Creating an email address identity"), its
    domain, and the domains above it but for the bare top level.
    """
    local, _, domain = bare(address).rpartition("@")
    names = [f"{local}@{domain}"]
    plain = local.partition("+")[0]
    if plain and plain != local:
        names.append(f"{plain}@{domain}")
    while "." in domain:
        names.append(domain)
        domain = domain.partition(".")[2]
    return tuple(names)


def dedup_key(address: str) -> str:
    """The form under which two normalised addresses are the same person: the whole address in lower case.

    RFC 5321 lets a host tell ``Ana@`` from ``ana@``, and hardly one does. SES itself matches its suppression list without
    regard to case. So a list that has both nearly always has one person twice, and a second copy of a campaign in the
    same mailbox is worse than one copy for two people whom only capitals tell apart.
    """
    return address.lower()


def _by_library(text: str) -> str:
    if not text:
        raise InvalidAddress(why="the address is empty")
    if len(text) > MAX_LEN:  # and before the library looks at each of a hundred thousand characters
        raise InvalidAddress(why=_too_long(text))
    if (mark := _MARK.search(text)) is not None:
        name = unicodedata.name(mark[0], f"U+{ord(mark[0]):04X}")
        raise InvalidAddress(why=f"the address has an invisible character inside: {name}")
    try:
        # Each choice is spelled out, because an application can change the library's defaults for the whole process.
        result = validate_email(
            text,
            allow_smtputf8=False,
            allow_empty_local=False,
            allow_quoted_local=True,
            allow_domain_literal=False,
            allow_display_name=False,
            strict=True,  # at most 64 characters before the @-sign, as every mail server has it
            check_deliverability=False,
            test_environment=False,
            globally_deliverable=True,
        )
    except EmailNotValidError as error:
        if (address := _with_symbols(text)) is not None:
            return address
        raise InvalidAddress(why=_half_sentence(str(error))) from None
    if result.local_part.startswith('"') and not _QUOTED.fullmatch(result.local_part):
        # What a header or a list takes for more than a part of an address is not worth the trouble that it makes there.
        raise InvalidAddress(why="a quoted part before the @-sign may have letters, digits, periods and blanks, and no brackets")
    return f"{result.local_part}@{result.ascii_domain}"


def _with_symbols(text: str) -> str | None:
    """An address with emoji in its domain, which the rules of 2008 for domain names leave out and registries have; else None.

    SES gets it in Punycode, as it gets all others. All but those labels is for the library to judge.
    """
    local, _, domain = text.rpartition("@")
    try:
        labels = idna.uts46_remap(domain, std3_rules=True, transitional=False).split(".")
        coded = [_symbols(label) for label in labels]
        if not any(coded) or coded[-1]:
            return None
        stand_in = ".".join("a" * len(code) if code else label for label, code in zip(labels, coded, strict=True))
        checked_local, _, checked_domain = _by_library(f"{local}@{stand_in}").rpartition("@")
    except (UnicodeError, InvalidAddress):
        return None
    domain = ".".join(code or label for code, label in zip(coded, checked_domain.split("."), strict=True))
    return f"{checked_local}@{domain}"


def _symbols(label: str) -> str:
    """A label of a domain that has symbols in it, in Punycode; "" where it has none, and where it is no label."""
    shown = label[4:].encode().decode("punycode") if label.startswith("xn--") else label
    if not any(unicodedata.category(one) == "So" for one in shown):
        return ""
    code = f"xn--{shown.encode('punycode').decode()}"
    others = "".join(one for one in shown if unicodedata.category(one) not in ("So", "Sk", "Cf", "Mn"))
    if (code != label and label.isascii()) or not _LABEL.fullmatch(code) or (others and not _is_label(others)):
        return ""
    return code


def _is_label(text: str) -> bool:
    try:
        return _LABEL.fullmatch(text) is not None or bool(idna.alabel(text))
    except idna.IDNAError:
        return False


def _too_long(text: str) -> str:
    return f"the address has {len(text)} characters, and {MAX_LEN} are the most that there can be"


def _half_sentence(message: str) -> str:
    if _NOT_ASCII in message:
        which = message.partition(_NOT_ASCII)[2].strip(": .")
        return "Amazon SES takes only ASCII letters before the @-sign" + (f", not {which}" if which else "")
    return message[:1].lower() + message[1:].removesuffix(".").replace(". It ", "; it ")
