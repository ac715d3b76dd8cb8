"""Real zygotes, real instances and the real broker, under a fake ``sutazaid``: agent code does its worst."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPEC = importlib.util.spec_from_file_location("zygote_rig", Path(__file__).parent / "zygote_rig.py")
assert _SPEC is not None
assert _SPEC.loader is not None
zygote_rig = importlib.util.module_from_spec(_SPEC)
sys.modules["zygote_rig"] = zygote_rig
_SPEC.loader.exec_module(zygote_rig)
Rig = zygote_rig.Rig

WORKER = '''
import asyncio, os, subprocess, sys, threading, time
from pathlib import Path
from sutazai.runtime import Agent, Context, NonRetryableError, Result, Wait

agent = Agent("worker")
os.environ["KEPT"] = "yes"

@agent.skill
def greet(name: str, ctx: Context) -> dict:
    """Say who and where."""
    print("printed by the skill")
    ctx.log.info("greeting", name=name)
    status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    (ctx.scratch / "note").write_text("x")
    return {
        "text": f"Hello, {name}!", "uid": os.getuid(), "pid": os.getpid(), "cwd": os.getcwd(),
        "scratch": str(ctx.scratch), "settings": ctx.settings, "name": Path("/proc/self/comm").read_text().strip(),
        "capabilities": status["CapPrm"].strip(), "no_new_privs": status["NoNewPrivs"].strip(),
        "groups": os.getgroups(), "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd")),
        "left": ctx.deadline_left_s(), "attempt": ctx.task.attempt,
    }

@agent.skill
def wait_plain(ctx: Context, seconds: float = 600.0) -> str:
    """Hold the main thread."""
    ctx.progress(0.5, "half")
    time.sleep(seconds)
    return "slept"

@agent.skill
async def wait_async(ctx: Context, seconds: float = 600.0) -> str:
    """Hold the loop the good way."""
    asyncio.create_task(asyncio.sleep(600))
    await asyncio.sleep(seconds)
    return "slept"

@agent.skill
def stubborn(ctx: Context) -> str:
    """Swallow everything that can be swallowed, for a while."""
    for _ in range(3):
        try:
            time.sleep(600)
        except BaseException:
            if ctx.cancelled:
                return "cancelled anyway"
    return "not reached"

@agent.skill
def misbehave(how: str) -> str:
    """Do something bad."""
    if how == "raise":
        raise ValueError("boom")
    if how == "never":
        raise NonRetryableError("no use")
    if how == "exit":
        sys.exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "fork":
        if os.fork() == 0:
            return "the child came back"
        os.wait()
    if how == "thread":
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    return how

@agent.skill
def wrong(ctx: Context) -> int:
    """Return the wrong type."""
    return "text"

@agent.skill
def die_once(ctx: Context) -> int:
    """End the process in the first attempt."""
    if ctx.task.attempt == 1:
        os._exit(9)
    return ctx.task.attempt

@agent.skill
def count(ctx: Context) -> int:
    """Count in a session, with a checkpoint between; the process ends once behind it."""
    ctx.state["n"] = ctx.state.get("n", 0) + 1
    if ctx.state["n"] == 1:
        ctx.emit("worker", "greet", {"name": "emitted"})
        ctx.checkpoint()
        os._exit(9)
    ctx.progress(1.0)
    return ctx.state["n"]

@agent.skill
def spread(ctx: Context, names: list[str]) -> Wait[list[str]]:
    """Ask oneself many times, then once more."""
    return Wait([ctx.call("worker", "echo", {"text": name}) for name in names], then=gather, carry={"rounds": 1})

@agent.skill
def echo(text: str) -> str:
    """Say it again."""
    if text == "fail":
        raise NonRetryableError("asked to")
    return text.upper()

@agent.step
def gather(ctx: Context, results: list[Result], carry: dict) -> list[str] | Wait[list[str]]:
    """Collect, and go one more round."""
    texts = [result.result if result.ok else result.error["code"] for result in results]
    if carry["rounds"] == 1 and texts:
        again = [ctx.call("worker", "echo", {"text": text}) for text in texts]
        return Wait(again, then=gather, carry={"rounds": 2})
    return texts
'''
BROKEN = """
from sutazai.runtime import Agent
agent = Agent("broken")
import no_such_module_anywhere

@agent.skill
def any() -> str:
    pass
"""
ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def rig() -> Iterator[zygote_rig.Rig]:
    """A fleet that the tests of this module share; each test leaves it usable."""
    with Rig({"worker": WORKER, "broken": BROKEN}, uids=ROOT) as fleet:
        yield fleet


def test_an_instance_is_what_it_may_be(rig: zygote_rig.Rig) -> None:
    """A woken agent runs as its own user without rights, in a folder of its own, with only its own descriptors."""
    task = rig.run("worker", "greet", {"name": "Ann"})
    assert task["status"] == "succeeded", rig.logs()
    found = task["result"]
    assert (found["text"], found["name"], found["settings"]) == ("Hello, Ann!", "worker", {"colour": "blue"})
    assert found["no_new_privs"] == "1"
    assert found["cwd"] == found["scratch"]
    assert 0 < found["left"] <= 600
    assert len(found["descriptors"]) <= 9
    (live,) = [each for each in rig.live() if each["agent"] == "worker"]
    assert (found["pid"], found["uid"]) == (live["pid"], live["uid"])
    if ROOT:
        assert found["uid"] >= 23_000
        assert int(found["capabilities"], 16) == 0
        assert found["groups"] == []
    assert {event["subject"]: event["active"] for event in rig.events("condition")}.get("worker") in {False, None}
    log = (rig.paths.logs / "worker.log").read_text()
    assert "printed by the skill\n" in log
    line = json.loads(next(line for line in log.splitlines() if "greeting" in line))
    assert (line["text"], line["name"], line["agent"], line["task"]) == ("greeting", "Ann", "worker", task["id"])


def test_one_instance_serves_many_tasks(rig: zygote_rig.Rig) -> None:
    """Tasks that follow each other run in the same process, plain and async ones."""
    pids = {rig.run("worker", "greet", {"name": str(n)})["result"]["pid"] for n in range(5)}
    assert len(pids) == 1
    assert rig.run("worker", "wait_async", {"seconds": 0.0})["result"] == "slept"
    assert rig.run("worker", "wait_async", {"seconds": 0.0})["result"] == "slept"


@pytest.mark.parametrize(
    ("skill", "data", "status", "code"),
    [
        ("misbehave", {"how": "raise"}, "dead", "skill-failed"),
        ("misbehave", {"how": "exit"}, "dead", "skill-failed"),
        ("misbehave", {"how": "interrupt"}, "dead", "skill-failed"),
        ("misbehave", {"how": "never"}, "failed", "non-retryable"),
        ("misbehave", {"how": 3}, "failed", "invalid-input"),
        ("misbehave", {}, "failed", "invalid-input"),
        ("wrong", {}, "failed", "invalid-output"),
    ],
)
def test_failures_reach_the_caller(
    rig: zygote_rig.Rig, skill: str, data: dict[str, object], status: str, code: str
) -> None:
    """Raising, leaving, wrong input and wrong output end the task with their code and place, not the instance."""
    task = rig.run("worker", skill, data, attempts_max=2)
    assert (task["status"], task["error"]["code"]) == (status, code), task
    assert len(rig.turns(task["id"])) == (2 if status == "dead" else 1)


@pytest.mark.parametrize("how", ["fork", "thread"])
def test_forks_and_threads_of_a_skill(rig: zygote_rig.Rig, how: str) -> None:
    """A forked child that comes back is not a second instance; a thread left behind does not hold the instance."""
    assert rig.run("worker", "misbehave", {"how": how})["result"] == how
    assert rig.run("worker", "echo", {"text": "a"})["result"] == "A"


@pytest.mark.parametrize("skill", ["wait_plain", "wait_async", "stubborn"])
def test_cancel(rig: zygote_rig.Rig, skill: str) -> None:
    """A cancelled task's skill is stopped, plain and async, and the same instance takes the next task."""
    task = rig.submit("worker", skill)
    pid = rig.wait_for_turn(task)["pid"]
    assert rig.client is not None
    rig.client.request({"t": "cancel", "task": task}, 60)
    assert rig.result(task)["status"] == "cancelled"
    assert rig.run("worker", "greet", {"name": "next"})["result"]["pid"] == pid


@pytest.mark.parametrize("skill", ["wait_plain", "wait_async"])
def test_deadline(rig: zygote_rig.Rig, skill: str) -> None:
    """A skill that runs past its deadline is stopped, the task expires, and the instance lives on."""
    task = rig.submit("worker", skill, {}, deadline_ms=400)
    assert rig.result(task)["status"] == "expired"
    assert rig.run("worker", "echo", {"text": "a"})["result"] == "A"


def test_progress_is_seen(rig: zygote_rig.Rig) -> None:
    """Progress of a turn that lasts reaches whoever watches the task, long before the turn's end."""
    task = rig.submit("worker", "wait_plain", {"seconds": 600})
    watcher = rig.connect()
    number = watcher.next_id()
    watcher.send({"t": "watch", "id": number, "task": task})
    kinds = []
    while "progress" not in kinds:
        incoming = watcher.receive(60)
        assert incoming is not None
        event = incoming[0]["event"]
        kinds.append(event["kind"])
        if event["kind"] == "progress":
            assert event["data"] == {"fraction": 0.5, "text": "half"}
    watcher.close()
    assert rig.client is not None
    rig.client.request({"t": "cancel", "task": task}, 60)
    assert rig.result(task)["status"] == "cancelled"


def test_a_killed_turn_runs_again(rig: zygote_rig.Rig) -> None:
    """A process that dies in a turn costs an attempt; the next one finishes the task."""
    task = rig.run("worker", "die_once")
    assert (task["status"], task["result"]) == ("succeeded", 2), f"{rig.turns(task['id'])}\n{rig.logs()}"
    assert [turn["outcome"] for turn in rig.turns(task["id"])] == ["lost", "result"]


def test_a_checkpoint_survives_the_process(rig: zygote_rig.Rig) -> None:
    """State and emitted tasks of a checkpoint are kept when the process dies behind it; nothing is emitted twice."""
    task = rig.run("worker", "count", session="s1")
    assert (task["status"], task["result"]) == ("succeeded", 2), f"{rig.turns(task['id'])}\n{rig.logs()}"
    assert rig.client is not None
    tree = rig.client.request({"t": "tree", "task": task["id"]}, 60)["tasks"]
    assert [entry["skill"] for entry in tree if entry["id"] != task["id"]] == ["greet"]
    state = rig.client.request({"t": "state", "agent": "worker", "session": "s1"}, 60)
    assert state["state"] == {"n": 2}


def test_waits_go_round(rig: zygote_rig.Rig) -> None:
    """Calls run, their results come back in order, failed ones too, and a step may wait again."""
    task = rig.run("worker", "spread", {"names": ["a", "fail", "b"]})
    assert task["status"] == "succeeded", task
    assert task["result"] == ["A", "NON-RETRYABLE", "B"]
    assert rig.run("worker", "spread", {"names": []})["result"] == []


def test_an_agent_that_cannot_be_imported(rig: zygote_rig.Rig) -> None:
    """Its task fails with the import's error and place, counted and bounded, instead of waking for ever."""
    task = rig.run("broken", "any", attempts_max=2)
    assert task["status"] == "dead", task
    assert "no_such_module_anywhere" in task["error"]["message"]


def test_hibernate(rig: zygote_rig.Rig) -> None:
    """An idle instance agrees with the broker and leaves with 0, its scratch folder with it; the next task wakes it."""
    rig.write_plan(keep_ms=100)
    found = rig.run("worker", "greet", {"name": "Ann"})["result"]
    os.kill(found["pid"], signal.SIGTERM)  # it still has the long keep time of the shared fleet
    rig.wait(lambda: rig.events("exit", pid=found["pid"]), "the old instance's exit")
    found = rig.run("worker", "greet", {"name": "Ann"})["result"]
    (event,) = rig.wait(lambda: rig.events("exit", pid=found["pid"]), "the exit")
    assert event["code"] == 0
    assert not Path(found["scratch"]).exists()
    again = rig.run("worker", "greet", {"name": "Bob"})
    assert again["result"]["pid"] != found["pid"]
    rig.write_plan()


def test_terminate_finishes_the_turn(rig: zygote_rig.Rig) -> None:
    """SIGTERM in the middle of a turn lets the turn commit, then the instance exits with 0."""
    task = rig.submit("worker", "wait_plain", {"seconds": 0.5})
    pid = rig.wait_for_turn(task)["pid"]
    os.kill(pid, signal.SIGTERM)
    assert rig.result(task)["result"] == "slept"
    (event,) = rig.wait(lambda: rig.events("exit", pid=pid), "the exit")
    assert event["code"] == 0
    assert [turn["outcome"] for turn in rig.turns(task)] == ["result"]


def test_zygote_killed_while_an_instance_works(rig: zygote_rig.Rig) -> None:
    """Kill -9 of the worker and of the root zygote leaves the running turn alone; a new zygote forks the next one."""
    task = rig.submit("worker", "wait_plain", {"seconds": 1.0})
    rig.wait_for_turn(task)
    for name in ("python-0", "zygote"):
        os.kill(rig.events("register", worker=name)[-1]["pid"], signal.SIGKILL)
    assert rig.result(task)["result"] == "slept"
    assert [turn["outcome"] for turn in rig.turns(task)] == ["result"]
    before = len(rig.events("register", worker="python-0"))
    rig.ask(op="forget")
    rig.ask(op="start", process="zygote")
    rig.wait(lambda: len(rig.events("register", worker="python-0")) > before, "a new worker")
    rig.ask(op="end", agent="worker")
    assert rig.run("worker", "echo", {"text": "a"})["result"] == "A"


def test_broker_killed_while_an_instance_works(rig: zygote_rig.Rig) -> None:
    """Kill -9 of the broker in the middle of a turn: the instance comes back to it and commits the same turn."""
    task = rig.submit("worker", "wait_plain", {"seconds": 1.5})
    rig.wait_for_turn(task)
    os.kill(rig.events("started", process="broker")[-1]["pid"], signal.SIGKILL)
    rig.wait(lambda: rig.events("exit", process="broker"), "the broker's end")
    rig.ask(op="start", process="broker")
    rig.reconnect()
    assert rig.result(task)["result"] == "slept"
    assert [turn["outcome"] for turn in rig.turns(task)] == ["result"]


def test_sutazaid_away(rig: zygote_rig.Rig) -> None:
    """Closed connections of the supervisor change nothing: the zygotes come back by themselves and fork again."""
    before = len(rig.events("register", worker="python-0"))
    rig.ask(op="hang-up")
    rig.wait(lambda: len(rig.events("register", worker="python-0")) > before, "the worker's return")
    rig.ask(op="end", agent="worker")
    assert rig.run("worker", "echo", {"text": "a"})["result"] == "A"
