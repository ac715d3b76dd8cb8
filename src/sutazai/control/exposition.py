"""Why it exists: Prometheus reads a text; the newest sample is written as that text, without a library in between.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.telemetry.names import METRICS, series_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sutazai.telemetry.ring_file import Series

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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
