"""Schedules and rates on a real broker: the clock gives tasks, a rate holds them, a kill in between changes neither."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from gateway_rig import Rig, commit, turn

from sutazai.cli.app import main

if TYPE_CHECKING:
    from collections.abc import Iterator


class Timed(Rig):
    """A fleet whose ``hello`` gets a task each second, and whose ``adder`` may start one turn in an hour."""

    def _plan(self) -> dict[str, Any]:
        plan = super()._plan()
        hello, adder = plan["agents"]
        hello["schedules"] = [
            {"name": "tick", "cron": "* * * * * *", "timezone": "UTC", "skill": "greet", "input": {"name": "clock"},
             "catch_up": "none", "priority": 0, "deadline_ms": 0}
        ]  # fmt: skip
        adder["rate"] = {"interval_us": 3_600_000_000, "burst": 1}
        return plan


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """One gateway and one broker."""
    with Timed() as made:
        yield made


def test_the_clock_gives_tasks_and_a_kill_doubles_none(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two times, the broker killed between them: two tasks, each known to the table with its time."""
    done = []
    for _ in range(2):
        with rig.instance() as worker:
            taken = turn(worker)
            assert taken["task"]["input"] == {"name": "clock"}
            done.append(taken["task"]["id"])
            commit(worker, taken, "tick")
        rig.kill("broker")
        rig.start("broker")
    assert len(set(done)) == 2
    (entry,) = rig.http.get(rig.url("agent:hello", "/tasks/schedules")).json()["schedules"]
    assert (entry["name"], entry["next_wall_ms"] > entry["last_wall_ms"] > 0) == ("tick", True)
    assert rig.http.get(rig.url("agent:adder", "/tasks/schedules")).json() == {"schedules": []}
    listed = rig.http.get(rig.url("edge", "/tasks?agent=hello&limit=1000")).json()["tasks"]
    assert {task["id"] for task in listed} >= {*done, entry["last_task"]}
    for key in ("SUTAZAI_FLEET", "SUTAZAI_STATE_ROOT", "SUTAZAI_RUN_ROOT"):
        monkeypatch.setenv(key, rig.env[key])
    for words, shown in ((["--json"], '"tick"'), ([], "* * * * * *")):
        monkeypatch.setattr(sys, "argv", ["sutazai", "task", "schedules", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        assert (stop.value.code or 0) == 0
        text = capsys.readouterr().out
        assert shown in (json.dumps(json.loads(text)) if words else text)


def test_a_rate_outlives_the_broker_that_began_it(rig: Rig) -> None:
    """The second task says when it may start, before and after a kill; no turn of it reaches an instance."""
    names = [
        rig.http.post(rig.url("agent:adder", "/tasks"), json={"skill": "greet", "input": {"name": "Ada"}}).json()["id"]
        for _ in range(2)
    ]
    with rig.instance("adder") as worker:
        commit(worker, turn(worker), "first")
    for _ in range(2):
        with rig.instance("adder") as worker:
            worker.send({"t": "pull"})
            worker.request({"t": "heartbeat", "task": "none", "fence": 1}, 30.0)  # the pull before it was served
            task = rig.http.get(rig.url("edge", f"/tasks/{names[1]}")).json()
        assert task["status"] == "queued"
        assert task["why"].startswith("rate limit, next in ")
        rig.kill("broker")
        rig.start("broker")
