"""The fork itself: what the zygote refuses, what the child waits for, who outlives whom, and what it costs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

_SPEC = importlib.util.spec_from_file_location("zygote_rig", Path(__file__).parent / "zygote_rig.py")
assert _SPEC is not None
assert _SPEC.loader is not None
zygote_rig = importlib.util.module_from_spec(_SPEC)
sys.modules["zygote_rig"] = zygote_rig
_SPEC.loader.exec_module(zygote_rig)
Rig = zygote_rig.Rig

HELLO = '''
import time
from sutazai.runtime import Agent, Context

agent = Agent("{name}")

@agent.skill
def greet(name: str, ctx: Context) -> dict:
    """Greet somebody."""
    return {{"text": f"Hello, {{name}}!", "at_s": time.monotonic()}}

@agent.skill
def hold(ctx: Context, seconds: float = 600.0) -> str:
    """Hold the turn."""
    time.sleep(seconds)
    return "held"
'''
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root to change the user")


def hello(name: str = "hello") -> dict[str, str]:
    """Make the source of an agent."""
    return {name: HELLO.format(name=name)}


def gone(pid: int) -> bool:
    """Whether a process has ended, a zombie counted as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except OSError:
        return True


def test_end_of_file_on_the_pipe() -> None:
    """A child that nobody placed reads end-of-file and ends with 0, before it touched anything."""
    with Rig(hello(), broker=False) as rig:
        rig.ask(op="mode", mode="eof")
        rig.ask(op="fork", worker="python-0", agent="hello")
        pid = rig.wait(lambda: rig.events("forked"), "the fork")[0]["pid"]
        (event,) = rig.wait(lambda: rig.events("exit", pid=pid), "the exit")
        assert event["code"] == 0
        assert not (rig.paths.logs / "hello.log").exists()


def test_a_child_waits_for_its_release() -> None:
    """An unreleased child blocks; when ``sutazaid`` dies meanwhile, the pipe closes and the child goes."""
    with Rig(hello(), broker=False) as rig:
        rig.ask(op="mode", mode="hold")
        rig.ask(op="fork", worker="python-0", agent="hello")
        pid = rig.wait(lambda: rig.events("forked"), "the fork")[0]["pid"]
        rig.wait(lambda: "S" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0], "a sleeping child")
        assert int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == rig.process.pid
        rig.process.kill()
        rig.wait(lambda: gone(pid), "the child's end")


def test_what_is_not_forked() -> None:
    """An agent that no plan names is refused, with the reason; the zygote goes on."""
    with Rig({**hello(), **hello("other")}, broker=False) as rig:
        plan_agents = rig.agents.pop("other")
        rig.write_plan()
        assert plan_agents
        rig.ask(op="fork", worker="python-0", agent="other")
        (event,) = rig.wait(lambda: rig.events("fork-failed"), "the refusal")
        assert "no agent 'other'" in event["error"]
        rig.ask(op="fork", worker="python-0", agent="hello")
        rig.wait(lambda: rig.events("forked"), "the fork")


def test_more_than_one_thread_is_refused() -> None:
    """A zygote whose pre-load started a thread does not fork, and says so when it registers and when it is asked."""
    with Rig(hello(), broker=False) as rig:
        (rig.code / "starts_a_thread.py").write_text(
            "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        )
        rig.write_plan(preload=["starts_a_thread"])
        before = rig.events("register", worker="python-0")[-1]["pid"]
        rig.ask(op="forget")
        os.kill(before, signal.SIGKILL)
        os.kill(rig.events("register", worker="zygote")[-1]["pid"], signal.SIGKILL)
        rig.ask(op="start", process="zygote")
        rig.wait(lambda: rig.events("register", worker="python-0")[-1]["pid"] != before, "the new worker")
        assert rig.events("register", worker="python-0")[-1]["threads"] == 2
        rig.ask(op="fork", worker="python-0", agent="hello")
        (event,) = rig.wait(lambda: rig.events("fork-failed"), "the refusal")
        assert "2 threads" in event["error"]


@needs_root
def test_privileges_that_cannot_be_dropped() -> None:
    """An agent that other users cannot read keeps the zygote's user, works, and raises its condition."""
    with Rig(hello(), uids=True) as rig:
        rig.code.chmod(0o700)
        task = rig.run("hello", "greet", {"name": "Ann"})
        assert task["status"] == "succeeded", rig.logs()
        assert rig.live()[0]["uid"] == 0
        (condition,) = rig.events("condition", name="PrivilegesNotDropped", subject="hello")
        assert condition["active"]
        assert str(rig.code) in condition["text"]


def test_the_zygote_keeps_little_of_root() -> None:
    """A worker has one thread, no sockets but to sutazaid and its spare, and only the rights to change the user."""
    with Rig(hello(), broker=False) as rig:
        pid = rig.events("register", worker="python-0")[-1]["pid"]
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert status["Threads"].strip() == "1"
        assert int(status["CapPrm"], 16) & ~0b1100_0000 == 0
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert sum(link.startswith("socket:") for link in links) <= 3  # one more while it makes a spare
        assert Path(f"/proc/{pid}/comm").read_text().strip() == "python-0"


def test_a_dead_spare_costs_nothing_but_time() -> None:
    """When the spare was killed, the next order forks at once; a spare whose worker dies ends by itself."""
    with Rig(hello()) as rig:
        worker = rig.events("register", worker="python-0")[-1]["pid"]

        def spares() -> list[int]:
            found = []
            for stat in Path("/proc").glob("[0-9]*/comm"):
                try:
                    parent = int((stat.parent / "stat").read_text().rpartition(")")[2].split()[1])
                    if stat.read_text().strip() == "python-0 spare" and parent == rig.process.pid:
                        found.append(int(stat.parent.name))
                except OSError:
                    continue
            return found

        (spare,) = rig.wait(spares, "a spare")
        os.kill(spare, signal.SIGKILL)
        rig.wait(lambda: gone(spare), "its end")
        assert rig.run("hello", "greet", {"name": "Ann"})["status"] == "succeeded"
        (spare,) = rig.wait(spares, "another spare")
        os.kill(worker, signal.SIGKILL)
        rig.wait(lambda: gone(spare), "the end of the spare of a dead worker")


def test_an_import_that_forks() -> None:
    """The child that comes back from the import is no second instance on the same connection: it ends."""
    marker = "import os\nos.fork()\n"
    with Rig({"hello": marker + hello()["hello"]}) as rig:
        assert rig.run("hello", "greet", {"name": "Ann"})["result"]["text"] == "Hello, Ann!"
        (live,) = rig.live()

        def instances() -> list[int]:
            found = []
            for line in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    is_one = line.read_bytes().startswith(f"sutazai: hello {live['ticket']}".encode())
                    found += [int(line.parent.name)] if is_one and not gone(int(line.parent.name)) else []
            return found

        rig.wait(lambda: instances() == [live["pid"]], "the end of the other one")
        assert "the broker does not come back" not in rig.logs(), "the other one spoke to the broker"


def test_an_instance_outlives_sutazaid_but_not_the_fleet() -> None:
    """When its parent dies, an instance goes on while the guard lives, and leaves after its turn when it does not."""
    with Rig(hello()) as rig:
        guard = rig.paths.run / "guard.pid"
        task = rig.submit("hello", "hold", {"seconds": 1.0})
        pid = rig.wait_for_turn(task)["pid"]
        stat = Path(f"/proc/{os.getpid()}/stat").read_text()
        guard.write_text(f"{os.getpid()} {stat.rpartition(')')[2].split()[19]}\n")
        rig.events("")
        rig.process.kill()
        rig.process.wait()
        assert rig.result(task)["result"] == "held"
        assert rig.run("hello", "greet", {"name": "Ann"})["result"]["text"] == "Hello, Ann!"
        assert not gone(pid)
        guard.write_text("1999999999 1\n")
        os.kill(pid, signal.SIGUSR1)  # what the kernel sends when the guard, its parent by then, dies
        rig.wait(lambda: gone(pid), "the instance's end")


def _wakes(rig: zygote_rig.Rig, count: int) -> dict[str, list[float]]:
    """Wake a hibernated agent so often; gives milliseconds from order and submission to the first line."""
    found: dict[str, list[float]] = {"order → forked": [], "order → first line": [], "task → first line": []}
    for _ in range(count):
        submitted_s = time.monotonic()
        at_s = rig.run("hello", "greet", {"name": "Ann"})["result"]["at_s"]
        forked = rig.events("forked")[-1]
        found["order → forked"].append((forked["at"] - forked["asked"]) * 1_000)
        found["order → first line"].append((at_s - forked["asked"]) * 1_000)
        found["task → first line"].append((at_s - submitted_s) * 1_000)
        rig.wait(lambda: not rig.live(), "hibernation")
    return found


def test_print_the_cost_of_a_wake(capsys: pytest.CaptureFixture[str]) -> None:
    """Wakes work again and again; the times are printed, not judged: the machine is shared."""
    with Rig(hello(), uids=ROOT) as rig:
        rig.write_plan(keep_ms=100)
        found = _wakes(rig, 30)
        assert len(rig.events("exit", code=0)) >= 30
    with capsys.disabled():
        for name, values in found.items():
            ordered = sorted(values)
            print(f"\n  {name}: p50 {ordered[len(ordered) // 2]:.1f} ms, p99 {ordered[-1]:.1f} ms", end="")  # noqa: T201


@pytest.mark.parametrize("family", ["base", "data"])
def test_print_the_memory_of_instances(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Five instances live beside their zygotes; what each adds is printed."""
    names = [f"hello-{number}" for number in range(5)]
    sources: dict[str, Any] = {}
    for name in names:
        sources |= hello(name)
    with Rig(sources, uids=ROOT, family=family) as rig:
        for name in names:
            assert rig.run(name, "greet", {"name": "Ann"})["status"] == "succeeded", rig.logs()
        pids = {each["agent"]: each["pid"] for each in rig.live()}
        workers = {event["worker"]: event["pid"] for event in rig.events("register")}
        found = {name: zygote_rig.pss_kib(pid) for name, pid in {**workers, **pids}.items()}
    assert set(pids) == set(names)
    with capsys.disabled():
        for name, memory in found.items():
            private = memory["Private_Dirty"] + memory["Private_Clean"]
            text = f"{family} {name}: PSS {memory['Pss'] / 1024:.1f} MB, private {private / 1024:.1f} MB"
            print(f"\n  {text}", end="")  # noqa: T201
        total = sum(memory["Pss"] for memory in found.values())
        print(f"\n  {family} together: {total / 1024:.1f} MB", end="")  # noqa: T201
