"""What lists call their columns: one set of names for recipients and for suppression, and the names that templates can use."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

MAX_COLUMN: Final = 80  # characters of a name in a sentence
MAX_VARIABLE: Final = 200  # characters of a name that a template uses

RESERVED: Final = frozenset(("email", "cc", "bcc", "tags"))  # what a row may carry besides its template variables
SEND_AT: Final = "send_at"


def squeezed(name: str) -> str:
    """A name without what programs write differently: capitals, accents, blanks, hyphens. `E-Mail Address` → `emailaddress`."""
    return "".join(one for one in unicodedata.normalize("NFKD", name).casefold() if one.isalnum())


# As exports of Mailchimp, HubSpot, Salesforce, Brevo, SendGrid, Postmark, Google, Outlook, Thunderbird and Excel have them.
_ADDRESSES = """
    email address, email addresses, emails, email addr, e-mail id, mail, mail address, e-mail 1 - value, contact email,
    contact email address, primary email, primary e-mail address, email (primary), subscriber email, customer email, user email,
    member email, recipient email, email recipient, your email, your email address, work email, business email, personal email,
    internet e-mail, email 1, e-mail 1,
    E-Mail-Adresse, E-Mail-Adressen, Mailadresse, Primäre E-Mail-Adresse, E-Mail (privat), E-Mail (geschäftlich),
    Adresse e-mail, Adresse email, Adresse mail, Adresse électronique, Adresse de messagerie, Courriel, Adresse courriel, Mél,
    Correo electrónico, Dirección de correo electrónico, Dirección de correo, Correo, Dirección de email,
    Endereço de e-mail, Endereço de correio eletrónico, Endereço de correio eletrônico, Correio eletrónico,
    Indirizzo e-mail, Indirizzo email, Indirizzo di posta elettronica, Posta elettronica, Indirizzo mail,
    E-mailadres, Mailadres, E-mailadresse, Mailadresse, E-postadress, E-postadresse, E-post, Epost, Sähköposti, Sähköpostiosoite,
    Adres e-mail, Adres email, Adres poczty elektronicznej, Poczta elektroniczna, E-mailová adresa, E-mail cím, Adresă de e-mail,
    E-posta, E-posta adresi, E-naslov, Elektronski naslov, El. paštas, E-pasts, Ηλεκτρονικό ταχυδρομείο,
    Электронная почта, Адрес электронной почты, Эл. почта, Почта, Електронна пошта, Електронна адреса,
    メールアドレス, Eメール, Eメールアドレス, 電子メール, 電子メール アドレス, 電子邮件, 电子邮件, 电子邮件地址, 邮箱, 电子邮箱,
    邮箱地址, 電子郵件地址, 이메일, 이메일 주소, 전자 메일, 전자 메일 주소, البريد الإلكتروني, דוא"ל, אימייל
"""
_KNOWN: Final = frozenset(squeezed(name) for name in _ADDRESSES.split(","))
# What a column of addresses is called as well as one of streets or names: taken only where the first row has an address in it.
_PERHAPS: Final = frozenset(
    map(squeezed, ("address", "recipient", "to", "contact", "user", "username", "login", "subscriber", "member"))
)


def rank(name: str) -> int | None:
    """How surely a column of that name holds the addresses: 0 is `email`, 1 another word for it, 2 perhaps, None not at all."""
    word = squeezed(name[:MAX_COLUMN])
    if word == "email":
        return 0
    return 1 if word in _KNOWN else 2 if word in _PERHAPS else None


def near_email(names: Iterable[str]) -> str | None:
    """The name that is likely a slip of the pen for one of a column of addresses, as `emial` is; None where none is."""
    words = {squeezed(name[:MAX_COLUMN]): name for name in names if name}
    for word, name in words.items():
        if get_close_matches(word, ("email", "emailaddress"), 1, 0.8):
            return name
    return None


def looks_like_names(names: Sequence[str]) -> bool:
    """Whether a line is likely the header row of a list: two names or more, that begin with a letter and are not long.

    Only then is it shown in an error: a path that somebody typed may lead to a file that is nobody's business.
    """
    filled = [name for name in names if name]
    return len(filled) > 1 and all(_NAME.fullmatch(name) for name in filled)


_NAME = re.compile(rf"[^\W\d_][\w .()/'’#&:?+-]{{0,{MAX_COLUMN}}}")


def variable(name: str) -> str:
    """What a template calls a column: its name where that is an identifier, else as in `First Name` → `first_name`.

    "" where nothing of it is left, or where it is too long for a name.
    """
    if len(name) > MAX_VARIABLE:
        return ""
    if name.isidentifier():
        return name
    word = re.sub(r"\W+", "_", name.strip().lower()).strip("_")
    word = f"_{word}" if word[:1].isdigit() else word
    return word if word.isidentifier() else ""


def listed(names: Iterable[str]) -> str:
    """Names of columns as a sentence has them."""
    return ", ".join(f"`{name[:MAX_COLUMN]}`" for name in names)
