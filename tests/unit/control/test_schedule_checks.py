"""A schedule's skill and input are held against what its agent can do, before anything runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sutazai.control.schedules import schedule_mistakes
from sutazai.spec.model import Schedule
from sutazai.spec.places import Place

SKILL = {
    "name": "report",
    "input": {"type": "object", "properties": {"window_s": {"type": "integer"}}, "additionalProperties": False},
}


def manifest(skill: str, data: Any) -> Any:
    """A manifest with one schedule, as far as the check reads it."""
    schedule = Schedule("night", "0 3 * * *", "UTC", skill, data, place=Place("fleet.yaml", 7, 9))
    return SimpleNamespace(agents={"monitor": SimpleNamespace(schedules=(schedule,))})


def test_what_fits_is_no_mistake() -> None:
    """And an agent that could not be described has its mistake already."""
    assert schedule_mistakes(manifest("report", {"window_s": 60}), {"monitor": [SKILL]}) == []
    assert schedule_mistakes(manifest("anything", {}), {}) == []


def test_an_unknown_skill_and_a_wrong_input_have_their_place() -> None:
    """File and line of the schedule, what is wrong, what to write."""
    [unknown] = schedule_mistakes(manifest("reprot", {}), {"monitor": [SKILL]})
    assert (unknown.path, unknown.line) == ("fleet.yaml", 7)
    assert "there is no skill 'reprot'" in unknown.problem
    assert "report" in unknown.hint
    [wrong] = schedule_mistakes(manifest("report", {"window_s": "long"}), {"monitor": [SKILL]})
    assert "agents.monitor.schedules.night.input.window_s" in wrong.problem
