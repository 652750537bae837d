"""A template and the data for it: the part that SendEmail and SendBulkEmail have in common, and SendEmail itself.

The template is one that is stored in SES, or goes along: then what the messages of a call have in common stands in it
once, and what differs is their data (`factor.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from ..ledger.spec import Spec
from ..message.email import Mode
from ..templates.render import Pieces
from .limits import MAX_DATA_CHARS
from .request import Call, Item, Loaded, Values, attachment_list, header_list, merged, send_email
from .shared_template import Segment, Slots, segments, template, text_segments


def template_call(spec: Spec, item: Item, files: Sequence[Loaded], most_text: int | None = None) -> Call | None:
    """SendEmail with a template, or None where the data is more than SES takes. Raises TextElsewhere."""
    content, (data,) = contents(spec, [item], most_text)
    if len(data) > MAX_DATA_CHARS:
        return None
    content["TemplateData"] = data
    add_extras(content, spec, files, item)
    return send_email(Mode.TEMPLATE, spec, item, {"Template": content})


def contents(spec: Spec, items: Sequence[Item], most_text: int | None = None) -> tuple[dict[str, Any], Sequence[str]]:
    """The Template member without its extras, and the data of each message, as JSON. Raises TextElsewhere."""
    if spec.ses_template is not None:
        name = "TemplateArn" if spec.ses_template.startswith("arn:") else "TemplateName"
        return {name: spec.ses_template}, [item.content.json for item in items if isinstance(item.content, Values)]
    return _inline([item.content for item in items if isinstance(item.content, Pieces)], most_text)


def _inline(pieces: Sequence[Pieces], most_text: int | None) -> tuple[dict[str, Any], Sequence[str]]:
    slots, count = Slots(), len(pieces)
    content = {"Subject": template(segments([[one.subject] for one in pieces]), count, slots)}
    html: list[Segment] = []
    if pieces[0].html is not None:
        html = segments([one.html or [] for one in pieces])
        content["Html"] = template(html, count, slots)
    made = pieces[0].text is not None
    text = segments([one.text or [] for one in pieces]) if made else text_segments(html, count, most_text)
    if text or not html:
        content["Text"] = template(text or [], count, slots)
    names = list(slots.values)
    data = [orjson.dumps(dict(zip(names, values, strict=True))).decode() for values in zip(*slots.values.values(), strict=True)]
    return {"TemplateContent": content}, data or ["{}"] * count


def add_extras(content: dict[str, Any], spec: Spec, files: Sequence[Loaded], item: Item | None = None) -> None:
    if headers := merged(spec.headers, item.headers if item else {}):
        content["Headers"] = header_list(headers)
    if files:
        content["Attachments"] = attachment_list(files)
