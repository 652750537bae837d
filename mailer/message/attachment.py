"""Attachment: a file that goes with a message, or an image inside it."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Required, TypedDict, Unpack

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from ..errors import InvalidEmail
from ..regular import open_regular
from .checks import Model, OneLine, shown, written
from .mime import MAX_RAW, check_file_name, inner_message

MAX_NAME = 255  # characters of a file name, SES v2 model
MAX_DESCRIPTION = 1000  # characters, SES v2 model
MAX_CONTENT_ID = 78  # characters, SES v2 model
MAX_CONTENT_TYPE = 255  # characters; SES v2 takes 78 in a structured call, and what is longer goes as MIME
DEFAULT_TYPE = "application/octet-stream"

_ATOM = r"[A-Za-z0-9!#$&^_.+-]+"  # of a type, subtype and parameter (RFC 2045 5.1, RFC 6838 4.2)
_CONTENT_TYPE = re.compile(rf'{_ATOM}/{_ATOM}(\s*;\s*{_ATOM}=({_ATOM}|"[^"\\]*"))*')


def _content_type(value: str) -> str:
    if not value.isascii() or not _CONTENT_TYPE.fullmatch(value):
        raise ValueError(f"{value!r} is no content type, as application/pdf is one")
    if value.lower().startswith(("multipart/", "message/")) and not is_message(value):
        raise ValueError(f"{value!r} is not one file; give the whole message as `raw`")
    return value


def is_message(content_type: str) -> bool:
    """A whole message, as an .eml file is one."""
    return content_type.partition(";")[0].strip().lower() == "message/rfc822"


def _guessed_type(name: str) -> str:
    kind, packed = mimetypes.guess_type(name)
    if packed is not None:  # a.tar.gz: the type is that of what is packed
        return f"application/{packed}" if packed == "gzip" else DEFAULT_TYPE
    return kind if kind and not kind.startswith("multipart/") else DEFAULT_TYPE


ContentId = Annotated[
    str, written(r"[!-;=?-~]{1,78}", "must have 1 to 78 visible ASCII characters, without blanks and without < and >")
]


class _Described(TypedDict, total=False):
    content_type: str | None  # None: guessed by the name
    content_id: str | None
    description: str | None
    inline: bool


class AttachmentFields(_Described, total=False):
    """What the constructor of an Attachment takes; a test holds it and the model together."""

    name: Required[str]
    content: Required[bytes | bytearray | str]


class Attachment(Model):
    """One file. With `content_id` it is shown inside the HTML, by `<img src="cid:…">`; then `inline` is true by itself."""

    name: Annotated[OneLine, AfterValidator(str.strip), Field(min_length=1, max_length=MAX_NAME), AfterValidator(check_file_name)]
    content_type: Annotated[OneLine, Field(max_length=MAX_CONTENT_TYPE), AfterValidator(_content_type)] = DEFAULT_TYPE
    content: bytes = Field(repr=False)
    content_id: ContentId | None = None
    description: Annotated[OneLine, Field(min_length=1, max_length=MAX_DESCRIPTION)] | None = None
    inline: bool = False

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[AttachmentFields]) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, fields: Any) -> Any:
        if isinstance(fields, dict):
            fields = dict(fields)
            if fields.get("content_type") is None:
                fields["content_type"] = _guessed_type(name if isinstance(name := fields.get("name"), str) else "")
            if "inline" not in fields:
                fields["inline"] = fields.get("content_id") is not None
        return fields

    @field_validator("content")
    @classmethod
    def _seven_bit(cls, content: bytes, info: ValidationInfo) -> bytes:
        return inner_message(content) if is_message(info.data.get("content_type", "")) else content

    @classmethod
    def from_path(cls, path: str | Path, *, name: str | None = None, **more: Unpack[_Described]) -> Attachment:
        """The file under its own name, its type guessed by that. Raises InvalidEmail where it cannot be read, is no regular file,
        or is larger than SES takes."""
        try:
            file = Path(path)
            opened, size = open_regular(file)
            with opened:
                content = opened.read(MAX_RAW + 1)
        except OSError as error:
            raise InvalidEmail(field="Attachment", why=f"{file} cannot be read: {error.strerror}") from None
        except (TypeError, ValueError):  # no text, or one with a NUL in it
            raise InvalidEmail(field="Attachment", why=f"{shown(path)} is not the name of a file") from None
        if len(content) > MAX_RAW:
            why = f"{file} has {max(size, len(content)):,} bytes, and SES takes {MAX_RAW:,}, which are 40 MB in base64"
            raise InvalidEmail(field="Attachment", why=why)
        return cls(name=file.name if name is None else name, content=content, **more)
