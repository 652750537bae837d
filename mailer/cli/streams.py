"""Standard output and standard error as every command has them. Rich and all that it needs are imported by those that use it."""

from __future__ import annotations

from typing import Any, TextIO

from ..printable import printable_text


class ReaderGone(Exception):
    """Whoever read our standard output (`| head`) has enough."""


class Plain:
    """Standard error, for what is written to it past rich, as what quotes wrong words of the command line."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream  # which rich writes to

    def write(self, text: str) -> int:
        return self.rich_proxied_file.write(printable_text(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
