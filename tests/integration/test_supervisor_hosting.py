"""Workers that hold their instances inside themselves: demand, tickets, ends, deaths, idle stop, on a small double."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.host import procfs
from sutazai.host.cgroup import detect_groups
from sutazai.supervisor.contract import Agent, Limits, Pool, Worker
from sutazai.testing.sutazaid import OwnSutazaid, Peer, row

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
#: A hosting worker that keeps names in place of instances; what it does with one stands in the agent's name.
WORKER = r"""
import json, os, socket, sys, time
NAME, held = os.environ["SUTAZAI_WORKER"], {}
while True:
    link = socket.socket(socket.AF_UNIX)
    try:
        link.connect(os.environ["SUTAZAI_SOCKET"])
    except OSError:
        time.sleep(0.02); continue
    say = lambda **m: link.sendall(json.dumps(m).encode() + b"\n")
    try:
        say(op="hello", process=NAME)
        say(op="register", id=1, worker=NAME, pid=os.getpid(), pre_ms=1, threads=4, hosts=True)
        say(op="hosting", tickets=[{"ticket": t, "agent": a} for t, a in held.items()])
        buffer = b""
        while data := link.recv(65536):
            buffer += data
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                m = json.loads(line)
                print(line, flush=True)
                ticket = m.get("ticket")
                if m.get("push") == "host":
                    assert m["token"] and m["module"] and m["memory_bytes"] and "settings" in m
                    if m["agent"] == "refused":
                        say(op="fork-failed", ticket=ticket, error="no such module"); continue
                    held[ticket] = m["agent"]
                    say(op="hosted", ticket=ticket, pid=os.getpid())
                    if m["agent"] in ("ok", "error", "oom"):
                        del held[ticket]
                        say(op="ended", ticket=ticket, reason=m["agent"], status=int(m["agent"] != "ok"), why="said so")
                    if m["agent"] == "nosy":
                        say(op="stop")
                        say(op="kill", process="victim")
                        say(op="hello", process="broker")
                if m.get("push") == "end" and held.pop(ticket, "") != "stuck":
                    say(op="ended", ticket=ticket, reason="ok", status=0, why="")
    except OSError:
        pass
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnSutazaid]:
    """A fleet of its own that is gone afterwards, whatever happened."""
    fleet = OwnSutazaid(tmp_path)
    yield fleet
    with contextlib.suppress(OSError, ConnectionError):  # a stop would give them their time to finish
        for each in fleet.status()["instances"]:
            fleet.ask("kill", ticket=each["ticket"])
    fleet.close()


def agent(name: str, **fields: Any) -> Agent:
    """An agent of a language whose workers host."""
    values: dict[str, Any] = {"instances_max": 4, "keep_ms": 60_000, "port": 0, "envelope_bytes": 8 * MIB, **fields}
    limits = Limits(memory_bytes=64 * MIB)
    return Agent(name, "/nowhere/agent.mjs", "1", "other", "standard", limits, **values)


def up(own: OwnSutazaid, *agents: Agent, idle_ms: int = 60_000, uid: int = -1, workers: int = 1) -> Peer:
    """Bring the fleet up, and be its broker."""
    own.up(plan(own, *agents, idle_ms=idle_ms, uid=uid, workers=workers))
    return broker_of(own)


def plan(own: OwnSutazaid, *agents: Agent, idle_ms: int = 60_000, uid: int = -1, workers: int = 1) -> Any:
    """A plan with hosting workers and no zygote."""
    env = {"SUTAZAI_SOCKET": str(own.run / "sutazaid.sock")}
    limits = Limits(memory_bytes=48 * MIB)
    argv = [sys.executable, "-S", "-c", WORKER]
    return own.plan(
        own.shell("victim", "exec sleep 1000"),
        workers=[
            Worker(f"other-{index}", "other", "standard", limits, 16 * MIB, [], argv, env, uid, idle_ms=idle_ms)
            for index in range(workers)
        ],
        agents=list(agents),
        pools=[Pool("standard", 1 << 30)],
    )


def broker_of(own: OwnSutazaid) -> Peer:
    """Be the broker."""
    broker = own.peer()
    assert broker.ask("hello", process="broker")["ok"]
    return broker


def wake(broker: Peer, name: str) -> list[str]:
    """Wake an agent: the first answer is wait while its worker starts."""
    while True:
        answer = broker.ask("wake", agent=name)
        if answer["status"] == "yes":
            tickets: list[str] = answer["tickets"]
            return tickets
        assert answer["status"] == "wait", answer
        broker.push("room")


def test_the_first_wake_starts_the_worker_and_idleness_stops_it(own: OwnSutazaid) -> None:
    """Asleep it is no trouble of the fleet; a wake brings it, its ticket is told, and without instances it goes."""
    broker = up(own, agent("idle"), idle_ms=300, workers=2)
    status = own.status()
    assert status["state"] == "up"
    assert (row(status, "other-0")["state"], row(status, "other-0")["pid"]) == ("asleep", 0)
    answer = broker.ask("wake", agent="idle")
    assert answer["status"] == "wait"
    assert "other-0" in answer["why"]
    (ticket,) = wake(broker, "idle")
    pushed = broker.push("ticket")
    status = own.status()
    worker = row(status, "other-0")
    assert (pushed["ticket"], pushed["pid"], pushed["uid"]) == (ticket, worker["pid"], os.geteuid())
    assert worker["memory_limit_bytes"] == (48 + 64) * MIB
    assert row(status, "other-1")["state"] == "asleep"
    assert [(each["ticket"], each["worker"]) for each in status["instances"]] == [(ticket, "other-0")]
    assert ("LimitNotEnforced", "idle") in {(each["name"], each["subject"]) for each in status["conditions"]}
    assert broker.ask("kill", ticket=ticket, reason="enough", own=False)["ok"]
    ended = broker.push("exit")
    assert (ended["ticket"], ended["reason"], ended["own"], ended["why"]) == (ticket, "killed", False, "enough")
    own.until(lambda now: row(now, "other-0")["state"] == "asleep")
    own.gone([worker["pid"]])
    wake(broker, "idle")
    assert broker.push("ticket")["pid"] != worker["pid"]
    broker.close()


def test_reasons_of_an_end(own: OwnSutazaid) -> None:
    """What the worker says of an end is what the broker hears, each with whose fault it was."""
    broker = up(own, *(agent(name) for name in ("ok", "error", "oom", "refused")))
    for name, reason, fault in (
        ("ok", "ok", True),
        ("error", "error", True),
        ("oom", "oom", True),
        ("refused", "fork-failed", False),
    ):
        wake(broker, name)
        ended = broker.push("exit")
        assert (ended["agent"], ended["reason"], ended["own"]) == (name, reason, fault)
    status = own.status()
    assert status["instances"] == []
    assert ("OomKilled", "oom") in {(each["name"], each["subject"]) for each in status["conditions"]}
    assert row(status, "other-0")["memory_limit_bytes"] == 48 * MIB
    broker.close()


def test_a_killed_worker_ends_all_its_instances_as_infrastructure(own: OwnSutazaid) -> None:
    """Killed with -9: each ticket exits without fault, the worker is started again, and hosts again."""
    broker = up(own, agent("idle"), agent("other"))
    wake(broker, "idle")
    first = broker.push("ticket")
    wake(broker, "other")
    broker.push("ticket")
    os.kill(first["pid"], signal.SIGKILL)
    ended = [broker.push("exit") for _ in range(2)]
    assert {each["agent"] for each in ended} == {"idle", "other"}
    assert {(each["reason"], each["own"]) for each in ended} == {("killed", False)}
    assert "other-0 has ended" in ended[0]["why"]
    own.until(lambda now: row(now, "other-0")["state"] == "ready")
    wake(broker, "idle")
    assert broker.push("ticket")["pid"] not in {0, first["pid"]}
    broker.close()


def test_a_stuck_instance_costs_its_worker(own: OwnSutazaid) -> None:
    """One that does not end is ended with its worker: it by its own fault, its neighbour not."""
    broker = up(own, agent("stuck"), agent("idle"))
    (ticket,) = wake(broker, "stuck")
    pid = broker.push("ticket")["pid"]
    wake(broker, "idle")
    broker.push("ticket")
    assert broker.ask("kill", ticket=ticket, reason="hangs")["ok"]
    ended = {each["agent"]: each for each in (broker.push("exit"), broker.push("exit"))}
    assert (ended["stuck"]["own"], ended["stuck"]["why"]) == (True, "hangs")
    assert ended["idle"]["own"] is False
    own.gone([pid])
    broker.close()


def test_sutazaid_killed_takes_the_hosted_over(own: OwnSutazaid) -> None:
    """The worker lives on; the next sutazaid knows each ticket with its token, and hears of its end."""
    broker = up(own, agent("idle"))
    (ticket,) = wake(broker, "idle")
    before = broker.push("ticket")
    sutazaid = own.sutazaid_pid()
    os.kill(sutazaid, signal.SIGKILL)
    own.gone([sutazaid])
    broker.close()
    own.until(lambda now: now["state"] == "up")
    broker = broker_of(own)
    (after,) = broker.push("tickets")["tickets"]
    assert {name: after[name] for name in ("ticket", "agent", "token", "pid", "uid")} == {
        name: before[name] for name in ("ticket", "agent", "token", "pid", "uid")
    }
    assert procfs.identity(before["pid"]) is not None
    own.until(lambda now: row(now, "other-0")["memory_limit_bytes"] == (48 + 64) * MIB)
    wake(broker, "idle")
    second = broker.push("ticket")
    assert second["pid"] == before["pid"]
    assert broker.ask("kill", ticket=ticket, reason="enough")["ok"]
    assert broker.push("exit")["ticket"] == ticket
    broker.close()


@pytest.mark.root
def test_the_groups_limit_grows_with_what_is_hosted(own: OwnSutazaid) -> None:
    """The kernel holds the worker's own need and each instance's, no more."""
    own.state.mkdir(parents=True, exist_ok=True)
    groups = detect_groups(own.fleet, own.state)
    if "memory" not in groups.enforced():
        pytest.skip("this host lets us limit no memory: run as root with a writable cgroup tree")
    broker = up(own, agent("idle"))
    for count in (1, 2):
        wake(broker, "idle")
        broker.push("ticket")
        assert _limit(own) == (48 + 64 * count) * MIB
    broker.close()


def _limit(own: OwnSutazaid) -> int:
    from sutazai.testing.fleet import GROUP_ROOTS

    for root in GROUP_ROOTS:
        base = f"/sys/fs/cgroup/{root}"
        for folder, _, files in os.walk(base):
            if own.fleet in folder and folder.endswith("/other-0"):
                for name in ("memory.limit_in_bytes", "memory.max"):
                    if name in files:
                        return int((Path(folder) / name).read_text())
    return 0


@pytest.mark.root
def test_a_worker_with_a_user_of_its_own_may_only_speak_for_itself(own: OwnSutazaid) -> None:
    """Its instances bear its user id; it cannot stop the fleet, kill others, or pass itself off as the broker."""
    if os.geteuid() != 0:
        pytest.skip("only root can change a uid")
    broker = up(own, agent("nosy"), uid=70_500)
    wake(broker, "nosy")
    pushed = broker.push("ticket")
    assert pushed["uid"] == 70_500
    assert procfs.uid(pushed["pid"]) == 70_500
    own.until(lambda _: own.log("other-0").count("may not ask") == 3)
    assert row(own.status(), "victim")["state"] == "ready"
    assert broker.ask("wake", agent="nosy")["status"] == "yes"  # this connection is the broker still
    broker.close()
