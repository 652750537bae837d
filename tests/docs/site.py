"""The site of the documents, in site/: `python -m tests.docs.site`, which `make docs` runs. A link that leads nowhere fails it.

The generator takes one folder. So the documents are copied into one as they lie in the repository, with the files that they
link to, and their links stay as they are. Nothing of the site is loaded from another host: the script that draws diagrams is
the one of the package mmdc, whose copy of mermaid.min.js is that of npm's package.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import ROOT

SOURCE, SITE = ROOT / ".site", ROOT / "site"
CONFIG = ROOT / "zensical.toml"
STYLE, SCRIPT = "assets/site.css", "assets/mermaid.min.js"  # as zensical.toml names them
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LOADED = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")
_LINK = re.compile(r"\]\(<?([^)\s>#]+)(?:#[^)\s]*)?>?(?: \"[^\"]*\")?\)")


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def listed() -> list[str]:
    """The pages that the navigation has, in its order."""
    return list(_pages(tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]["nav"]))


def _pages(nav: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for entry in nav:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from _pages(target)


def linked(document: Path) -> Iterator[Path]:
    """The files of the repository that it links to."""
    for target in _LINK.findall(document.read_text(encoding="utf-8")):
        path = (document.parent / target).resolve()
        if "://" not in target and path.is_file() and path.is_relative_to(ROOT):
            yield path


def foreign() -> list[str]:
    """What a page of the site would load from another host."""
    pages = sorted(SITE.rglob("*.html"))
    return [f"{page.name}: {url}" for page in pages for url in _LOADED.findall(page.read_text(encoding="utf-8"))]


def stage() -> None:
    """Lay out what the generator takes."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    pages = documents()
    for path in {*pages, *(path for page in pages for path in linked(page))}:
        place = SOURCE / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    spec = find_spec("mmdc")
    assert spec is not None
    assert spec.origin is not None
    (SOURCE / SCRIPT).parent.mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("site.css"), SOURCE / STYLE)
    shutil.copyfile(Path(spec.origin).parent / "assets/mermaid.js", SOURCE / SCRIPT)


def main() -> int:
    if missing := [name for name in listed() if not (ROOT / name).is_file()]:
        print(f"the navigation of {CONFIG.name} has pages that are not there: {', '.join(missing)}", file=sys.stderr)
        return 1
    stage()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", str(CONFIG)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")
    if done.returncode:
        complaints = _COLOUR.sub("", done.stdout).partition("Traceback (most recent call last)")[0]
        print(complaints.strip() or done.stdout, file=sys.stderr)
    elif found := foreign():
        print(f"pages load something from another host: {', '.join(found)}", file=sys.stderr)
        return 1
    else:
        print(f"the site is in {SITE.relative_to(ROOT)}/; open {(SITE / 'index.html').relative_to(ROOT)}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
