"""Families are known by name, warm without a trace, and live without what is not installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sutazai.errors import ConfigError
from sutazai.runtime.families import FAMILIES, family, preload


def test_families_are_found_by_name() -> None:
    """A family is found; an unknown name says which there are."""
    assert family("base").name == "base"
    assert [each.name for each in FAMILIES] == ["base", "data"]
    with pytest.raises(ConfigError, match="base, data"):
        family("none")


def test_missing_modules_are_named() -> None:
    """What is not installed is named and does not stop the zygote."""
    assert preload([], ["json", "no_such_module_here"]) == [
        "no_such_module_here: No module named 'no_such_module_here'"
    ]


@pytest.mark.parametrize("name", [each.name for each in FAMILIES])
def test_a_family_starts_no_thread(name: str) -> None:
    """After pre-loading a family the process has one thread and no open sockets, so it may fork."""
    code = (
        "import os\nfrom sutazai.runtime import kernel\nfrom sutazai.runtime.families import preload\n"
        f"before = set(os.listdir('/proc/self/fd'))\nmissing = preload([{name!r}])\n"
        "print(kernel.thread_count(), missing, len(set(os.listdir('/proc/self/fd')) - before))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environment)
    assert found.stdout.split() == ["1", "[]", "0"]
