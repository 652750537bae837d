"""Attachments of simple and templated content: their limits, and what is kept of them.

Source: SES v2 API model, shape Attachment, and SES developer guide, "Working with email attachments".
"""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from .refusals import bad_request, constraint
from .shown import File
from .wire import required, string

_BLOCKED = """
    ade adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib lnk mad
    maf mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml msh2xml msi msp mst
    ops pcd pif plg prf prg reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp url vb vbe vbs vps vsmacros
    vss vst vsw vxd ws wsc wsf wsh xnk
"""
BLOCKED_EXTENSIONS = frozenset(_BLOCKED.split())
# Characters. The model gives no minimum for the name and the description, and an empty name is no name.
LENGTHS = {"FileName": (1, 255), "ContentDescription": (0, 1000), "ContentId": (1, 78), "ContentType": (1, 78)}
ENUMS = {
    "ContentDisposition": ("ATTACHMENT", "INLINE"),
    "ContentTransferEncoding": ("BASE64", "QUOTED_PRINTABLE", "SEVEN_BIT"),
}
_TYPES = mimetypes.MimeTypes().types_map[True]  # without the files of this machine: the same everywhere
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_ASCII = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    name: str
    content_type: str
    content: bytes
    encoded: int  # bytes that it takes in the message
    description: str | None = None
    content_id: str | None = None
    inline: bool = False
    encoding: str = "SEVEN_BIT"  # the guide's default; so binary files must name another

    def show(self) -> File:
        return File(
            name=self.name,
            content_type=self.content_type,
            content=self.content,
            content_id=self.content_id,
            inline=self.inline,
        )


def attachments(items: list[Any], where: str) -> tuple[Attachment, ...]:
    """`where` is the path of the list as SES spells it, e.g. ``content.simple.attachments``."""
    return tuple(_attachment(item, f"{where}.{index}.member") for index, item in enumerate(items, 1))


def _attachment(item: Any, where: str) -> Attachment:
    name, raw = required(item, "FileName", where), required(item, "RawContent", where)
    for key, (low, high) in LENGTHS.items():
        text = string(item, key)
        if text is not None and not low <= len(text) <= high:
            rule = f"Member must have length between {low} and {high}, inclusive"
            raise constraint(f"{where}.{key[0].lower()}{key[1:]}", rule)
    for key, allowed in ENUMS.items():
        if string(item, key) not in {None, *allowed}:
            rule = f"Member must satisfy enum value set: [{', '.join(allowed)}]"
            raise constraint(f"{where}.{key[0].lower()}{key[1:]}", rule)
    _check_characters(item)
    check_name(name)
    extension = PurePosixPath(name).suffix.lower()
    return Attachment(
        name=name,
        content_type=string(item, "ContentType") or _TYPES.get(extension, "application/octet-stream"),
        content=blob(raw, f"{where}.rawContent"),
        encoded=len(raw),
        description=string(item, "ContentDescription"),
        content_id=string(item, "ContentId"),
        inline=string(item, "ContentDisposition") == "INLINE",
        encoding=string(item, "ContentTransferEncoding") or "SEVEN_BIT",
    )


def _check_characters(item: Any) -> None:
    """All of these go into headers of the part. What SES says to such a one is not documented; that it is an error is safe."""
    for key, forbidden in (
        ("FileName", _CONTROL),
        ("ContentDescription", _CONTROL),
        ("ContentId", _NOT_ASCII),
        ("ContentType", _NOT_ASCII),
    ):
        if forbidden.search(string(item, key) or ""):
            raise bad_request(f"Illegal character in {key} <{item[key]}>.")


def check_name(name: str) -> None:
    """Raises if SES blocks attachments of that extension."""
    if name.rpartition(".")[2].lower() in BLOCKED_EXTENSIONS and "." in name:
        raise bad_request(f"Illegal filename '{name}'.")


def blob(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        raise bad_request(f"{where} is not base64") from None
