"""Workflows on a real fleet: every kind of step, people and signals, cancellation, resumption, and six kills."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from workflow_rig import client_of, kill, process, start, until, workflow_fleet

from sutazai.workflow import Workflow, approve, ask, choose, each, otherwise, parallel, sequence, signal, when

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sutazai.client import TaskClient
    from sutazai.testing.fleet import LiveFleet

ALL_KINDS = """
workflow: all-kinds
inputs: {list: array, deep: {type: integer, default: 2}}
steps:
  - {name: first, ask: worker.add, with: {a: "${inputs.deep}", b: 3}}
  - name: items
    map: inputs.list
    as: n
    width: 2
    do: {ask: worker.add, with: {a: "${n}", b: "${steps.first.result}"}}
  - name: both
    parallel:
      - {name: x, ask: worker.add, with: {a: 1}}
      - {name: y, ask: worker.add, with: {a: "${steps.x.result}"}}
      - name: z
        steps:
          - {name: z1, ask: worker.add, with: {a: 5}}
          - {name: z2, ask: worker.add, with: {a: "${steps.z1.result}", b: "${len(steps.items.result)}"}}
  - {name: never, if: steps.first.result > 100, ask: worker.refuse}
  - {name: bad, ask: worker.refuse, on_error: continue}
  - name: way
    choose:
      - if: steps.never.status == 'skipped' and steps.bad.error.code == 'non-retryable'
        steps: [{name: ok, ask: worker.add, with: {a: "${sum(steps.items.result)}"}}]
      - steps: [{name: no, ask: worker.refuse}]
output: {items: "${steps.items.result}", both: "${steps.both.result}", way: "${steps.way.result}"}
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFleet]:
    """An orchestrator and a worker."""
    with workflow_fleet(tmp_path_factory.mktemp("flow")) as live:
        yield live


@pytest.fixture(scope="module")
def client(fleet: LiveFleet) -> Iterator[TaskClient]:
    """A client of the fleet."""
    with client_of(fleet) as made:
        yield made


def of_label(client: TaskClient, run: str, label: str) -> dict[str, Any]:
    """The task of a step; empty while there is none."""
    return next((task for task in client.tree(run) if task["label"] == label), {})


def trace_of(fleet: LiveFleet, name: str) -> str:
    """A file to which workers write; each instance has a user of its own."""
    path = fleet.folder / "t" / name
    path.touch()
    path.chmod(0o666)
    return str(path)


def lines(path: str) -> list[str]:
    """What workers wrote."""
    return Path(path).read_text(encoding="utf-8").splitlines()


def test_every_kind_of_step(fleet: LiveFleet, client: TaskClient) -> None:
    """A list, a map, a parallel with an order of its own, a condition, a failure that is let be, a choice."""
    done = client.wait(start(client, ALL_KINDS, list=[1, 2, 3]), 60)
    assert done["error"] is None
    assert done["result"]["result"] == {"items": [6, 7, 8], "both": {"x": 2, "y": 3, "z": 9}, "way": 22}
    told = fleet.command("workflow", "history", done["id"], "--json")
    assert '"step": "items 2"' in told.stdout
    assert "bold" not in fleet.command("task", "tree", done["id"]).stdout


def test_a_map_never_grows_beyond_its_width(fleet: LiveFleet, client: TaskClient) -> None:
    """Four instances are there, and three items at once are asked for; the results are in order."""
    path = trace_of(fleet, "width")
    flow = Workflow("wide", {"list": "array"})
    flow.add(each("items", "inputs.list", ask("do", "worker.add", a="${item}", trace_to=path, seconds=0.25), width=3))
    done = client.wait(start(client, flow.document(), list=list(range(9))), 60)
    assert done["result"]["result"] == [number + 1 for number in range(9)]
    events = sorted((float(line.split()[2]), line.split()[0]) for line in lines(path))
    now = most = 0
    for _, kind in events:
        now += 1 if kind == "begin" else -1
        most = max(most, now)
    assert 1 < most <= 3


def test_retry_and_timeout(fleet: LiveFleet, client: TaskClient) -> None:
    """A step that fails is tried as often as it says, one that lasts too long is ended; the run says which and why."""
    flow = Workflow("again")
    retry = {"attempts": 3, "pause": "10ms"}
    flow.add(ask("flaky", "worker.flaky", path=trace_of(fleet, "flaky"), fails=2), retry=retry)
    slow = ask("slow", "worker.add", a=1, seconds=60, trace_to=trace_of(fleet, "slow"))
    flow.add(slow, retry={"attempts": 2, "pause": "10ms"}, timeout="400ms")
    run = start(client, flow.document())
    done = client.wait(run, 60)
    assert (done["status"], done["error"]["code"]) == ("failed", "step-failed")
    assert done["error"]["message"].startswith("step slow expired: its deadline passed")
    assert len(lines(trace_of(fleet, "flaky"))) == 3
    assert [task["status"] for task in client.tree(run) if task["label"] in {"slow", "slow (try 2)"}] == ["expired"] * 2


def test_a_step_falls_back_and_the_history_says_so(fleet: LiveFleet, client: TaskClient) -> None:
    """On a value, on another skill, and only in the place of the last of its attempts."""
    path = trace_of(fleet, "fallback")
    flow = Workflow("instead")
    flow.add(ask("value", "worker.refuse"), fallback={"value": {"n": 1}})
    other = {"ask": "worker.add", "with": {"a": "${steps.value.result.n}", "b": 4}}
    flow.add(ask("other", "worker.refuse", why="closed"), fallback=other)
    flaky = ask("last", "worker.flaky", path=path, fails=9)
    flow.add(flaky, retry={"attempts": 2, "pause": "10ms"}, fallback={"value": 7})
    flow.result(["${steps.value.result}", "${steps.other.result}", "${steps.last.result}"])
    run = start(client, flow.document())
    assert client.wait(run, 60)["result"]["result"] == [{"n": 1}, 5, 7]
    assert len(lines(path)) == 2
    shown = fleet.command("workflow", "history", run, "--json").stdout
    steps = {step["step"]: step for step in json.loads(shown)["steps"]}
    assert steps["other"]["fallback"] == "worker.add after worker.refuse failed"
    assert steps["last (try 2)"]["fallback"] == "value after worker.flaky dead"
    assert steps["last"]["status"] == "dead"


def test_a_person_is_waited_for_across_a_restart_of_the_broker(fleet: LiveFleet, client: TaskClient) -> None:
    """Nothing is in memory while it waits; the answer comes by the command line; a second one is refused."""
    flow = Workflow("people")
    flow.add(approve("ok", "Really ${1 + 1}?", show={"n": 1}))
    flow.add(signal("paid", "paid"))
    flow.result("${[steps.ok.result.by, steps.ok.result.data, steps.paid.result.data]}")
    run = start(client, flow.document())
    until(lambda: of_label(client, run, "ok"))
    kill(process(fleet, "broker"))
    until(lambda: client.get(run)["status"] == "waiting")
    assert "Really 2?" in fleet.command("task", "waiting").stdout
    early = fleet.command("task", "signal", run, "paid", "--data", '{"sum": 3}')
    assert (early.returncode, "it is kept" in early.stdout) == (0, True), early.stderr
    told = fleet.command("task", "approve", run, "--by", "ada", "--comment", "fine", "--data", "[7]")
    assert "is approved" in told.stdout, told.stderr
    again = fleet.command("task", "approve", of_label(client, run, "ok")["id"], "--by", "bob")
    assert (again.returncode, "approved by ada before" in again.stderr) == (4, True)
    assert client.wait(run, 60)["result"]["result"] == ["ada", [7], {"sum": 3}]


def test_a_no_ends_the_run(client: TaskClient) -> None:
    """The run fails and says who said no; a choice could have asked for it."""
    flow = Workflow("no")
    flow.add(approve("ok", "?"), on_error="continue")
    said_no = when("get(steps.ok, 'error.code') == 'denied'", approve("sure", "really not?"))
    flow.add(choose("way", said_no, otherwise(ask("go", "worker.add", a=1))))
    run = start(client, flow.document())
    until(lambda: of_label(client, run, "ok"))
    client.deny(run, by="ada", comment="too late")
    until(lambda: of_label(client, run, "sure"))
    client.deny(run, by="ada")
    assert client.wait(run, 60)["error"]["message"].startswith("step sure failed: denied by ada (denied)")


def test_cancelling_stops_the_tree(fleet: LiveFleet, client: TaskClient) -> None:
    """Everything that is open ends with the run: running work, inner blocks, a person that is asked."""
    flow = Workflow("stop")
    slow = ask("slow", "worker.add", a=1, seconds=60, trace_to=trace_of(fleet, "stop"))
    flow.add(parallel("all", slow, sequence("inner", approve("ok", "?")), ask("quick", "worker.add", a=1)))
    run = start(client, flow.document())
    until(lambda: lines(trace_of(fleet, "stop")) and of_label(client, run, "ok"))
    until(lambda: of_label(client, run, "quick").get("status") == "succeeded")
    client.cancel(run)
    ends = {task["label"]: task["status"] for task in client.tree(run)}
    assert ends.pop("quick") == "succeeded"
    assert set(ends.values()) == {"cancelled"}
    assert len(ends) == 6


def test_a_failure_calls_off_what_runs_beside_it(client: TaskClient) -> None:
    """In a parallel that fails nothing is left open."""
    flow = Workflow("fast")
    flow.add(parallel("all", approve("ok", "?"), ask("bad", "worker.refuse", why="because")))
    run = start(client, flow.document())
    done = client.wait(run, 60)
    assert "step bad failed: because (non-retryable)" in done["error"]["message"]
    assert of_label(client, run, "ok")["status"] == "cancelled"


def test_resume_goes_on_behind_what_is_done(fleet: LiveFleet, client: TaskClient) -> None:
    """No finished step runs again, in a list, a map and a nested block; results of both runs make the end."""
    path, gate = trace_of(fleet, "resume"), trace_of(fleet, "gate")
    flow = Workflow("later")
    flow.add(ask("one", "worker.add", a=1, trace_to=path))
    inner = sequence("body", ask("two", "worker.add", a="${item}", trace_to=path), ask("three", "worker.flaky",
                     path=gate, fails=1), output="${steps.two.result + steps.three.result}")  # fmt: skip
    flow.add(each("items", "[10, 20]", inner, width=1))
    flow.result("${steps.items.result + [steps.one.result]}")
    document = flow.document()
    document["steps"][1]["do"]["steps"][1]["retry"] = {"attempts": 1}
    first = start(client, document)
    failed = client.wait(first, 60)
    assert f"sutazai workflow resume {first}" in failed["error"]["message"]
    second = start(client, "", "resume", run=first)
    done = client.wait(second, 60)
    assert done["error"] is None
    assert (done["result"]["result"], done["result"]["resumed_from"]) == ([11 + 2, 21 + 3, 2], first)
    begun = [line.split()[1] for line in lines(path) if line.startswith("begin")]
    assert begun == ["1.0", "10.0", "20.0"]
    third = client.wait(start(client, "", "resume", run=second), 60)
    assert "has succeeded" in third["error"]["message"]


def test_mistakes_are_told_before_anything_runs(fleet: LiveFleet, client: TaskClient) -> None:
    """By the agent, and by the command line with the file's name and lines; wrong inputs too."""
    path = fleet.folder / "bad.yaml"
    path.write_text(
        "workflow: bad\ninputs: {n: integer}\nsteps:\n  - {name: a, ask: worker.ad}\n  - {name: b, ask: worker.add}\n"
    )
    done = client.wait(start(client, path.read_text(), n=1), 60)
    assert done["error"]["code"] == "bad-workflow"
    assert "workflow:4:20: a: worker has no skill 'ad' (did you mean add?)" in done["error"]["message"]
    assert "workflow:5:5: b: worker.add needs a" in done["error"]["message"]
    assert len(client.tree(done["id"])) == 1
    for verb in ("check", "run"):
        told = fleet.command("workflow", verb, str(path))
        assert (told.returncode, f"{path}:4:20" in told.stderr) == (2, True)
    path.write_text(
        "workflow: good\ninputs: {n: integer}\nsteps:\n  - {name: a, ask: worker.add, with: {a: '${inputs.n}'}}\n"
    )
    assert "1 steps, nothing wrong" in fleet.command("workflow", "check", str(path)).stdout
    told = fleet.command("workflow", "run", str(path), "n=x")
    assert (told.returncode, "'n' must be integer" in told.stderr) == (4, True)
    assert '"result": 3.0' in fleet.command("workflow", "run", str(path), "n=2").stdout
    missing = client.wait(start(client, "", "resume", run="t_none"), 60)
    assert "there is no run 't_none'" in missing["error"]["message"]


def test_a_workflow_is_killed_six_times(fleet: LiveFleet, client: TaskClient) -> None:
    """Instances of both agents, the broker twice, the worker that forks: each step commits once, as history shows."""
    count, last = 10, -1
    flow = Workflow("unlucky")
    for number in range(count):
        previous = f"${{steps.s{number - 1}.result}}" if number else 0
        flow.add(ask(f"s{number}", "worker.add", a=previous, seconds=0.5))
    run = start(client, flow.document())

    def next_step() -> dict[str, Any]:
        """The step that runs now, if none of its kind was struck before."""
        tasks = [task for task in client.tree(run) if task["status"] == "leased" and task["agent"] == "worker"]
        return next((task for task in tasks if int(task["label"][1:]) > last), {})

    for victim in ("step", "broker", "orchestrator", "python-0", "step", "broker"):
        struck = until(next_step)
        last = int(struck["label"][1:])
        if victim == "step":
            kill(struck["pid"])
        elif victim == "orchestrator":
            kill(of_label(client, run, "unlucky")["pid"])
        else:
            kill(process(fleet, victim))
    done = client.wait(run, 90)
    assert (done["status"], done["error"]) == ("succeeded", None)
    assert done["result"]["result"] == count
    history = client.wait(
        client.submit([{"agent": "agent-orchestrator", "skill": "history", "input": {"run": run}}])[0]["id"]
    )
    steps = [step for step in history["result"]["steps"] if step["step"].startswith("s")]
    assert [(step["step"], step["status"], step["commits"]) for step in steps] == [
        (f"s{number}", "succeeded", 1) for number in range(count)
    ]
    assert sum(step["lost"] for step in steps) >= 2
    committed = [turn for task in client.tree(run) for turn in task["turns"] if turn["outcome"] in {"result", "wait"}]
    assert len(committed) == 1 + 1 + (count + 1) + count  # begin and end of the run, the block's moves, the steps
