"""What a new plan changes is a comparison of two lists, and a plan of another fleet is no change of this one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sutazai.errors import ConfigError
from sutazai.supervisor.contract import PlanFile, Pool, Process
from sutazai.supervisor.swap import checked, diff


def process(name: str, **env: str) -> Process:
    """A process with this environment."""
    return Process(name=name, kind="service", argv=["/bin/true"], pool="p", stage="s", env=env)


def plan(*processes: Process) -> PlanFile:
    """A plan with these processes."""
    return PlanFile("f", "d", "/s", "/r", "/p", [Pool("p", 1)], ["s"], list(processes))


def test_diff_names_each_process_once() -> None:
    """Kept, changed, removed, added; the order is the new plan's."""
    changes = diff([process("a"), process("b"), process("c")], [process("d"), process("b", X="1"), process("a")])
    assert changes.kept == ("a",)
    assert changes.changed == ("b",)
    assert changes.removed == ("c",)
    assert changes.added == ("d",)


def test_the_same_plan_changes_nothing() -> None:
    """Written and read again, a plan equals itself."""
    changes = diff([process("a", X="1")], [process("a", X="1")])
    assert (changes.changed, changes.removed, changes.added) == ((), (), ())


def test_a_plan_of_another_fleet_is_refused_with_all_reasons() -> None:
    """Fleet and folders must be the running ones; the plan's own mistakes are told in the same breath."""
    old = plan(process("a"))
    new = replace(plan(replace(process("a"), stage="never")), fleet="g", run_dir="/x")
    with pytest.raises(ConfigError) as caught:
        checked(new, old, Path("next.json"))
    for words in ("no stage 'never'", "fleet is 'g', and the running fleet's is 'f'", "run_dir is '/x'"):
        assert words in str(caught.value)
    assert checked(old, old, Path("next.json")) is old
