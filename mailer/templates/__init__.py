"""Jinja2 templates: read from folders once, rendered in a sandbox, with a text part made where there is none."""

from .content import Content
from .folder import TemplateFolder
from .render import Compiled, Pieces, Rendered

__all__ = ["Compiled", "Content", "Pieces", "Rendered", "TemplateFolder"]
