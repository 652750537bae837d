"""`python -m tests.structure`: the shape of the house. No module is in a cycle of imports, and none is too long to be read.

Which room may know which is import-linter's, in pyproject.toml.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("mailer", "worker")
MOST_LINES = 400
TABLES = ("mailer.metrics", "mailer.settings")  # each is a table, long by its rows


def main() -> int:
    """1 where something is wrong, with a line for each."""
    paths = {name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
    wrong = [*too_long(paths), *cycle({module: imported(module, path, paths) for module, path in paths.items()})]
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return bool(wrong)


def name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def too_long(paths: Mapping[str, Path]) -> Iterator[str]:
    for module, path in paths.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES and module not in TABLES:
            yield f"{path.relative_to(ROOT)} has {lines} lines, and {MOST_LINES} are the most; split it by subject"


def cycle(graph: Mapping[str, set[str]]) -> Iterator[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"these modules import each other: {' → '.join(reversed(error.args[1]))}; move what both need below them"


def imported(module: str, path: Path, known: Mapping[str, Path]) -> set[str]:
    """The modules that one imports when it is imported itself."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = set[str]()
    for node in _at_import(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found.update(full if (full := f"{base}.{alias.name}") in known else base for alias in node.names)
    return found & known.keys() - {module}


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    """All but what functions import when they are called, and what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
        ):
            continue
        yield child
        yield from _at_import(child)


if __name__ == "__main__":
    sys.exit(main())
