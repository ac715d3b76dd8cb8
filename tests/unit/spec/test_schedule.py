"""Schedules in a manifest: what is read, what a fleet overrides, and cron nonsense with its line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai.cron import Cron

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sutazai.spec.model import Schedule

HEAD = "fleet: a\nagents:\n  ram-optimizer:\n    schedules:\n      "


def at(text: str) -> int:
    """Milliseconds of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


def same(schedule: Schedule, **fields: Any) -> bool:
    """Whether a schedule has these fields."""
    return all(getattr(schedule, name) == value for name, value in fields.items())


def test_a_schedule_is_read_with_its_defaults(load: Callable[[str], Any]) -> None:
    """UTC, nothing caught up, no input."""
    text = (
        HEAD
        + "night: {cron: 0 3 * * *, skill: report}\n      day: {cron: 0 12 * * 1-5, skill: report, \
input: {window_s: 60}, timezone: Europe/Berlin, catch_up: last, priority: 0, deadline: 1h}\n"
    )
    night, day = load(text).agents["ram-optimizer"].schedules
    assert same(night, name="night", cron="0 3 * * *", timezone="UTC", input={}, catch_up="none", priority=5)
    assert same(day, input={"window_s": 60}, catch_up="last", priority=0, deadline_ms=3_600_000)


def test_a_fleet_changes_or_switches_off_what_an_agent_brings(
    load: Callable[[str], Any], tmp_path: Path, make_agent: Callable[..., Any]
) -> None:
    """By name: what is written wins, the rest stays."""
    make_agent(tmp_path, "own", extra='[schedules.night]\ncron = "0 3 * * *"\nskill = "report"\n')
    for change, wanted in (("{}", ["0 3 * * *"]), ("{night: {cron: 0 4 * * *}}", ["0 4 * * *"]),
                           ("{night: {enabled: false}}", [])):  # fmt: skip
        agents = load(f"fleet: a\nagents:\n  own: {{path: own, schedules: {change}}}\n").agents
        assert [schedule.cron for schedule in agents["own"].schedules] == wanted


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("night: {cron: 61 * * * *, skill: report}", "Bad minute", "day of week"),
        ("night: {cron: every night, skill: report}", "Wrong number of fields", "day of week"),
        ("night: {cron: 0 0 30 2 *, skill: report}", "Bad day-of-month", "day of week"),
        ("night: {cron: 0 3 * * *, skill: report, timezone: Europe/Berlim}", "no time zone", "Europe/Berlin"),
        ("night: {skill: report}", "has no cron", "day of week"),
        ("night: {cron: 0 3 * * *}", "has no skill", "write skill"),
        ("night: {cron: 0 3 * * *, skill: report, catch_up: all}", "'all' is unknown", "none"),
        ("night: {cron: 0 3 * * *, skill: report, input: 5}", "keys with values", "indented"),
        ("Night: {cron: 0 3 * * *, skill: report}", "name 'Night' is not allowed", "night"),
        ("night: {cron: 0 3 * * *, skill: report, when: now}", "unknown key 'when'", "write one of"),
    ],
)
def test_nonsense_is_a_mistake_with_its_line(wrong: Callable[[str], Any], text: str, problem: str, hint: str) -> None:
    """One mistake, at the value, with what to write."""
    [mistake] = wrong(HEAD + text + "\n")
    assert problem in mistake.problem
    assert hint in mistake.hint
    assert mistake.line == 5


def test_zones_and_summer_time() -> None:
    """A time that the clock leaves out is done at the next that there is; one that it has twice is done once."""
    berlin = Cron("30 2 * * *", "Europe/Berlin")
    assert berlin.next_after(at("2026-03-28T12:00")) == at("2026-03-29T01:00")
    assert berlin.next_after(at("2026-10-24T12:00")) == at("2026-10-25T00:30")
    assert berlin.next_after(at("2026-10-25T00:30")) == at("2026-10-26T01:30")


@settings(deadline=None)  # a busy machine is no failure
@given(
    cron=st.sampled_from(["* * * * *", "*/7 * * * *", "0 3 * * *", "0 0 1 * *", "*/5 * * * * *", "0 0 29 2 *"]),
    after=st.integers(0, 2_000_000_000), span=st.integers(0, 100_000),
)  # fmt: skip
def test_the_newest_time_is_the_last_of_those_that_come_next(cron: str, after: int, span: int) -> None:
    """Searching backwards finds what counting forward finds."""
    schedule, after_ms = Cron(cron), after * 1_000
    until_ms = after_ms + span * 1_000
    newest, found, steps = 0, schedule.next_after(after_ms), 0
    while found and found <= until_ms and steps < 2_000:
        newest, found, steps = found, schedule.next_after(found), steps + 1
    if steps < 2_000:
        assert schedule.newest(after_ms, until_ms) == newest
