"""What templates see of a row's data, and what of it may be printed.

JSON's null prints nothing and is false, and the filter `default` stands in for it. A variable or key that is not there is
false, too, so that `{{ name or "reader" }}` and `{% if vip %}` take rows without it. Any other use of it fails the row, with
its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final

from jinja2 import StrictUndefined, Undefined
from jinja2.exceptions import SecurityError
from jinja2.utils import missing

_PRINTED: Final = (str, int, float, Decimal, date, time, timedelta, list, tuple, dict, set, frozenset)
# What Jinja2 and the sandbox say of their own accord, and what we say instead.
_SAID = {
    "No first item, sequence was empty": "the template takes the first of a list that is empty",
    "No last item, sequence was empty": "the template takes the last of a list that is empty",
    "No random item, sequence was empty": "the template takes one of a list that is empty",
    "No aggregated item, sequence was empty": "the template takes one of a list that is empty",
}


class Unfit(ValueError):
    """What a template does with a value cannot be done. The text goes on after "the template failed on this row: "."""


class Null:
    """JSON's null. There is one."""

    __slots__ = ()

    def __str__(self) -> str:
        return ""

    def __repr__(self) -> str:
        return "null"

    def __html__(self) -> str:
        return ""

    def __format__(self, spec: str) -> str:
        return ""

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or other is self

    def __hash__(self) -> int:
        return hash(None)

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


NULL: Final = Null()


def seen(data: Mapping[str, Any]) -> dict[str, Any]:
    """A row's data as a template sees it."""
    found = dict(data)
    for name, value in data.items():
        if type(value) is not str:
            found[name] = _seen(value)
    return found


def _seen(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: one if type(one) is str else _seen(one) for key, one in value.items()}
    if kind is list:
        return [one if type(one) is str else _seen(one) for one in value]
    return NULL if value is None or (kind is float and value != value) else value  # NaN is not even itself


class Missing(StrictUndefined):
    """What is not there: false, and an error as soon as something is made of it."""

    __slots__ = ()

    def __bool__(self) -> bool:  # type: ignore[override]
        return False

    @property
    def _undefined_message(self) -> str:
        """A whole sentence: the reason that the row fails for."""
        name, owner = self._undefined_name, self._undefined_obj
        if self._undefined_exception is SecurityError:
            return f"the template uses '{name}', which no template may"
        if self._undefined_hint:
            hint = self._undefined_hint.rstrip(".")
            return _SAID.get(hint, hint if hint.startswith("the template ") else f"the template failed on this row: {hint}")
        if owner is missing:
            link = (
                "; the recipient's own link is {{ unsubscribe_url }}" if name == "token" or "unsub" in str(name).lower() else ""
            )
            return f"the template uses '{name}', which this row does not have{link}"
        if isinstance(owner, Null):
            return f"the template uses '{name}' of a value that is null for this row"
        what = f"'{name}'" if isinstance(name, str) else f"item {name}"
        near = get_close_matches(name or "", [key for key in owner if isinstance(key, str)], 1) if isinstance(owner, dict) else []
        meant = f"; is '{near[0]}' meant?" if near else ""
        if isinstance(owner, str):
            meant = _of_text(name, owner)
        return f"the template uses {what} of {kind_of(owner)} that does not have it{meant}"


class Method:
    """A method of a value, which is there to be called. As a text it would be an address in memory."""

    __slots__ = ("_name", "function")

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self._name = function, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __str__(self) -> str:
        raise Unfit(f"it prints the function `{self._name}` and not what that gives; write `{self._name}()` for that")

    __repr__ = __str__


def _of_text(name: str | None, text: str) -> str:
    """What a text is not, and was taken for."""
    if name == "strftime":
        return "; write it as a filter, due|strftime('%d.%m.%Y')"
    return "; JSON in a cell of a CSV is a text, and NDJSON has objects" if text.lstrip().startswith(("{", "[")) else ""


def printed(value: Any) -> Any:
    """What `{{ … }}` puts into the mail. Raises Unfit for what is no value: it would print as an address in memory."""
    if type(value) is str or isinstance(value, (*_PRINTED, Null, Undefined)):
        return value
    if value is None:
        return ""
    name = getattr(value, "name", None)
    if isinstance(value, Method) or (callable(value) and isinstance(name, str)):  # a macro has a name
        str(value if isinstance(value, Method) else Method(value, str(name)))
    raise Unfit(f"it prints {kind_of(value)}; a filter such as `join` makes a text of it")


_KINDS: Final = (
    (Null, "null"),
    (bool, "true or false"),
    ((int, float, Decimal), "a number"),
    (str, "a text"),
    ((list, tuple), "a list"),
    (Mapping, "an object"),
    ((set, frozenset), "a set"),
    (date, "a date"),
    (time, "a time"),
    (timedelta, "a length of time"),
    (Undefined, "what is not there"),
)


def kind_of(value: Any) -> str:
    """What a person calls the type of `value`."""
    if value is None:
        return "null"
    found = next((words for kinds, words in _KINDS if isinstance(value, kinds)), None)
    return found or ("a function" if callable(value) else "something that is no value")


def default(value: Any, instead: Any = "", boolean: bool = False) -> Any:
    """The filter: `instead` for what is not there and for null; with `boolean` also for what is empty, 0 or false."""
    return instead if isinstance(value, Undefined | Null) or value is None or (boolean and not value) else value
