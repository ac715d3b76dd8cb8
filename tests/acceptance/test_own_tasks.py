"""An agent looks after the work that it handed on, on a real fleet: state, cancellation, and what it may not touch."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import textwrap
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.client import TaskClient
from sutazai.testing.fleet import LiveFleet

if TYPE_CHECKING:
    from collections.abc import Iterator

BOSS = '''
import dataclasses

from sutazai.runtime import Agent, Context, Result, Wait

agent = Agent("{name}")


@agent.skill
def start(ctx: Context) -> Wait[str]:
    """Hand on something that lasts."""
    calls = [ctx.call("sleeper", "sleep", {{"seconds": 600.0}}), ctx.call("sleeper", "sleep", {{"seconds": 0.0}})]
    return Wait(calls, then=done)


@agent.step
def done(results: list[Result]) -> str:
    """Finish."""
    return "done"


@agent.skill
def look(task: str, ctx: Context) -> list[dict]:
    """Look at a task."""
    return [dataclasses.asdict(each) for each in ctx.tasks.tree(task)]


@agent.skill
def stop(task: str, ctx: Context) -> list[str]:
    """Call a task off."""
    return [each.status for each in ctx.tasks.cancel(task or ctx.task.id, "not wanted")]
'''
SLEEPER = '''
import time

from sutazai.runtime import Agent

agent = Agent("sleeper")


@agent.skill
def sleep(seconds: float) -> float:
    """Sleep."""
    time.sleep(seconds)
    return seconds
'''
BULKY = '''
import hashlib

from sutazai.runtime import Agent, Context, Result, Wait

agent = Agent("bulky")


@agent.skill
def make(letters: int) -> str:
    """Return many letters."""
    return "ab" * (letters // 2)


@agent.skill
def count(ctx: Context) -> list:
    """Count in the cache."""
    ctx.cache.set("n", ctx.cache.get("n", 0) + 1, ttl_s=600)
    return [ctx.cache.get("n"), ctx.cache.get_or("made", lambda: ctx.task.id)]


@agent.skill
def judge(letters: int, ctx: Context) -> Wait[list]:
    """Let another task make them."""
    return Wait([ctx.call("bulky", "make", {"letters": letters})], then=judged)


@agent.step
def judged(results: list[Result], ctx: Context) -> list:
    """Say what came."""
    text = results[0].require()
    recalled = ctx.results([results[0].task])[results[0].task].result
    return [len(text), hashlib.sha256(text.encode()).hexdigest(), recalled == text]
'''
MANIFEST = """
fleet: {fleet}
port_offset: {offset}
agents:
  boss: {file: boss.py, port: 10480, pool: standard, memory: 64MB, instances: 2}
  rival: {file: rival.py, port: 10481, pool: standard, memory: 64MB}
  sleeper: {file: sleeper.py, port: 10482, pool: standard, memory: 64MB, instances: 2}
  bulky: {file: bulky.py, port: 10483, pool: standard, memory: 224MB, instances: 1, result_max: 24MB}
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """A boss, a rival with the same code, and somebody who sleeps."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "sleeper.py").write_text(SLEEPER)
    (folder / "bulky.py").write_text(BULKY)
    for name in ("boss", "rival"):
        (folder / f"{name}.py").write_text(BOSS.format(name=name))
    text = textwrap.dedent(MANIFEST)
    for name in ("boss", "rival", "sleeper", "bulky"):
        text = text.replace(f"{name}.py", str(folder / f"{name}.py"))
    with LiveFleet(text) as live, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUTAZAI_RUN_ROOT", live.env["SUTAZAI_RUN_ROOT"])
        patch.setenv("SUTAZAI_STATE_ROOT", live.env["SUTAZAI_STATE_ROOT"])
        yield live


def ask(client: TaskClient, agent: str, skill: str, **given: Any) -> dict[str, Any]:
    """Ask and wait for the end."""
    accepted = client.submit([{"agent": agent, "skill": skill, "input": given}])[0]
    return client.wait(accepted["id"], timeout_s=60)


def test_seen_and_called_off(fleet: LiveFleet) -> None:
    """The running child is seen; others and the turn itself may not call it off; the agent may, and all of it ends."""
    with TaskClient(fleet.name) as client:
        goal = client.submit([{"agent": "boss", "skill": "start", "input": {}}])[0]["id"]
        until = time.monotonic() + 60
        states: set[tuple[str, str]] = set()
        while ("sleeper", "leased") not in states and time.monotonic() < until:
            seen = ask(client, "boss", "look", task=goal)["result"]
            states = {(task["agent"], task["status"]) for task in seen}
        assert ("boss", "waiting") in states
        assert ("sleeper", "leased") in states
        refused = ask(client, "rival", "stop", task=goal)
        assert (refused["status"], refused["error"]["code"]) == ("failed", "non-retryable")
        assert "is not one of rival" in refused["error"]["message"]
        itself = ask(client, "boss", "stop", task="")
        assert "is what this turn works for" in itself["error"]["message"]
        assert client.get(goal)["status"] == "waiting"
        stopped = ask(client, "boss", "stop", task=goal)
        assert stopped["result"][0] == "cancelled"
        assert set(stopped["result"][1:]) <= {"cancelled", "succeeded"}
        assert "cancelled" in stopped["result"][1:]
        assert ask(client, "boss", "stop", task=goal)["result"] == stopped["result"]
        while time.monotonic() < until:
            if all(entry["leased"] == 0 for entry in client.stats()["queues"].values()):
                break
            time.sleep(0.05)
        assert all(entry["leased"] == 0 for entry in client.stats()["queues"].values()), "nobody works for it any more"


def broker_peak_bytes(fleet: LiveFleet) -> int:
    """Most memory that the broker ever had."""
    process = next(process for process in fleet.status()["processes"] if process["name"] == "broker")
    text = Path(f"/proc/{process['pid']}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:"))) * 1024


def test_a_result_of_20_mb(fleet: LiveFleet, tmp_path: Path) -> None:
    """It is made, awaited, read by its parent, by a client, by the command line and over HTTP; the broker stays small.

    One above the agent's limit fails and says what to do.
    """
    letters = 20_000_000
    wanted = "ab" * (letters // 2)
    with TaskClient(fleet.name) as client:
        ask(client, "bulky", "make", letters=2)
        before = broker_peak_bytes(fleet)
        judged = ask(client, "bulky", "judge", letters=letters)
        assert judged["result"] == [letters, hashlib.sha256(wanted.encode()).hexdigest(), True], judged
        (child,) = [task for task in client.tree(judged["id"]) if task["parent"]]
        reference = child["result_ref"]
        assert (child["result"], reference["bytes"]) == (None, letters + 2)
        assert client.result(client.get(child["id"])) == wanted
        assert broker_peak_bytes(fleet) - before < 12_000_000, "the broker holds parts, not results"
        assert [path.name for path in (fleet.state / "payloads").iterdir()] == [reference["file"]]
        refused = ask(client, "bulky", "make", letters=25_200_000)
    assert (refused["status"], refused["error"]["code"]) == ("failed", "invalid-output")
    assert "limit of bulky is 24 MB" in refused["error"]["message"]
    done = fleet.command("task", "result", child["id"], "--output", str(tmp_path / "result.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "result.json").read_bytes()) == wanted
    with urllib.request.urlopen(f"http://127.0.0.1:{fleet.port(10483)}/tasks/{child['id']}/result") as answer:
        assert answer.headers["ETag"] == f'"{reference["digest"]}"'
        assert answer.headers["Content-Length"] == str(letters + 2)
        assert f"sha256:{hashlib.sha256(answer.read()).hexdigest()}" == reference["digest"]


def test_what_an_agent_keeps_in_its_cache(fleet: LiveFleet) -> None:
    """The next task finds it, also after the broker was restarted; it is counted."""
    with TaskClient(fleet.name) as client:
        first = ask(client, "bulky", "count")
        assert first["result"] == [1, first["id"]]
        assert ask(client, "bulky", "count")["result"] == [2, first["id"]]
        process = next(process for process in fleet.status()["processes"] if process["name"] == "broker")
        os.kill(process["pid"], signal.SIGKILL)
        again = {"agent": "bulky", "skill": "count", "input": {}, "idempotency_key": "again"}  # so it is asked again
        assert client.wait(client.submit([again])[0]["id"], 60)["result"] == [3, first["id"]]
        cache = client.stats()["cache"]
    assert (cache["driver"], cache["state"], cache["set"], cache["failed"]) == ("file", "up", 1, 0)
