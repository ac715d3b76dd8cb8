"""The metric table: conventions hold, series are written as people cite them."""

from __future__ import annotations

import re

import pytest

from sutazai.errors import InternalError
from sutazai.telemetry.names import METRICS, metric, series_name


def test_names_follow_prometheus_conventions() -> None:
    """Lower case, counters end in ``_total``, gauges do not, units stand in the name."""
    for entry in METRICS.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", entry.name)
        assert entry.name.endswith("_total") == (entry.type == "counter")
        if entry.unit in {"bytes", "seconds", "ratio"}:
            assert f"_{entry.unit}" in entry.name
        assert entry.help.endswith(".")
        assert not entry.sampled or entry.type != "histogram"


def test_an_unknown_metric_is_a_broken_invariant() -> None:
    """A misspelt name stops the program."""
    with pytest.raises(InternalError, match="proces_memory"):
        metric("proces_memory")


def test_a_series_is_written_with_its_labels_escaped() -> None:
    """Quotes and backslashes in a label cannot break the form."""
    assert series_name("host_load1", {}) == "host_load1"
    assert series_name("process_up", {"process": 'a"b\\'}) == 'process_up{process="a\\"b\\\\"}'
