"""The templates folder: one folder a template, `subject.txt` and `body.html` or `body.txt` or both.

Includes and inheritance name files by their path from the templates folder (`{% extends "base.html" %}`), and reach
nothing outside it, also not through a symbolic link.
"""

from __future__ import annotations

import errno
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from jinja2 import nodes

from ..errors import IncludeNotFound, TemplateBroken, TemplateIncomplete, TemplateNotFound, TemplateOutside
from .content import Content
from .environment import broken, environment

PARTS = ("subject.txt", "body.html", "body.txt")
SHOWN_NAMES = 10  # templates, in an error
SHOWN_FILES = 5  # of a folder that lacks one, in an error

_Use = nodes.Extends | nodes.FromImport | nodes.Import | nodes.Include


class TemplateFolder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """The templates there are: folders that hold a `subject.txt`."""
        if not self._folder.is_dir():
            return []
        return sorted(path.parent.relative_to(self._folder).as_posix() for path in self._folder.rglob("*/subject.txt"))

    def read(self, name: str) -> Content:
        """The template with all that it includes. Raises TemplateNotFound, TemplateOutside, TemplateBroken."""
        folder = self._inside(name, name)
        if not folder.is_dir():
            raise TemplateNotFound(name=name, folder=self._folder, known=self._known(name))
        parts = {part: f"{name}/{part}" for part in PARTS if (folder / part).is_file()}
        for lacks in (("subject.txt",), ("body.html", "body.txt")):
            if parts.keys().isdisjoint(lacks):
                there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_file())[:SHOWN_FILES]) or "nothing"
                raise TemplateIncomplete(name=name, lacks=" and no ".join(lacks), folder=folder, there=there)
        return Content(
            name=name,
            files=self._closure(name, list(parts.values())),
            subject=parts["subject.txt"],
            html=parts.get("body.html"),
            text=parts.get("body.txt"),
        )

    def _known(self, name: str) -> str:
        """What there is in place of a template that is not there: those that are called nearly so, and a few others."""
        names = self.names()
        if not names:
            return "make a folder in it, or set MAILER_TEMPLATES_DIR"
        near = get_close_matches(name, names, SHOWN_NAMES)
        shown = list(dict.fromkeys([*near, *names]))[:SHOWN_NAMES]
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        return f"it has: {', '.join(shown)}{more}"

    def unused(self, name: str) -> list[str]:
        """Files of the template that are named like its parts and are none: `body.amp.html`, `subject.html`."""
        folder = self._inside(name, name)
        near = (path.name for path in folder.glob("*.*") if path.name.startswith(("body.", "subject.")))
        return sorted(one for one in near if one not in PARTS)

    def _closure(self, name: str, wanted: list[str]) -> dict[str, str]:
        """Sources of the wanted files and of everything that they name, as far as it is there or has to be."""
        found: dict[str, str] = {}
        while wanted:
            file = wanted.pop()
            if file in found:
                continue
            found[file] = self._source(name, file)
            try:
                tree = environment({}, html=False).parse(found[file], name=file)
            except Exception as error:
                raise broken(name, file, error) from None
            for node in tree.find_all(nodes.Stmt):
                if isinstance(node, _Use):
                    wanted += self._used(name, file, node)
        return found

    def _used(self, name: str, file: str, node: _Use) -> list[str]:
        """The files that an include, import or extends is to be given. Raises IncludeNotFound, TemplateBroken."""
        named = _names(node.template)
        if named is None:
            why = "an include, import or extends must name its file, not compute it"
            raise TemplateBroken(name=name, file=file, line=node.lineno, why=why)
        there = [one for one in named if self._inside(name, one).exists()]
        missing = [one for one in named if one not in there]
        if isinstance(node, nodes.Include) and (
            node.ignore_missing or (there and isinstance(node.template, nodes.List | nodes.Tuple))
        ):
            return there
        if missing:
            beside = (PurePosixPath(file).parent / missing[0]).as_posix()
            meant = f"; write '{beside}', because names count from there" if self._inside(name, beside).exists() else ""
            raise IncludeNotFound(
                name=name, file=file, line=node.lineno, missing="', '".join(missing), folder=self._folder, meant=meant
            )
        return there

    def _source(self, name: str, file: str) -> str:
        path = self._inside(name, file)
        try:
            return path.read_text(encoding="utf-8-sig")  # Windows editors put a mark in front
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno == errno.ELOOP:  # resolve() says so itself before Python 3.13
                raise TemplateOutside(name=name, file=file) from None
            why = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
            raise TemplateBroken(name=name, file=file, line=1, why=f"the file {why}") from None

    def _inside(self, name: str, file: str) -> Path:
        """The path of a file of the folder, symbolic links followed. Raises TemplateOutside."""
        if ".." in Path(file).parts:  # also where it comes back: a template has one name
            raise TemplateOutside(name=name, file=file)
        try:
            root = self._folder.resolve()
            path = (root / file).resolve()
            # A link to itself is still one when it has been resolved; before Python 3.13 resolve() raises there.
            if path != root and path.is_relative_to(root) and not path.is_symlink():
                path.exists()  # raises where the name is too long
                return path
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, a symbolic link to itself
            pass
        raise TemplateOutside(name=name, file=file)


def _names(node: nodes.Node) -> list[str] | None:
    """The names that an expression chooses from; None where it computes one."""
    if isinstance(node, nodes.Const):
        return [node.value] if isinstance(node.value, str) else None
    if isinstance(node, nodes.List | nodes.Tuple):
        parts: list[nodes.Expr] = node.items
    elif isinstance(node, nodes.CondExpr) and node.expr2 is not None:
        parts = [node.expr1, node.expr2]
    else:
        return None
    named = [_names(part) for part in parts]
    return None if None in named else [one for names in named for one in names or ()]
