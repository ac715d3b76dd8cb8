"""What may start, what must stop first, and what makes a plan impossible: pure decisions over plain data."""

from __future__ import annotations

from typing import Any

from sutazai.supervisor.contract import Agent, Limits, Listen, PlanFile, Pool, Process, Ready, Worker
from sutazai.supervisor.stages import Standing, holding, mistakes, startable, stop_order, through, worker_processes

STAGES = ["store", "services", "edge"]


def process(name: str, stage: str = "services", **fields: Any) -> Process:
    """A process of the plan."""
    values: dict[str, Any] = {"kind": "service", "argv": ["/bin/true"], "pool": "standard", **fields}
    return Process(name=name, stage=stage, **values)


def plan(*processes: Process, **fields: Any) -> PlanFile:
    """A plan with these processes."""
    values: dict[str, Any] = {"pools": [Pool("standard", 1 << 30)], "stages": STAGES, **fields}
    return PlanFile(
        fleet="f", digest="d", state_dir="/s", run_dir="/r", python="/p", processes=list(processes), **values
    )


def test_a_stage_waits_for_the_one_before() -> None:
    """Only the first stage with something to do is open."""
    processes = [process("edge", "edge"), process("a"), process("b"), process("store", "store")]
    standings = {each.name: Standing("waiting") for each in processes}
    assert startable(STAGES, processes, standings) == ["store"]
    standings["store"] = Standing("starting")
    assert startable(STAGES, processes, standings) == []
    assert holding(STAGES, processes, standings) == ["store"]
    standings["store"] = Standing("ready")
    assert startable(STAGES, processes, standings) == ["a", "b"]
    standings |= {"a": Standing("ready"), "b": Standing("done")}
    assert startable(STAGES, processes, standings) == ["edge"]


def test_after_holds_inside_a_stage() -> None:
    """A process starts when all it names are usable; a job that is done is usable, one that fails is not."""
    processes = [process("second", after=["first"]), process("first")]
    standings = {"second": Standing("waiting"), "first": Standing("waiting")}
    assert startable(STAGES, processes, standings) == ["first"]
    standings["first"] = Standing("backoff", failed_openly=True)
    assert startable(STAGES, processes, standings) == []
    standings["first"] = Standing("done")
    assert startable(STAGES, processes, standings) == ["second"]


def test_a_broken_service_lets_the_next_stage_go_on_and_a_broken_platform_process_does_not() -> None:
    """A user's program that failed openly no longer holds its stage; the broker does, whatever happens."""
    failed = Standing("backoff", failed_openly=True)
    assert through(process("shop"), failed)
    assert not through(process("broker", kind="platform"), failed)
    assert not through(process("shop"), Standing("backoff"))
    assert through(process("broker", kind="platform"), Standing("stopped"))


def test_stop_order_is_stages_backwards_and_dependents_first() -> None:
    """Who is needed by others of its stage stops after them; a cycle does not hang the stop."""
    processes = [process("s", "store"), process("a"), process("b", after=["a"]), process("e", "edge")]
    assert stop_order(STAGES, processes) == [["e"], ["b"], ["a"], ["s"]]
    circle = [process("x", after=["y"]), process("y", after=["x"])]
    assert stop_order(STAGES, circle) == [["x", "y"]]


def test_all_mistakes_of_a_plan_are_found_at_once() -> None:
    """Names, pools, stages, dependencies, ports and cycles, each told in words."""
    bad = plan(
        process("a", after=["ghost"], listen=[Listen("x", port=80)]),
        process("a", stage="never"),
        process("b", after=["c"], listen=[Listen("y", port=80)]),
        process("c", after=["b"], pool="nowhere"),
        process("early", "store", after=["b"]),
        process("relative", argv=["true"]),
        process("../escape"),
        pools=[Pool("standard", 1, parent="ghost")],
        agents=[Agent("x", "/x", "1", "base", "gone", Limits(), 0, 1, 1, 0)],
    )
    text = "\n".join(mistakes(bad))
    for words in (
        "the name 'a' is used twice",
        "a: starts after 'ghost', which does not exist",
        "a: there is no stage 'never'",
        "c: there is no pool 'nowhere'",
        "x: there is no pool 'gone'",
        "pool standard: its parent 'ghost' does not exist",
        "b: a listens on 80 already",
        "early: starts after 'b', which is of a later stage",
        "'../escape' is no name",
        "relative: argv must begin with the absolute path",
        "these depend on one another: b, c",
    ):
        assert words in text


def test_a_good_plan_has_no_mistakes() -> None:
    """Nothing is found where nothing is wrong."""
    good = plan(process("a", "store"), process("b", after=["a"]), process("c", "edge", listen=[Listen("x", port=80)]))
    assert mistakes(good) == []


def test_members_of_the_runtime_pools_are_processes_of_the_zygotes_stage() -> None:
    """They have no argv, wait for the root, and have its readiness time; without a root there are none."""
    root = process("zygote", kind="worker", ready=Ready("notify", timeout_ms=7))
    worker = Worker("python-0", "base", "standard", Limits(pids_max=5), 1)
    (member,) = worker_processes(plan(root, workers=[worker]))
    assert (member.name, member.argv, member.stage, member.after) == ("python-0", [], "services", ["zygote"])
    assert member.ready.timeout_ms == 7
    assert member.limits.pids_max == 5
    assert worker_processes(plan(process("a"), workers=[worker])) == []
