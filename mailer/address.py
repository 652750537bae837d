"""Addresses: checked by email-validator, normalised for SES (ASCII local part kept, domain lower-case and Punycode)."""

from __future__ import annotations

from email_validator import EmailNotValidError, validate_email

from .errors import InvalidAddress


def normalise(text: str) -> str:
    """The address as it is sent to SES. Raises InvalidAddress with half a sentence that says why."""
    try:
        result = validate_email(text.strip(), check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError as error:
        raise InvalidAddress(why=str(error)) from None
    return f"{result.local_part}@{result.ascii_domain}"
