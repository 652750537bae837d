"""Which limits the requests come close to. SES tells of a limit only when it is passed, and then by losing the message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any, NamedTuple

from ..ledger.spec import Spec
from ..message.address import MAX_LEN
from ..message.attachment import MAX_CONTENT_ID, MAX_CONTENT_TYPE, MAX_DESCRIPTION, MAX_NAME
from ..message.checks import MAX_ADDRESS, MAX_HEADER_VALUE, MAX_HEADERS, MAX_RECIPIENTS, MAX_TAG_LEN
from ..message.email import Mode
from ..message.mime import MAX_LINE
from .limits import (
    MAX_DATA_CHARS,
    MAX_ENTRIES,
    MAX_INLINE_REQUEST,
    MAX_MESSAGE,
    MAX_STRUCTURED_HEADERS,
    MAX_STRUCTURED_TYPE,
    MAX_STRUCTURED_VALUE,
)
from .request import Call, Loaded, Mime, attached_size, merged, message_size

TENTHS = 9  # of a limit, past which it is named
MAX_SES_NAME = 64  # characters of the name of a configuration set, tenant, contact list, topic or template, SES v2 model
MAX_HEADER_NAME = 126  # characters, SES v2 model


class Near(NamedTuple):
    """A limit of which more than nine tenths are used."""

    name: str
    used: int
    limit: int
    unit: str


@dataclass(frozen=True, slots=True)
class _Calls:
    spec: Spec
    calls: Sequence[Call]
    files: Sequence[Loaded]

    @property
    def raw(self) -> bool:
        return self.calls[0].mode is Mode.RAW

    def measures(self) -> Iterator[Near]:
        """Everything that has a limit, close to it or not."""
        yield from self._addresses()
        yield from self._tags()
        yield from self._names()
        yield from self._headers()
        yield from self._attachments()
        for call in self.calls:
            yield from self._size(call)

    def _addresses(self) -> Iterator[Near]:
        spec, items = self.spec, [item for call in self.calls for item in call.items]
        yield Near("recipients of a message", max(item.recipients for item in items), MAX_RECIPIENTS, "addresses")
        ours = [spec.from_address, *spec.reply_to, *([spec.feedback_address] if spec.feedback_address else [])]
        for address in [*ours, *(address for item in items for address in (*item.to, *item.cc, *item.bcc))]:
            yield Near("address with its name", len(address), MAX_ADDRESS, "characters")
            yield Near("address", len(parseaddr(address)[1]), MAX_LEN, "characters")

    def _tags(self) -> Iterator[Near]:
        sets = [self.spec.tags, *(item.tags for call in self.calls for item in call.items)]
        for name, value in ((name, value) for tags in sets for name, value in tags.items()):
            yield Near("name of a tag", len(name), MAX_TAG_LEN, "characters")
            yield Near(f"value of tag {name}", len(value), MAX_TAG_LEN, "characters")

    def _names(self) -> Iterator[Near]:
        spec = self.spec
        for what, name in (
            ("configuration set", spec.configuration_set),
            ("tenant", spec.tenant),
            ("contact list", spec.contact_list),
            ("topic", spec.topic),
            ("SES template", spec.ses_template and spec.ses_template.rpartition("/")[2]),
        ):
            yield Near(f"name of the {what}", len(name or ""), MAX_SES_NAME, "characters")

    def _headers(self) -> Iterator[Near]:
        item = self.calls[0].items[0]
        if isinstance(item.content, Mime):
            return
        most, longest = (MAX_HEADERS, MAX_HEADER_VALUE) if self.raw else (MAX_STRUCTURED_HEADERS, MAX_STRUCTURED_VALUE)
        yield Near("headers", len(merged(self.spec.headers, item.headers)), most, "headers")
        for call in self.calls:
            for one in call.items:
                for name, value in merged(self.spec.headers, one.headers).items():
                    yield Near("name of a header", len(name), MAX_HEADER_NAME, "characters")
                    yield Near(f"value of header {name}", len(value), longest, "characters")

    def _attachments(self) -> Iterator[Near]:
        for loaded in self.files:
            file = loaded.file
            kind = MAX_CONTENT_TYPE if self.raw else MAX_STRUCTURED_TYPE
            yield Near("name of an attachment", len(file.name), MAX_NAME, "characters")
            yield Near("content type of an attachment", len(file.content_type), kind, "characters")
            yield Near("content id of an attachment", len(file.content_id or ""), MAX_CONTENT_ID, "characters")
            yield Near("description of an attachment", len(file.description or ""), MAX_DESCRIPTION, "characters")

    def _size(self, call: Call) -> Iterator[Near]:
        attached = attached_size(self.files)
        if call.mode is Mode.BULK:
            yield Near("entries of a call", len(call.items), MAX_ENTRIES, "entries")
        if call.mode is Mode.RAW:
            data = call.params["Content"]["Raw"]["Data"]
            yield Near("message", len(data), MAX_MESSAGE, "bytes in base64")
            for item in call.items:
                if isinstance(item.content, Mime):
                    yield Near("line of the message", max(map(len, item.content.data.split(b"\r\n"))), MAX_LINE, "characters")
            return
        if call.mode is Mode.SIMPLE:
            yield Near("message", message_size(call.params["Content"]["Simple"], self.files), MAX_MESSAGE, "bytes in base64")
            return
        yield Near("message", attached, MAX_MESSAGE, "bytes in base64")
        yield Near("template data", max(map(len, _data(call.params))), MAX_DATA_CHARS, "characters")
        size = len(call.body) if self.spec.ses_template is None else len(call.body) - attached
        if call.mode is Mode.BULK or self.spec.ses_template is None:
            yield Near("request", size, MAX_INLINE_REQUEST, "bytes")


def _data(params: dict[str, Any]) -> list[str]:
    """The template data of each message of the call."""
    if "Content" in params:
        return [params["Content"]["Template"]["TemplateData"]]
    contents = (entry["ReplacementEmailContent"]["ReplacementTemplate"] for entry in params["BulkEmailEntries"])
    return [content["ReplacementTemplateData"] for content in contents]


def near_limits(spec: Spec, calls: Sequence[Call], files: Sequence[Loaded]) -> tuple[Near, ...]:
    """The limits that are closer than 10 %, each once, by what comes closest to it."""
    return tuple(
        _fullest(measure for measure in _Calls(spec, calls, files).measures() if measure.used * 10 > measure.limit * TENTHS)
    )


def _fullest(measures: Iterable[Near]) -> Iterable[Near]:
    found: dict[str, Near] = {}
    for measure in measures:
        if measure.name not in found or measure.used > found[measure.name].used:
            found[measure.name] = measure
    return found.values()
