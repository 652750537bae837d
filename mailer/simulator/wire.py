"""Reading a request as the API model types it: a wrong type is a SerializationException, a missing member a validation error."""

from __future__ import annotations

from typing import Any

import orjson

from .refusals import bad_request, constraint, wrong_type

Json = dict[str, Any]


def parse(raw: bytes) -> Json:
    if not raw:
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise wrong_type("The request body") from None
    if not isinstance(body, dict):
        raise wrong_type("The request body")
    return body


def string(body: Json, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise wrong_type(name)
    return value


def boolean(body: Json, name: str, default: bool) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong_type(name)
    return default if value is None else value


def struct(body: Json, name: str) -> Json | None:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise wrong_type(name)
    return value


def array(body: Json, name: str) -> list[Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, list):
        raise wrong_type(name)
    return value or []


def required(body: Any, name: str, where: str = "") -> str:
    """A string that the model requires. `where` is the path of `body` as SES spells it."""
    if not isinstance(body, dict):
        raise wrong_type(where)
    value = string(body, name)
    if value is None:
        raise null(where, name)
    return value


def required_struct(body: Json, name: str, where: str = "") -> Json:
    value = struct(body, name)
    if value is None:
        raise null(where, name)
    return value


def null(where: str, name: str) -> Exception:
    member = f"{name[0].lower()}{name[1:]}"
    return constraint(f"{where}.{member}" if where else member, "Member must not be null")


def template_data(text: str | None, where: str, limit: int) -> Json:
    """TemplateData is JSON in a string."""
    if not text:
        return {}
    if len(text) > limit:
        raise constraint(where, f"Member must have length less than or equal to {limit}")
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise bad_request("Invalid template data: it must be a JSON object.")
    return data
