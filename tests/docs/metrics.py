"""docs/metrics.md, from the declarations of mailer/metrics.py."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from mailer.metrics import ABOUT, REGISTRY, About

from .markdown import code, codes, fill, table


def families() -> Iterator[tuple[str, Metric, About]]:
    """Of each metric of ours: the name that it is asked for by, and what it says of itself. In the order of ABOUT."""
    found = {family.name: family for family in REGISTRY.collect()}
    for name, about in ABOUT.items():
        family = found[name]
        yield (f"{name}_total" if family.type == "counter" else name), family, about


def labels_of(family: Metric) -> dict[str, list[str]]:
    """Label → its values."""
    found: dict[str, list[str]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if value not in (values := found.setdefault(label, [])):
                values.append(value)
    return found


def page(text: str) -> str:
    blocks = {f"metrics: {about.subject}": "" for about in ABOUT.values()}
    for subject in {about.subject for about in ABOUT.values()}:
        blocks[f"metrics: {subject}"] = _metrics(subject)
    return fill(text, blocks | {"labels": _labels(), "buckets": _buckets()})


def _metrics(subject: str) -> str:
    rows = [
        (
            code(name),
            family.type,
            codes(label for label in labels_of(family) if label != "le"),
            about.unit,
            "service" if about.shared else "process",
            family.documentation,
        )
        for name, family, about in families()
        if about.subject == subject
    ]
    return table(("name", "type", "labels", "unit", "of the", "meaning"), rows)


def _labels() -> str:
    """Metrics that have the same values of a label share a row."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, family, _ in families():
        for label, values in labels_of(family).items():
            if label != "le":
                found.setdefault((label, tuple(values)), []).append(name)
    rows = [(code(label), codes(values), codes(names)) for (label, values), names in found.items()]
    return table(("label", "values", "metrics"), rows)


def _buckets() -> str:
    rows = [
        (code(name), ", ".join(most.removesuffix(".0") for most in labels_of(family)["le"]))
        for name, family, _ in families()
        if family.type == "histogram"
    ]
    return table(("histogram", "upper bounds of its buckets, s"), rows)
