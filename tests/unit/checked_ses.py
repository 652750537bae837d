"""A simulator that checks its answers and refusals against botocore's SES v2 model, and requests to give it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import botocore.loaders
import pytest
from botocore.model import ServiceModel, Shape

from mailer.simulator import Simulator, SimulatorConfig
from mailer.simulator.operations import OPERATIONS, Operation
from mailer.simulator.refusals import Refusal

NEWEST = os.environ.get("NEWEST_BOTOCORE")  # a folder with a botocore beside the pinned one: `pip install --target`


def load_model(folder: str | None) -> ServiceModel:
    """SES v2 as the botocore of that folder has it, or the pinned one."""
    paths = [f"{folder}/botocore/data"] if folder else []
    loader = botocore.loaders.Loader(extra_search_paths=paths, include_default_search_paths=not folder)
    return ServiceModel(loader.load_service_model("sesv2", "service-2"), "sesv2")


MODEL = load_model(NEWEST)
NEWER = {  # what the simulator answers and the pinned model does not have yet
    "SuppressedDestination": {"TenantName"},
    "PutSuppressedDestination": {"NotFoundException"},
    "ListSuppressedDestinations": {"NotFoundException"},
}
# AWS's common errors, which no operation declares.
COMMON = {
    "AccessDeniedException",
    "SerializationException",
    "ThrottlingException",
    "RequestEntityTooLargeException",
    "InternalFailure",
}
Json = dict[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "double": (float, int),
    "integer": (int,),
    "long": (int,),
    "timestamp": (float, int),
}


def conforms(value: Any, shape: Shape, where: str = "answer") -> None:
    """botocore drops members that it does not know and fills in none that are missing, so its parser alone proves little."""
    if shape.type_name == "structure":
        members: Mapping[str, Shape] = shape.members
        assert value.keys() - NEWER.get(shape.name, set()) <= members.keys(), where
        assert set(shape.required_members) <= value.keys(), where
        for name, item in value.items():
            if name in members:
                conforms(item, members[name], f"{where}.{name}")
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            conforms(item, shape.member, f"{where}[{index}]")
    elif shape.type_name == "map":
        for item in value.values():
            conforms(item, shape.value, where)
    else:
        assert isinstance(value, _TYPES[shape.type_name]), where
        if getattr(shape, "enum", None):
            assert value in shape.enum, where


class Clock:
    now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


class Checked(Simulator):
    """Checks every answer and every refusal against the model."""

    clock: Clock

    def do(self, name: str, body: Json | None = None, label: str = "", query: str = "") -> Json:
        operation = BY_NAME[name]
        raw = b"" if body is None else json.dumps(body, default=_base64).encode()
        try:
            answer = json.loads(json.dumps(self.call(operation, raw, label, query, self.faults.on_call(name))))
        except Refusal as refusal:
            declared_by(name, refusal)
            raise
        conforms(answer, MODEL.operation_model(name).output_shape)
        return dict(answer)


def declared_by(name: str, refusal: Refusal) -> None:
    declared = {shape.name: shape for shape in MODEL.operation_model(name).error_shapes}
    others = COMMON | NEWER.get(name, set())
    assert refusal.code in declared or refusal.code in others, f"{name} does not answer {refusal.code}"
    if refusal.code in declared:
        assert refusal.http_status == declared[refusal.code].metadata["error"]["httpStatusCode"]


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


BY_NAME: dict[str, Operation] = {operation.name: operation for operation in OPERATIONS}


def simulator(**changes: Any) -> Checked:
    clock = Clock()
    made = Checked(SimulatorConfig(clock=clock, monotonic=clock, **changes))
    made.clock = clock
    return made


def simple(**changes: Any) -> Json:
    body = {
        "FromEmailAddress": "News <news@example.com>",
        "Destination": {"ToAddresses": ["ana@example.org"]},
        "Content": {"Simple": {"Subject": {"Data": "Hi"}, "Body": {"Text": {"Data": "Hello"}}}},
    }
    return {**body, **changes}


def with_simple(**changes: Any) -> Json:
    return simple(Content={"Simple": {**simple()["Content"]["Simple"], **changes}})


def with_header(name: str, value: str) -> Json:
    return with_simple(Headers=[{"Name": name, "Value": value}])


def with_file(**changes: Any) -> Json:
    return with_simple(Attachments=[{"FileName": "a.pdf", "RawContent": b"1234", **changes}])


def to(*addresses: str) -> Json:
    return simple(Destination={"ToAddresses": list(addresses)})


def tagged(name: str, value: str) -> Json:
    return simple(EmailTags=[{"Name": name, "Value": value}])


def raw(mime: bytes, **changes: Any) -> Json:
    return {"Content": {"Raw": {"Data": mime}}, **changes}


def entry(to: str | list[str] = "ana@example.org", data: Json | None = None, **more: Any) -> Json:
    content = {"ReplacementTemplate": {"ReplacementTemplateData": json.dumps(data or {})}}
    return {"Destination": {"ToAddresses": [to] if isinstance(to, str) else to}, "ReplacementEmailContent": content, **more}


INLINE = {
    "TemplateContent": {"Subject": "Hi {{name}}", "Html": "<p>{{name}}", "Text": "{{name}}"},
    "TemplateData": '{"name": "you"}',
}


def bulk(*entries: Json, template: Json | None = None, **changes: Any) -> Json:
    body = {
        "FromEmailAddress": "news@example.com",
        "DefaultContent": {"Template": INLINE if template is None else template},
        "BulkEmailEntries": list(entries),
    }
    return {**body, **changes}


def statuses(answer: Json) -> list[str]:
    return [result["Status"] for result in answer["BulkEmailEntryResults"]]


def refused(act: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value.code, caught.value.text
