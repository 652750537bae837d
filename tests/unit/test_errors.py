"""One family of errors: each has a sentence, whatever Python removes, and passes from one process to another."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

import mailer
import worker
from mailer import Mailer, MailerError, SyncMailer, errors

EVERY_ONE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.unit.test_errors import check, every_error
assert False, "asserts are still there"
kinds = list(every_error())
for kind in kinds:
    check(kind)
print(len(kinds))
"""


def every_error() -> Iterator[type[MailerError]]:
    """Every class of the family, wherever in the two packages it is."""
    for package in (mailer, worker):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found = [MailerError]
    for kind in found:
        found += kind.__subclasses__()
    yield from found


def fields_of(kind: type[MailerError]) -> dict[str, Any]:
    names = {name for _, name, _, _ in Formatter().parse(kind.sentence) if name}
    return {name: f"what {name} is" for name in names}


def expect(truth: bool, what: str) -> None:
    """An assert that Python does not remove."""
    if not truth:
        raise AssertionError(what)


def check(kind: type[MailerError]) -> None:
    error = kind(**fields_of(kind))
    error.add_note("a note")
    text = str(error)
    expect(len(text) > 3, f"{kind.__name__} says nothing")
    expect(kind is MailerError or kind.__doc__ == kind.sentence, f"{kind.__name__} is documented otherwise than it speaks")
    expect(all(value in text for value in error.fields.values()), f"{kind.__name__} leaves a field out")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        expect(type(again) is kind and again is not error, f"{kind.__name__} became {type(again)}")
        expect((str(again), again.fields, again.args) == (text, error.fields, error.args), f"{kind.__name__} became {again}")
        expect(again.__notes__ == ["a note"], f"{kind.__name__} lost its note")


def test_an_error_can_be_pickled_and_copied_and_says_the_same_afterwards() -> None:
    for kind in every_error():
        check(kind)


@pytest.mark.slow
def test_every_error_speaks_and_can_be_pickled_where_python_removes_docstrings_and_asserts() -> None:
    ran = subprocess.run([sys.executable, "-OO", "-W", "ignore", "-c", EVERY_ONE], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr[-800:]
    assert int(ran.stdout) == len(list(every_error()))


def test_an_error_without_a_sentence_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="Silent needs a `sentence`"):
        type("Silent", (MailerError,), {"__doc__": "{why}"})


def test_an_error_can_be_printed_whatever_was_given() -> None:
    assert str(MailerError(why="half \ud83d of it\nand more")).encode() == rb"half \ud83d of it and more"


def test_what_a_method_is_said_to_raise_can_be_imported_from_the_package() -> None:
    said = set[str]()
    for _, method in inspect.getmembers(Mailer, inspect.isfunction):
        for sentence in re.findall(r"[Rr]aises?\b([^.]*)", inspect.getdoc(method) or ""):
            said |= {word for word in re.findall(r"\b[A-Z]\w+", sentence) if hasattr(errors, word)}
    assert {"NotFound", "KeyReused", "PastExpiry"} <= said
    assert said <= set(mailer.__all__)


def named_in(hint: object) -> Iterator[type]:
    """Our own classes in an annotation."""
    if isinstance(hint, type) and hint.__module__.startswith("mailer."):
        yield hint
    for part in typing.get_args(hint):
        for inner in part if isinstance(part, list) else [part]:
            yield from named_in(inner)


def test_what_a_caller_of_the_package_meets_is_exported_and_nothing_else() -> None:
    met = set[str]()
    for kind in (Mailer, SyncMailer):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                met |= {one.__name__ for hint in typing.get_type_hints(method).values() for one in named_in(hint)}
    assert {"MessageStatus", "CampaignStatus", "RecipientStatus", "Outcome", "Explanation", "Rendered", "Summary"} <= met
    assert met <= set(mailer.__all__)
    assert all(hasattr(mailer, name) for name in mailer.__all__)
    assert len(set(mailer.__all__)) == len(mailer.__all__)
    inside = {"NotBelieved", "NotAnEvent", "SeenBefore", "CannotVerify", "StackFailed", "EmbeddedUnavailable"}
    assert not inside & set(mailer.__all__)
