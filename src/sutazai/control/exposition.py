"""Why it exists: Prometheus reads a text; the newest sample is written as that text, without a library in between.

It also reads such a text, as far as the metric table knows its names.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from sutazai.telemetry.names import METRICS, series_name
from sutazai.telemetry.ring_file import Series

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


def text_of(values: Mapping[Series, float]) -> str:
    """Write values with their help and type, in the order of the metric table."""
    by_name: dict[str, list[str]] = {}
    for series, value in values.items():
        by_name.setdefault(series.name, []).append(f"{series_name(series.name, dict(series.labels))} {_number(value)}")
    lines: list[str] = []
    for name, entry in METRICS.items():
        if samples := by_name.get(name):
            lines += [f"# HELP {name} {entry.help}", f"# TYPE {name} {entry.type}", *sorted(samples)]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def parse(text: str) -> dict[Series, float]:
    """Read the sampled metrics of the table out of a page; all other lines are passed over."""
    found = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        entry = METRICS.get(match[1]) if match else None
        if match is None or entry is None or not entry.sampled:
            continue
        labels = {name: _ESCAPED.sub(_unescape, value) for name, value in _LABEL.findall(match[2] or "")}
        try:
            value = float(match[3])
        except ValueError:
            continue
        if labels.keys() == set(entry.labels) and math.isfinite(value):
            found[Series(entry.name, tuple((label, labels[label]) for label in entry.labels))] = value
    return found


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
