"""Schedules become tasks: once each, at their times, across restarts, missed times and clocks that jump."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from broker_rig import Rig

from sutazai.ids import occurrence_task_id
from sutazai.limits import QUEUE_TASKS_MAX
from sutazai.wire.planfacts import AgentFacts

MINUTE, HOUR = 60_000, 3_600_000


def facts(**fields: Any) -> dict[str, AgentFacts]:
    """One agent with one schedule."""
    schedule = {
        "name": "tick", "cron": "* * * * *", "timezone": "UTC", "skill": "do", "input": {"x": 1}, "catch_up": "none",
        "priority": 3, "deadline_ms": 0, **fields,
    }  # fmt: skip
    return {"a": AgentFacts("a", "/m", skills=[{"name": "do"}], deadline_ms=5_000, schedules=[schedule])}


def made(rig: Rig) -> list[str]:
    """Times that became tasks, oldest first."""
    rows = rig.store._connection.execute("SELECT id, created_wall_ms FROM tasks ORDER BY seq").fetchall()
    found = []
    for name, created_wall_ms in rows:
        at_ms = next(at for at in range(created_wall_ms // 1_000 * 1_000, 0, -1_000)
                     if occurrence_task_id("a", "tick", at) == name)  # fmt: skip
        found.append(datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%H:%M"))
    return found


def table(rig: Rig) -> list[dict[str, Any]]:
    """The schedules, as a client reads them."""
    peer, session = rig.client()
    rig.say(session, {"t": "schedules", "id": 1})
    found: list[dict[str, Any]] = peer.heard.pop()["schedules"]
    return found


@pytest.fixture
def rig() -> Rig:
    """A broker with a schedule of every minute that has begun: 22:13:20 on the wall."""
    started = Rig(agents=facts())
    started.pass_time(1_000)
    return started


def restart(rig: Rig, away_ms: int, **fields: Any) -> None:
    """Let the broker be away for a time."""
    rig.clock.advance(away_ms)
    rig.start(agents=facts(**fields))
    rig.pass_time(1_000)


def test_a_schedule_gives_its_task_at_each_time(rig: Rig) -> None:
    """Nothing at the start; then one a minute, with what the plan says of it."""
    assert made(rig) == []
    rig.pass_time(2 * MINUTE)
    assert made(rig) == ["22:14", "22:15"]
    row = rig.store._connection.execute(
        "SELECT skill, priority, deadline_ms - order_key + 3 * 10000 FROM tasks"
    ).fetchone()
    assert row == ("do", 3, 5_000)
    assert table(rig) == [
        {"agent": "a", "name": "tick", "cron": "* * * * *", "timezone": "UTC", "skill": "do", "catch_up": "none",
         "next_wall_ms": 1_700_000_160_000, "last_wall_ms": 1_700_000_100_000,
         "last_task": occurrence_task_id("a", "tick", 1_700_000_100_000)}
    ]  # fmt: skip


def test_a_restart_repeats_nothing_and_a_short_one_misses_nothing(rig: Rig) -> None:
    """A time that was done is not done again; one that passed some seconds ago still counts as in time."""
    rig.pass_time(MINUTE)
    restart(rig, 100)
    assert made(rig) == ["22:14"]
    rig.pass_time(37_000)  # 22:14:59
    restart(rig, 5_000)
    assert made(rig) == ["22:14", "22:15"]


@pytest.mark.parametrize(("catch_up", "times"), [("none", []), ("last", ["23:13"])])
def test_what_was_missed_is_left_out_or_done_once(rig: Rig, catch_up: str, times: list[str]) -> None:
    """An hour away: none, or the last one, never sixty."""
    restart(rig, HOUR + 10_000, catch_up=catch_up)
    assert made(rig) == times
    rig.pass_time(MINUTE)
    assert made(rig) == [*times, "23:14"]


@pytest.mark.parametrize(("catch_up", "times"), [("none", []), ("last", ["01:13"])])
def test_a_clock_that_jumps_forward_is_no_burst(rig: Rig, catch_up: str, times: list[str]) -> None:
    """It is like having been away."""
    rig.broker.replan(facts(catch_up=catch_up))
    rig.clock.jump_wall(3 * HOUR + 20_000)
    rig.pass_time(1_000)
    assert made(rig) == times


def test_a_clock_that_jumps_back_repeats_nothing(rig: Rig) -> None:
    """Half an hour back: it waits until the clock is where it was. A day back: it begins anew, without repeating."""
    rig.pass_time(2 * MINUTE)
    rig.clock.jump_wall(-HOUR // 2)
    rig.pass_time(10 * MINUTE)
    assert made(rig) == ["22:14", "22:15"]
    rig.pass_time(21 * MINUTE)
    assert made(rig) == ["22:14", "22:15", "22:16"]
    rig.clock.jump_wall(-24 * HOUR)
    rig.pass_time(2 * MINUTE)
    assert made(rig) == ["22:14", "22:15", "22:16", "22:17", "22:18"]  # of the day before
    rig.clock.jump_wall(24 * HOUR - 2 * MINUTE)
    rig.pass_time(2 * MINUTE)
    assert made(rig)[5:] == ["22:17", "22:18"]  # of this day, which never were


def test_a_full_queue_is_waited_for(rig: Rig) -> None:
    """The time is not lost while the store takes nothing, however long that lasts."""
    rig.store.counts.open = QUEUE_TASKS_MAX
    rig.pass_time(MINUTE + 15_000)
    assert made(rig) == []
    rig.store.counts.open = 0
    rig.pass_time(1_000)
    assert made(rig) == ["22:14"]


def test_a_changed_expression_counts_from_now_on(rig: Rig) -> None:
    """The plan is swapped while the broker runs; what it does not understand is passed over."""
    rig.broker.replan(facts(cron="30 * * * *"))
    rig.pass_time(5 * MINUTE)
    assert made(rig) == []
    rig.pass_time(12 * MINUTE)
    assert made(rig) == ["22:30"]
    rig.broker.replan(facts(timezone="Mars/Olympus"))
    rig.pass_time(5 * MINUTE)
    assert made(rig) == ["22:30"]
    assert table(rig)[0]["next_wall_ms"] == 0


def test_the_task_says_which_schedule_it_is_of(rig: Rig) -> None:
    """In its first event; and clients can ask for the table."""
    rig.pass_time(MINUTE)
    (entry,) = table(rig)
    peer, session = rig.client()
    peer.heard.clear()
    rig.say(session, {"t": "watch", "id": 2, "task": entry["last_task"]})
    assert peer.heard.popleft()["event"]["data"] == {"schedule": "tick"}
