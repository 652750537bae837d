"""The generated documents are what the code says now, and what they are made of can be read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mailer.cli.app import COMMANDS
from mailer.message.sender import ListUnsubscribe, Sender
from mailer.metrics import ABOUT
from mailer.settings import SUBJECTS, Settings, load_settings
from tests.docs import GENERATORS, ROOT, generated
from tests.docs.cli import commands
from tests.docs.fields import fields_of
from tests.docs.markdown import WIDTH, fill
from tests.docs.metrics import families
from tests.docs.site import documents, listed

MODELS: tuple[type[BaseModel], ...] = (Settings, Sender, ListUnsubscribe)
PAGES = [name for name in GENERATORS if name.endswith(".md")]
SETTINGS, CLI, METRICS = ((ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("settings", "cli", "metrics"))
MOST_OF_A_FIELD, MOST_OF_AN_OPTION, MOST_OF_A_METRIC = 260, 120, 130  # characters
BY_NAME = dict(commands())


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generated_file_is_what_the_command_would_write(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == generated(name), f"{name} is out of date; run: make docs-text"


def test_a_page_that_lacks_a_block_is_refused() -> None:
    page = "before\n<!-- generated: a -->\nold\n<!-- end -->\nafter\n"
    assert fill(page, {"a": "new"}) == "before\n<!-- generated: a -->\n\nnew\n\n<!-- end -->\nafter\n"
    with pytest.raises(ValueError, match=r"has the blocks \['a'\], and not \['a', 'b'\]"):
        fill(page, {"a": "new", "b": "new"})


# ---- what they are made of -----------------------------------------------------------------------------------------


def texts() -> Iterator[tuple[str, str, int]]:
    """Where a description stands, the description, and how long it may be."""
    for model in MODELS:
        for field in fields_of(model):
            yield f"{model.__name__}.{field.name}", field.description, MOST_OF_A_FIELD
    for words, command in BY_NAME.items():
        yield words, command.help.partition("\n\n")[0].replace("\n", " "), MOST_OF_AN_OPTION
        for parameter in command.params:
            if parameter.name not in ("install_completion", "show_completion"):  # Typer's own
                yield f"{words} {parameter.opts[-1]}", parameter.help or "", MOST_OF_AN_OPTION
    for name, family, _ in families():
        yield name, family.documentation, MOST_OF_A_METRIC


@pytest.mark.parametrize(("text", "most"), [pytest.param(text, most, id=where) for where, text, most in texts()])
def test_a_description_is_one_short_paragraph_of_sentences(text: str, most: int) -> None:
    assert re.fullmatch(r"[A-Z`0-9].*[^ .]\.", text)
    assert len(text) <= most
    assert "  " not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_has_the_first_sentence_of_each(name: str) -> None:
    command = BY_NAME[f"mailer {name}"]
    assert command.help.partition("\n\n")[0] == COMMANDS[name].help


def test_the_subjects_begin_with_fields_that_are_there_in_their_order() -> None:
    names = list(Settings.model_fields)
    places = [names.index(name) for name in SUBJECTS]
    assert places == sorted(places)
    assert places[0] == 0


@pytest.mark.parametrize("model", MODELS)
def test_help_shows_what_a_field_means(model: type[BaseModel]) -> None:
    for field in fields_of(model):
        assert f"    {field.name}: {field.description}" in (model.__doc__ or "").splitlines()


# ---- what they have ------------------------------------------------------------------------------------------------


def rows(page: str, heading: str = "") -> list[list[str]]:
    """The cells of the tables behind a heading."""
    section = page.partition(f"\n{heading}\n")[2] if heading else page
    section = re.split(r"\n#+ ", section)[0] if heading else section
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in section.splitlines() if line.startswith("| `")]


def test_every_setting_has_a_row_with_its_default() -> None:
    found = {row[0].strip("`"): row[2].strip("`") for row in rows(SETTINGS) if row[0].startswith("`MAILER_")}
    assert found.keys() == {f"MAILER_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default: Any = field.get_default(call_default_factory=True, validated_data={})
        text = "unset" if default is None else "empty" if default in ((), {}) else default
        text = ",".join(text) if isinstance(text, tuple) else str(text).lower() if isinstance(text, bool) else str(text)
        assert found[f"MAILER_{name.upper()}"] == text, name


@pytest.mark.parametrize(
    ("model", "heading"), [(Sender, "### Keys of a sender"), (ListUnsubscribe, "### Keys of `list_unsubscribe`")]
)
def test_every_key_of_a_sender_has_a_row(model: type[BaseModel], heading: str) -> None:
    assert [row[0].strip("`") for row in rows(SETTINGS, heading)] == [
        field.alias or name for name, field in model.model_fields.items()
    ]


def test_the_sender_of_the_page_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", SETTINGS, re.DOTALL)
    path = tmp_path / "mailer.toml"
    path.write_text(example, encoding="utf-8")
    monkeypatch.setenv("MAILER_CONFIG", str(path))
    assert load_settings().sender("news").tags == tomllib.loads(example)["senders"]["news"]["tags"]


@pytest.mark.parametrize("words", BY_NAME)
def test_every_command_has_a_section_with_its_arguments_and_options(words: str) -> None:
    heading = re.search(rf"^#+ `{words}`$", CLI, re.MULTILINE)
    assert heading is not None
    shown = " ".join(row[0] for row in rows(CLI, heading[0]))
    for parameter in BY_NAME[words].params:
        for name in [parameter.metavar] if parameter.param_type_name == "argument" else parameter.opts:
            assert re.search(rf"`{re.escape(name)}[ `]", shown), name


def test_every_metric_has_a_row() -> None:
    found = [row[0].strip("`") for row in rows(METRICS.partition("## Values of the labels")[0])]
    assert {name.removesuffix("_total") for name in found} == ABOUT.keys()
    assert len(found) == len(ABOUT)


@pytest.mark.parametrize("name", PAGES)
def test_the_lines_of_a_page_are_short_outside_of_tables(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > WIDTH and not line.startswith("| ")] == []


# ---- the site --------------------------------------------------------------------------------------------------------


def test_every_document_is_in_the_navigation_of_the_site_once() -> None:
    pages = listed()
    assert len(pages) == len(set(pages))
    assert {str(path.relative_to(ROOT)) for path in documents()} <= set(pages)
