"""SendBulkEmail: up to fifty messages in one call, that share everything outside their data, headers and tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from ..ledger.spec import Spec
from ..message.email import Mode
from .limits import MAX_DATA_CHARS, MAX_INLINE_REQUEST
from .request import Call, Item, Loaded, Operation, destination, envelope, header_list, tag_list
from .template import add_extras, contents


def bulk_call(spec: Spec, items: Sequence[Item], files: Sequence[Loaded], most_text: int | None = None) -> Call | None:
    """The call for these messages, or None where it would be too large. Raises TextElsewhere."""
    content, data = contents(spec, items, most_text)
    if max(map(len, data)) > MAX_DATA_CHARS:
        return None
    # The data of each entry is whole: how SES merges it with the default's is not documented (nor how it does tags).
    content["TemplateData"] = "{}"
    add_extras(content, spec, files)
    common = tag_list(spec.tags)
    params = {
        **envelope(spec),
        "DefaultContent": {"Template": content},
        "BulkEmailEntries": [_entry(spec, item, values, common) for item, values in zip(items, data, strict=True)],
    }
    body = orjson.dumps(params)
    # A stored template is not part of the request, and so its attachments alone may fill what SES takes of a message.
    size = len(body) if spec.ses_template is None else len(body) - sum(len(loaded.base64) for loaded in files)
    if size > MAX_INLINE_REQUEST:
        return None
    return Call(operation=Operation.SEND_BULK_EMAIL, mode=Mode.BULK, params=params, body=body, items=items)


def _entry(spec: Spec, item: Item, values: str, common: list[dict[str, str]]) -> dict[str, Any]:
    entry = {
        "Destination": destination(item),
        "ReplacementTags": [
            {"Name": "mailer_id", "Value": item.tag},
            *(tag_list({**spec.tags, **item.tags}) if item.tags else common),
        ],
        "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": values}},
    }
    if item.headers:
        entry["ReplacementHeaders"] = header_list(item.headers)
    return entry
