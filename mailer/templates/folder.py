"""The templates folder: one folder a template, `subject.txt` and `body.html` or `body.txt` or both.

Includes and inheritance name files by their path from the templates folder (`{% extends "base.html" %}`), and reach
nothing outside it, also not through a symbolic link.
"""

from __future__ import annotations

import errno
from pathlib import Path

from jinja2 import meta

from ..errors import TemplateBroken, TemplateNotFound, TemplateOutside
from .content import Content
from .environment import broken, environment

PARTS = ("subject.txt", "body.html", "body.txt")


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
        if not (folder / "subject.txt").is_file():
            if folder.is_dir():
                raise TemplateNotFound(name=name, folder=self._folder, known="its folder has no subject.txt")
            known = f"it has: {', '.join(self.names())}" if self.names() else "make a folder in it, or set MAILER_TEMPLATES_DIR"
            raise TemplateNotFound(name=name, folder=self._folder, known=known)
        parts = {part: f"{name}/{part}" for part in PARTS if (folder / part).is_file()}
        if "body.html" not in parts and "body.txt" not in parts:
            raise TemplateNotFound(name=name, folder=self._folder, known="its folder has no body.html and no body.txt")
        return Content(
            name=name,
            files=self._closure(name, list(parts.values())),
            subject=parts["subject.txt"],
            html=parts.get("body.html"),
            text=parts.get("body.txt"),
        )

    def _closure(self, name: str, wanted: list[str]) -> dict[str, str]:
        """Sources of the wanted files and of everything that they name."""
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
            for reference in meta.find_referenced_templates(tree):
                if reference is None:
                    why = "an include, import or extends must name its file, not compute it"
                    raise TemplateBroken(name=name, file=file, line=1, why=why)
                wanted.append(reference)
        return found

    def _source(self, name: str, file: str) -> str:
        path = self._inside(name, file)
        try:
            return path.read_text(encoding="utf-8-sig")  # Windows editors put a mark in front
        except FileNotFoundError:
            raise TemplateNotFound(name=name, folder=self._folder, known=f"it includes '{file}', which is not there") from None
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
            if path != root and path.is_relative_to(root):
                path.exists()  # raises where the name is too long
                return path
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, a symbolic link to itself
            pass
        raise TemplateOutside(name=name, file=file)
