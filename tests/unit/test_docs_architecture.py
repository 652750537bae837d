"""What docs/architecture.md, docs/glossary.md, SECURITY.md and CONTRIBUTING.md name is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from mailer.message.email import Lane, Mode, Outcome, State

from .. import lua_fields

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "docs/architecture.md",
        "docs/glossary.md",
        "docs/redis.md",
        "docs/states.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
    )
}
ARCHITECTURE, GLOSSARY, SECURITY = (PAGES[name] for name in ("docs/architecture.md", "docs/glossary.md", "SECURITY.md"))
LUA = {path.name for path in (ROOT / "mailer").rglob("*.lua")}
TESTS = sorted({one for page in PAGES.values() for one in re.findall(r"`(tests/[\w/]+\.py::\w+)`", page)})


@cache
def functions(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_a_page_names_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    assert function in functions(ROOT / path)


def test_every_invariant_has_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*)\|$", ARCHITECTURE, re.MULTILINE)
    assert [number for number, _ in rows] == [str(number) for number in range(1, 11)]
    assert [number for number, row in rows if "::test_" not in row] == []


def test_every_measure_of_security_has_a_module_and_a_test() -> None:
    tables = re.findall(r"^\|[^\n]* \| module \| test \|\n\|[-|]+\|\n((?:\|.*\n)+)", SECURITY, re.MULTILINE)
    rows = [row for table in tables for row in table.strip().splitlines()]
    assert len(rows) > 25
    assert [row for row in rows if "::test_" not in row or not re.search(r"`(mailer|worker)/", row)] == []


def places(page: str) -> list[str]:
    return sorted(set(re.findall(r"`((?:mailer|worker|tests|deploy|docs)/[\w./-]+)`", page)))


@pytest.mark.parametrize(("page", "place"), [(name, place) for name, page in PAGES.items() for place in places(page)])
def test_a_file_or_folder_that_a_page_names_is_there(page: str, place: str) -> None:
    assert (ROOT / place).exists()


def test_every_room_is_in_the_table_and_no_other() -> None:
    rooms = {f"mailer/{path.parent.name}" for path in (ROOT / "mailer").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(mailer/\w+)` \|", ARCHITECTURE, re.MULTILINE)) == rooms


def test_the_door_of_each_room_is_in_it() -> None:
    for room, doors in re.findall(r"^\| `(mailer/\w+)` \|.*\| ([^|]+) \|$", ARCHITECTURE, re.MULTILINE):
        sources = "".join(path.read_text() for path in (ROOT / room).rglob("*.py"))
        for door in re.findall(r"`(\w+)`", doors):
            assert re.search(rf"\b(class|def) {door}\b", sources), f"{room}: {door}"


def test_what_the_glossary_says_is_in_a_file_is_in_it() -> None:
    found = re.findall(r"`(\w+)(?:\(\))?` in `((?:mailer|worker)/[\w./]+\.py)`", GLOSSARY)
    assert len(found) > 20
    for name, place in found:
        assert re.search(rf"\b{name}\b", (ROOT / place).read_text()), f"{place}: {name}"


def test_every_script_that_a_page_names_is_there() -> None:
    named = {one for page in PAGES.values() for one in re.findall(r"`([a-z_]+\.lua)`", page)}
    assert named <= LUA


def test_every_function_of_the_scripts_that_the_glossary_names_is_there() -> None:
    named = set(re.findall(r"`(\w+)\(\)`", GLOSSARY))
    assert named
    assert named <= lua_fields.SHARED.keys()


def test_the_glossary_counts_the_states_and_has_every_lane_and_mode() -> None:
    assert f"There are {len(Outcome)}](states.md#recipient)" in GLOSSARY
    assert f"There are {len(State)}](states.md#campaign)" in GLOSSARY
    for word in (*Lane, *(mode for mode in Mode if mode is not Mode.AUTO)):
        assert f"`{word.value}`" in GLOSSARY


@pytest.mark.parametrize("name", PAGES)
def test_a_link_to_another_page_leads_there(name: str) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*?\.md|)(#[\w-]+)?\)", PAGES[name]):
        path = (ROOT / name).parent / target if target else ROOT / name
        text = path.read_text(encoding="utf-8")
        assert not anchor or anchor in anchors(text), f"{target}{anchor}"


def anchors(page: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [*PAGES, "CHANGELOG.md"])
def test_lines_of_text_wrap(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith(("|", "    "))] == []


def test_every_make_target_that_contributing_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"make ([a-z-]+)", PAGES["CONTRIBUTING.md"]))
    assert {name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)} == set()
