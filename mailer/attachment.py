"""Attachment: a file that goes with a message, or an image inside it."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from .checks import Model, OneLine, explain_validation
from .errors import InvalidEmail

MAX_NAME = 255  # characters of a file name, SES v2 model
MAX_DESCRIPTION = 1000  # characters, SES v2 model
MAX_CONTENT_ID = 78  # characters, SES v2 model
MAX_CONTENT_TYPE = 255  # characters; SES v2 takes 78 in a structured call, and what is longer goes as MIME
DEFAULT_TYPE = "application/octet-stream"

# What SES refuses to send: developer guide, "Unsupported attachment types".
_BLOCKED = """
    ade adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib lnk mad
    maf mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml msh2xml msi msp mst
    ops pcd pif plg prf prg reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp url vb vbe vbs vps vsmacros
    vss vst vsw vxd ws wsc wsf wsh xnk
"""
BLOCKED_EXTENSIONS = frozenset(_BLOCKED.split())
_ATOM = r"[A-Za-z0-9!#$&^_.+-]+"  # of a type, subtype and parameter (RFC 2045 5.1, RFC 6838 4.2)
_CONTENT_TYPE = re.compile(rf'{_ATOM}/{_ATOM}(\s*;\s*{_ATOM}=({_ATOM}|"[^"\\]*"))*')


def check_file_name(name: str) -> str:
    """Raises ValueError for a file that SES does not take."""
    extension = name.lower().rpartition(".")[2] if "." in name else ""
    if extension in BLOCKED_EXTENSIONS:
        raise ValueError(f"{name!r} cannot be attached: SES refuses .{extension} files; send a link, or the file in a .zip")
    return name


def _content_type(value: str) -> str:
    if not value.isascii() or not _CONTENT_TYPE.fullmatch(value):
        raise ValueError(f"{value!r} is no content type, as application/pdf is one")
    if value.lower().startswith("multipart/"):
        raise ValueError("a multipart is not one file; give the whole message as `raw`")
    return value


class Attachment(Model):
    """One file. With `content_id` it is shown inside the HTML, by `<img src="cid:…">`; then `inline` is true by itself."""

    name: Annotated[OneLine, Field(min_length=1, max_length=MAX_NAME), AfterValidator(check_file_name)]
    content: bytes = Field(repr=False)
    content_type: Annotated[OneLine, Field(max_length=MAX_CONTENT_TYPE), AfterValidator(_content_type)] = DEFAULT_TYPE
    content_id: str | None = Field(None, pattern=r"^[!-;=?-~]{1,78}$")  # without the angle brackets
    description: Annotated[OneLine, Field(min_length=1, max_length=MAX_DESCRIPTION)] | None = None
    inline: bool = False

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise InvalidEmail(field="Attachment", why=explain_validation(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, fields: Any) -> Any:
        if isinstance(fields, dict):
            fields = dict(fields)
            if fields.get("content_type") is None:
                fields["content_type"] = mimetypes.guess_type(str(fields.get("name", "")))[0] or DEFAULT_TYPE
            if "inline" not in fields:
                fields["inline"] = fields.get("content_id") is not None
        return fields

    @classmethod
    def from_path(cls, path: str | Path, **fields: Any) -> Attachment:
        """The file under its own name, its type guessed by that. Raises InvalidEmail where it cannot be read."""
        file = Path(path)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InvalidEmail(field="Attachment", why=f"{file} cannot be read: {error.strerror}") from None
        return cls(**{"name": file.name, "content": content, **fields})
