"""Addresses: checked by email-validator, normalised for SES (ASCII local part kept, domain lower-case and Punycode).

email-validator decides; it takes some 15 µs an address. Nearly every address of a real list is plain ASCII and short,
and for those one regular expression comes to the same answer in well under 1 µs (tests/unit/test_address.py compares the two).
Special names are treated as email-validator treats them: ``example``, ``example.com`` and their like pass (RFC 6761
tells applications not to single them out), ``test``, ``invalid``, ``local``, ``localhost``, ``onion`` and ``arpa`` are refused.
"""

from __future__ import annotations

import re
from typing import Final

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES

from .errors import InvalidAddress

MAX_LEN: Final = 254  # characters of an address, RFC 5321 4.5.3.1.3 less the angle brackets

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
_NOT_ASCII = "Internationalized characters before the @-sign are not supported"


def normalise(text: str) -> str:
    """The address as it is sent to SES. Raises InvalidAddress with half a sentence that says why.

    Blanks around it do not matter. Refused are display names, quoted local parts, domain literals (``[192.0.2.1]``),
    reserved domains, and local parts that are not 7-bit ASCII (SES has no SMTPUTF8).
    """
    if len(text) <= _PLAIN_LEN and _PLAIN.fullmatch(text):
        return text
    text = text.strip()
    if len(text) <= _PLAIN_LEN and text.isascii():
        lower = text.lower()  # after isascii: the lower case of the Kelvin sign is a plain k
        if _PLAIN.fullmatch(lower):
            local, _, domain = lower.partition("@")
            return lower if local in _FOLDED else f"{text[: len(local)]}@{domain}"
    return _by_library(text)


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
        raise InvalidAddress(why=f"the address has {len(text)} characters, and {MAX_LEN} are the most that there can be")
    try:
        # Each choice is spelled out, because an application can change the library's defaults for the whole process.
        result = validate_email(
            text,
            allow_smtputf8=False,
            allow_empty_local=False,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
            strict=True,  # at most 64 characters before the @-sign, as every mail server has it
            check_deliverability=False,
            test_environment=False,
            globally_deliverable=True,
        )
    except EmailNotValidError as error:
        raise InvalidAddress(why=_half_sentence(str(error))) from None
    return f"{result.local_part}@{result.ascii_domain}"


def _half_sentence(message: str) -> str:
    if _NOT_ASCII in message:
        which = message.partition(_NOT_ASCII)[2].strip(": .")
        return "Amazon SES takes only ASCII letters before the @-sign" + (f", not {which}" if which else "")
    return message[:1].lower() + message[1:].removesuffix(".").replace(". It ", "; it ")
