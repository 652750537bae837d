"""Words of the command line → what the models take.

A value that is not written as its option wants it is WrongWords, with exit status 2; what is written well and cannot be
sent is for the models, and a file that cannot be read a ConfigError: both 1.
"""

from __future__ import annotations

import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from ..data import read
from ..errors import ConfigError, InvalidEmail, MailerError
from ..message.attachment import Attachment
from ..message.email import rate
from ..message.mime import MAX_RAW
from ..times import read_time

STDIN = "-"
_ATTACHED = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))\s*(?:;(.*))?', re.DOTALL)
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(%)?")
_PART = re.compile(r'(?:"[^"]*"|[^;])+')
_PARAMETERS = {"type": "content_type", "cid": "content_id", "filename": "name"}


class WrongWords(MailerError):
    sentence = "{option}: {why}"


def parse_data(text: str | None) -> dict[str, Any] | None:
    """`--data`. Raises WrongWords."""
    if text is None:
        return None
    try:
        data = read(text.encode(errors="surrogatepass"))
    except orjson.JSONDecodeError as error:
        raise WrongWords(option="--data", why=f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise WrongWords(option="--data", why='must be a JSON object, like {"name": "Ana"}')
    return data


def parse_pairs(values: list[str] | None, separator: str, option: str) -> dict[str, str]:
    """`--header 'N: V'` and `--tag k=v`. Raises WrongWords."""
    pairs: dict[str, str] = {}
    for value in values or []:
        name, found, text = value.partition(separator)
        name = name.strip()
        if not found or not name:
            raise WrongWords(option=option, why=f"{value!r} must be name{separator}value")
        if name in pairs:
            raise WrongWords(option=option, why=f"{name!r} is given twice")
        pairs[name] = text.strip(" ")
    return pairs


def parse_time(text: str | None, option: str) -> datetime | None:
    """`--send-at` and `--expires-at`: ISO 8601 with a zone, also by its name. Raises WrongWords."""
    if text is None:
        return None
    try:
        return read_time(text)
    except ValueError as error:
        raise WrongWords(option=option, why=str(error)) from None


def parse_share(text: str | None, option: str) -> float | None:
    """`--max-bounce-rate`: `5%`, `5 %` or `0.05`. Raises WrongWords."""
    if text is None:
        return None
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        raise WrongWords(option=option, why=f"{text!r} is not a part of a whole; write it as 5%, or as 0.05")
    share = float(match[1]) / (100 if match[2] else 1)
    if not 0 < share <= 1:
        raise WrongWords(option=option, why=f"{text!r} must be above 0% and at most 100%; write it as 5%, or as 0.05")
    return share


def parse_rate(text: str | None, option: str) -> float | None:
    """`--max-rate`. Raises WrongWords."""
    if text is None:
        return None
    try:
        return rate(float(text))
    except ValueError:
        why = f"{text!r} must be a number, at least 0.00028 (one an hour); it is in recipients per second"
        raise WrongWords(option=option, why=why) from None


def parse_attachments(values: list[str] | None) -> list[Attachment]:
    """`--attach 'FILE;type=…;cid=…;filename=…'`, in the manner of curl's -F: a FILE with a `;` in it stands in "quotes".

    Raises WrongWords, InvalidEmail, ConfigError.
    """
    return [_attachment(value) for value in values or []]


def _attachment(value: str) -> Attachment:
    match = _ATTACHED.fullmatch(value)
    if match is None:
        raise WrongWords(option="--attach", why=f"{value!r} must be FILE, or FILE;type=…;cid=…")
    quoted, bare, rest = match.groups()
    path = Path((bare or "").strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
    fields = _parameters(rest or "")
    if str(path) == ".":
        raise WrongWords(option="--attach", why=f"{value!r} names no file; write FILE, or FILE;type=…;cid=…")
    try:
        return Attachment(**dict[str, Any]({"name": path.name, "content": _read(path, "--attach"), **fields}))
    except InvalidEmail as error:
        words = {f"`{field}`": f"`{word}`" for word, field in _PARAMETERS.items()}
        why = re.sub(r"`\w+`", lambda found: words.get(found[0], found[0]), str(error.fields["why"]))
        raise InvalidEmail(field="--attach", why=why) from None


def _parameters(text: str) -> dict[str, str]:
    """`type=image/png;cid=logo` → fields. What follows a type and is not known is a parameter of the type, as in curl."""
    fields: dict[str, str] = {}
    for part in filter(str.strip, _PART.findall(text)):
        name, equals, value = (word.strip() for word in part.partition("="))
        field = _PARAMETERS.get(name.lower())
        if field in fields:
            raise WrongWords(option="--attach", why=f"{name} is given twice")
        if field is not None:
            fields[field] = value if field == "content_type" else value.strip('"<>' if field == "content_id" else '"')
        elif equals and next(reversed(fields), "") == "content_type":
            fields["content_type"] += f"; {name}={value}"
        else:
            raise WrongWords(
                option="--attach", why=f"{part.strip()!r} is not known; a file may have ;type=… ;cid=… and ;filename=…"
            )
    return fields


def read_mime(file: str | None) -> bytes | None:
    """`--raw`, of which - is standard input. Raises ConfigError."""
    if file != STDIN:
        return None if file is None else _read(Path(file), "--raw")
    if sys.stdin is None:
        raise ConfigError(where="--raw", why="standard input is closed")
    return _bounded(sys.stdin.buffer.read(MAX_RAW + 1), "standard input", "--raw")


def read_text(path: Path | None, option: str) -> str | None:
    """`--html-file` and `--text-file`. Raises ConfigError."""
    if path is None:
        return None
    try:
        return _read(path, option).decode()
    except UnicodeDecodeError:
        raise ConfigError(where=option, why=f"{path} is not UTF-8") from None


def _read(path: Path, option: str) -> bytes:
    """The file, which may be a pipe, and one without an end: no more of it is read than SES could take. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return _bounded(file.read(MAX_RAW + 1), str(path), option)
    except OSError as error:
        raise ConfigError(where=option, why=f"{path} cannot be read: {error.strerror}") from None
    except ValueError:  # of a NUL in its name
        raise ConfigError(where=option, why=f"{str(path)!r} is not the name of a file") from None


def _bounded(content: bytes, what: str, option: str) -> bytes:
    if len(content) > MAX_RAW:
        raise ConfigError(
            where=option, why=f"{what} has more than {MAX_RAW:,} bytes, which are the 40 MB that SES takes, in base64"
        )
    return content
