"""What the fields of a pydantic model say of themselves: name, values, default, description, example."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from mailer.message.checks import Arn, Mailbox, Mailboxes, Name, Tags
from mailer.message.email import Rate
from mailer.message.sender import EndpointUrl, ExternalId, ListUnsubscribe, Region, RoleArn

from .markdown import codes

_KNOWN: tuple[tuple[Any, str], ...] = (
    (Rate, "number, 1/3600 or more"),
    (Mailbox, "address"),
    (Mailboxes, "address, or list of addresses"),
    (Arn, "ARN"),
    (RoleArn, "ARN"),
    (Name, "1 to 64 letters, digits, `_`, `-`"),
    (ExternalId, "2 to 1,224 characters"),
    (Region, "region code"),
    (EndpointUrl, "`http://` or `https://` URL"),
    (Tags, "table of texts"),
    (ListUnsubscribe, "table"),
    (bool, "`true`, `false`"),
    (str, "text"),
    (SecretStr, "text"),
    (Path, "path"),
    (int, "integer"),
    (float, "number"),
)


class Described(NamedTuple):
    name: str  # the key of the TOML file
    values: str
    field: FieldInfo

    @property
    def description(self) -> str:
        return self.field.description or ""

    @property
    def default(self) -> Any:
        return self.field.get_default(call_default_factory=True, validated_data={})

    @property
    def shown_default(self) -> str:
        if self.field.is_required():
            return "required"
        default = self.default
        if default is None:
            return "unset"
        if isinstance(default, tuple | dict):
            return codes([",".join(default)]) if default else "empty"
        return codes([str(default).lower() if isinstance(default, bool) else default])

    @property
    def example(self) -> Any:
        """For a file of examples: what is set without it, or where that is nothing, the example of the field."""
        return (self.field.examples or [self.default])[0]


def fields_of(model: type[BaseModel]) -> Iterator[Described]:
    hints = inspect.get_annotations(model, eval_str=True)
    for name, field in model.model_fields.items():
        yield Described(field.alias or name, _values(hints[name], field.metadata), field)


def _values(hint: Any, limits: list[Any]) -> str:
    for known, words in _KNOWN:
        if hint == known:
            return words + _bounds(limits)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return codes(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return codes(arguments)
    if origin in (Union, types.UnionType):
        return ", ".join(_values(one, limits) for one in arguments if one is not type(None))
    if origin is Annotated:
        return _values(arguments[0], limits)
    if origin is tuple:
        return f"list of {_values(arguments[0], [])}"
    if origin is dict:
        return "tables"
    raise TypeError(f"there are no words for {hint}")


def _bounds(limits: list[Any]) -> str:
    least = next((limit.ge for limit in limits if isinstance(limit, Ge)), None)
    most = next((limit.le for limit in limits if isinstance(limit, Le)), None)
    above = next((limit.gt for limit in limits if isinstance(limit, Gt)), None)
    if above is not None:
        return f", above {above}"
    if least is None:
        return ""
    return f", {least:,} or more" if most is None else f", {least} to {most}"
