"""Words of the command line → what the models take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from ..errors import ConfigError, InvalidEmail


def parse_data(text: str | None) -> dict[str, Any] | None:
    """`--data`. Raises InvalidEmail."""
    if text is None:
        return None
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidEmail(field="--data", why=f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidEmail(field="--data", why='must be a JSON object, like {"name": "Ana"}')
    return data


def parse_pairs(values: list[str] | None, separator: str, option: str) -> dict[str, str]:
    """`--header 'N: V'` and `--tag k=v`. Raises InvalidEmail."""
    pairs: dict[str, str] = {}
    for value in values or []:
        name, found, text = value.partition(separator)
        name = name.strip()
        if not found or not name:
            raise InvalidEmail(field=option, why=f"{value!r} must be name{separator}value")
        if name in pairs:
            raise InvalidEmail(field=option, why=f"{name!r} is given twice")
        pairs[name] = text.strip(" ")
    return pairs


def read_text(path: Path | None, option: str) -> str | None:
    """`--html-file` and `--text-file`. Raises ConfigError."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(where=option, why=f"{path} is not UTF-8") from None
    except OSError as error:
        raise ConfigError(where=option, why=f"{path} cannot be read: {error.strerror}") from None
