"""Options that several commands share are the fields of a dataclass; a command has that dataclass for a parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def spread(command: Callable[..., T]) -> Callable[..., T]:
    """The command as Typer sees it: in the place of each dataclass, its fields, in their order."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    @wraps(command)
    def called(**given: Any) -> T:
        made = {name: kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for name, kind in groups.items()}
        return command(**given, **made)

    parameters = [one for name, known in signature(command).parameters.items() for one in _parameters(known, hints[name])]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    vars(called)["__signature__"] = Signature(parameters)
    return called


def _parameters(known: Parameter, kind: Any) -> list[Parameter]:
    if not is_dataclass(kind):
        return [known.replace(kind=Parameter.KEYWORD_ONLY, annotation=kind)]
    hints: Mapping[str, Any] = get_type_hints(kind, include_extras=True)
    return [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(kind)
    ]


def given(group: Any) -> list[str]:
    """The fields of a group that have been given something."""
    return [field.name for field in fields(group) if getattr(group, field.name) not in (None, [])]
