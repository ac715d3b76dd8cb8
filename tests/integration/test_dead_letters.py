"""Dead letters on a real broker behind a real gateway: command line, HTTP, and a broker that is killed in between."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from gateway_rig import WAIT_S, Rig, commit, turn

from sutazai.cli.app import main
from sutazai.ids import replay_task_id

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """One gateway and one broker."""
    with Rig() as made:
        yield made


def dead(rig: Rig, agent: str) -> str:
    """Let a task of an agent die of its one attempt."""
    answer = rig.http.post(rig.url(f"agent:{agent}", "/tasks"), json={"skill": "greet", "input": {"name": "Ada"}})
    name: str = answer.json()["id"]
    with rig.instance(agent) as worker:
        for _ in range(4):
            taken = turn(worker)
            failed = {"t": "commit", "task": name, "fence": taken["fence"], "outcome": "failed"}
            worker.request({**failed, "error": {"code": "boom", "message": "it broke [red]"}}, WAIT_S)
    return name


def command(monkeypatch: pytest.MonkeyPatch, rig: Rig, *words: str) -> int:
    """Run the command line on the fleet of the test."""
    for key, value in rig.env.items():
        if key.startswith("SUTAZAI_"):
            monkeypatch.setenv(key, value)
    monkeypatch.setattr(sys, "argv", ["sutazai", "task", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_a_dead_letter_is_read_replayed_and_done(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Listed with its error, replayed by the command line, again by HTTP after a kill of the broker: one task, done."""
    name = dead(rig, "hello")
    assert command(monkeypatch, rig, "dead", "--json") == 0
    (letter,) = json.loads(capsys.readouterr().out)
    assert (letter["id"], letter["error"]["message"], len(letter["turns"])) == (name, "it broke [red]", 4)
    assert command(monkeypatch, rig, "dead") == 0
    assert "it broke [red]" in capsys.readouterr().out.replace("\n", " ")
    assert command(monkeypatch, rig, "replay", name) == 0
    assert replay_task_id(name) in capsys.readouterr().out
    rig.kill("broker")
    rig.start("broker")
    again = rig.http.post(rig.url("agent:hello", f"/tasks/{name}/replay"))
    assert (again.status_code, again.json()["replay"], again.json()["duplicate"]) == (200, replay_task_id(name), True)
    with rig.instance() as worker:
        taken = turn(worker)
        assert taken["task"]["id"] == replay_task_id(name)
        commit(worker, taken, "Hello at last!")
    old: dict[str, Any] = rig.http.get(rig.url("edge", f"/tasks/{name}")).json()
    new: dict[str, Any] = rig.http.get(rig.url("edge", f"/tasks/{replay_task_id(name)}")).json()
    assert (old["status"], old["replayed_by"]) == ("dead", new["id"])
    assert (new["status"], new["result"], new["replay_of"]) == ("succeeded", "Hello at last!", name)


def test_all_of_an_agent_and_what_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--agent`` takes those that nobody handled; a wrong name, or none, is told apart by its exit code."""
    names = [dead(rig, "adder") for _ in range(2)]
    assert command(monkeypatch, rig, "discard", names[0]) == 0
    assert command(monkeypatch, rig, "replay", names[0]) == 1
    assert "discarded by" in capsys.readouterr().err
    assert command(monkeypatch, rig, "replay", "--agent", "adder", "--json") == 0
    assert [entry["task"] for entry in json.loads(capsys.readouterr().out)] == [names[1]]
    assert command(monkeypatch, rig, "replay", "--agent", "adder") == 0
    assert command(monkeypatch, rig, "dead", "--agent", "addr") == 4
    assert command(monkeypatch, rig, "replay") == 2
    listed = rig.http.get(rig.url("agent:adder", "/tasks/dead-letters?handled=true")).json()["tasks"]
    assert [task["handled"] for task in listed] == ["replayed", "discarded"]
