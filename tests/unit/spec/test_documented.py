"""A key that is not in the reference does not exist for the user."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sutazai.spec.check import RESERVED_NAMES
from sutazai.spec.section import Section
from sutazai.spec.service import PLACEHOLDERS, PROBE_KINDS, READY_KINDS

if TYPE_CHECKING:
    from conftest import Load

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "manifest.md").read_text()
EVERYTHING = """
fleet: a
host: {memory: auto}
memory_pools: {critical: {platform: {size: auto}}, standard: {size: 6GB}}
cpu_sets: {x: {cores: 0}}
port_ranges: {agents: 10300-10599}
runtime_pools: {python: {families: {base: {memory: 100MB}}}}
services: {s: {command: x, memory: 1MB, port: 10600, ready: {tcp: true}, probe: {tcp: true}}}
agents: {health-monitor: {memory: 100MB}}
llm: {memory: 1GB}
policies: {restart: {first: 1s}, retry: {attempts: 2}, keep: {critical: 1s}}
"""


def test_every_key_stands_in_the_reference(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever key the readers ask for is written in the reference, in code marks."""
    asked: set[str] = set()
    real = Section._know

    def know(section: Section, key: str) -> None:
        asked.add(key)
        real(section, key)

    monkeypatch.setattr(Section, "_know", know)
    load(EVERYTHING)
    assert {"fleet", "command", "start_peak", "slots", "crash_loop"} <= asked
    missing = [
        key for key in sorted(asked) if f"`{key}" not in PAGE and f".{key}`" not in PAGE and f"{key}:" not in PAGE
    ]
    assert missing == []


@pytest.mark.parametrize("word", [*PLACEHOLDERS, *READY_KINDS, *PROBE_KINDS])
def test_placeholders_and_kinds_stand_there_too(word: str) -> None:
    """Words that are values, too."""
    assert f"`{{{word}" in PAGE or f"`{word}" in PAGE


def test_families_are_those_of_the_runtime() -> None:
    """The manifest offers exactly the families that workers have, and the plan knows what each takes."""
    from sutazai.plan.platform import FAMILY_BYTES
    from sutazai.runtime.families import FAMILIES
    from sutazai.spec.budget import FAMILY_NAMES

    assert FAMILY_NAMES == tuple(family.name for family in FAMILIES) == tuple(FAMILY_BYTES)


def test_our_own_names_are_reserved() -> None:
    """Processes, pools and their parts cannot be names of services or agents."""
    from sutazai.plan.platform import PROCESSES
    from sutazai.spec import POOL_NAMES

    assert {process.name for process in PROCESSES} <= set(RESERVED_NAMES)
    assert set(POOL_NAMES) <= set(RESERVED_NAMES)
