"""Spares: placed ahead, taken by a wake that fits, given up first, and nobody's when their ``sutazaid`` dies."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.host import procfs
from sutazai.host.cgroup import detect_groups
from sutazai.supervisor.contract import Agent, Limits, Pool, Process, Ready, Worker
from sutazai.testing.sutazaid import OwnSutazaid, Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

CODE = """
from sutazai.runtime import Agent

agent = Agent("{name}")


@agent.skill
def rest() -> str:
    \"\"\"Do nothing.\"\"\"
    return "rested"
"""
UID_FIRST = 61_000 if os.geteuid() == 0 else 0
MEMORY = 64 << 20


@pytest.fixture
def code() -> Iterator[Path]:
    """A folder that every user can read."""
    folder = Path(tempfile.mkdtemp(prefix="sp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def own(tmp_path: Path, code: Path) -> Iterator[OwnSutazaid]:
    """A fleet of its own that is gone before the code its instances import; skipped where nothing can be placed."""
    fleet = OwnSutazaid(tmp_path)
    if detect_groups(fleet.fleet, tmp_path).version == "none":
        fleet.close()
        pytest.skip("no cgroups can be made here: spares are not placed")
    yield fleet
    fleet.close()


def agent(code: Path, name: str, pool: str = "agents", envelope: int = 8 << 20) -> Agent:
    """An agent with real code."""
    module = code / f"{name.replace('-', '_')}.py"
    module.write_text(CODE.format(name=name))
    return Agent(
        name=name,
        module=str(module),
        version="1",
        family="base",
        pool=pool,
        limits=Limits(memory_bytes=MEMORY),
        envelope_bytes=envelope,
        instances_max=4,
        keep_ms=60_000,
        port=0,
    )


def up(own: OwnSutazaid, *agents: Agent, agents_pool: int = 256 << 20) -> Peer:
    """Bring the real zygote up, and be the broker."""
    zygote = Process(
        name="zygote",
        kind="worker",
        argv=[sys.executable, "-m", "sutazai.runtime.zygote"],
        pool="platform",
        stage="services",
        ready=Ready("notify"),
    )
    plan = own.plan(
        zygote,
        workers=[Worker("python-0", "base", "platform", Limits(), 8 << 20)],
        agents=list(agents),
        pools=[Pool("platform", 512 << 20), Pool("agents", agents_pool), Pool("others", 128 << 20)],
        instance_uid_first=UID_FIRST,
    )
    own.up(plan)
    broker = own.peer()
    assert broker.ask("hello", process="broker")["ok"]
    broker.push("tickets")
    return broker


def ready(own: OwnSutazaid, count: int = 1) -> list[dict[str, Any]]:
    """Wait until so many spares stand in their groups."""
    status = own.until(lambda status: [spare["state"] for spare in status["spares"]] == ["ready"] * count)
    spares: list[dict[str, Any]] = status["spares"]
    own.seen_pids |= {spare["pid"] for spare in spares}
    return spares


def wake(broker: Peer, name: str) -> dict[str, Any]:
    """Wake an agent; gives the ticket's push."""
    answer = broker.ask("wake", agent=name, want=1)
    assert answer["status"] == "yes", answer
    return broker.push("ticket")


def test_a_wake_takes_the_spare_as_it_stands(own: OwnSutazaid, code: Path) -> None:
    """Same process, same group, the agent's own limits and user; its end removes group and note; a new one follows."""
    broker = up(own, agent(code, "first"))
    (spare,) = ready(own)
    groups = detect_groups(own.fleet, own.state)
    assert groups.pids(spare["group"]) == [spare["pid"]]
    assert own.status()["instances"] == [], "a spare is no instance"
    ticket = wake(broker, "first")
    assert (ticket["ticket"], ticket["pid"]) == (spare["ticket"], spare["pid"])
    assert groups.pids(spare["group"]) == [spare["pid"]]
    own.until(lambda _: procfs.uid(ticket["pid"]) == ticket["uid"])
    note = own.run / "tickets" / ticket["ticket"]
    assert os.readlink(note) == "first"  # noqa: PTH115 a name
    (after,) = ready(own)
    assert after["pid"] != spare["pid"]
    os.kill(ticket["pid"], signal.SIGKILL)
    ended = broker.push("exit")
    assert (ended["ticket"], ended["agent"], ended["reason"]) == (spare["ticket"], "first", "signal")
    assert not groups.exists(spare["group"])
    assert not note.is_symlink()
    broker.close()


def test_each_pool_has_its_spare(own: OwnSutazaid, code: Path) -> None:
    """An agent gets the spare of its own pool, whatever stands in the others."""
    broker = up(own, agent(code, "first"), agent(code, "other", pool="others"))
    spares = {spare["pool"]: spare for spare in ready(own, 2)}
    assert set(spares) == {"agents", "others"}
    assert wake(broker, "other")["pid"] == spares["others"]["pid"]
    assert wake(broker, "first")["pid"] == spares["agents"]["pid"]
    broker.close()


def test_two_wakes_at_once(own: OwnSutazaid, code: Path) -> None:
    """The second of two wakes finds no spare and is forked in the ordinary way, into a group of its own."""
    broker = up(own, agent(code, "first"))
    (spare,) = ready(own)
    assert broker.ask("wake", agent="first", want=2)["status"] == "yes"
    pids = {push["ticket"]: push["pid"] for push in (broker.push("ticket"), broker.push("ticket"))}
    assert pids.pop(spare["ticket"]) == spare["pid"]
    ((ticket, pid),) = pids.items()
    assert detect_groups(own.fleet, own.state).pids(f"agents/first.{ticket}") == [pid]
    broker.close()


def test_a_dead_spare_is_not_waited_for(own: OwnSutazaid, code: Path) -> None:
    """A spare that is killed leaves neither group nor ticket; the next wake is an ordinary one."""
    broker = up(own, agent(code, "first"))
    (spare,) = ready(own)
    os.kill(spare["pid"], signal.SIGKILL)
    own.until(lambda status: status["spares"] == [])
    own.until(lambda _: not detect_groups(own.fleet, own.state).exists(spare["group"]))
    assert wake(broker, "first")["pid"] != spare["pid"]
    assert ready(own)[0]["pid"] != spare["pid"]
    broker.close()


def test_a_spare_that_dies_with_its_order(own: OwnSutazaid, code: Path) -> None:
    """Killed while ``sutazaid`` does not look, it is handed out; the failure is told, and the agent can be woken."""
    broker = up(own, agent(code, "first"))
    (spare,) = ready(own)
    sutazaid = own.sutazaid_pid()
    os.kill(sutazaid, signal.SIGSTOP)
    try:
        broker.send({"op": "wake", "id": 77, "agent": "first", "want": 1})
        os.kill(spare["pid"], signal.SIGKILL)
    finally:
        os.kill(sutazaid, signal.SIGCONT)
    own.until(lambda status: spare["ticket"] not in {each["ticket"] for each in status["spares"] + status["instances"]})
    assert not (own.run / "tickets" / spare["ticket"]).is_symlink()
    own.until(lambda _: broker.ask("wake", agent="first", want=1)["status"] == "yes")
    own.until(lambda status: any(each["state"] == "running" for each in status["instances"]))
    broker.close()


def test_short_memory_ends_the_spares_first(own: OwnSutazaid, code: Path) -> None:
    """A wake that lacks what a spare holds gets it: nobody waits for memory that only waits."""
    large = agent(code, "large", pool="others", envelope=124 << 20)
    child = agent(code, "child", pool="others")
    broker = up(own, replace(child, limits=replace(child.limits, cpuset="0")), large)
    first = {spare["pid"] for spare in ready(own, 2)}
    assert broker.ask("wake", agent="large", want=1)["status"] == "wait"  # what the other one holds is lacking
    assert broker.push("room")["agent"] == "large"
    own.until(lambda _: broker.ask("wake", agent="large", want=1)["status"] == "yes")
    broker.push("ticket")
    assert not first & {spare["pid"] for spare in own.status()["spares"]}
    broker.close()


def test_sutazaid_killed(own: OwnSutazaid, code: Path) -> None:
    """The next one takes over who got a spare, under its agent's name, and ends the spare that nobody had."""
    broker = up(own, agent(code, "first"))
    ready(own)
    ticket = wake(broker, "first")
    (spare,) = ready(own)
    sutazaid = own.sutazaid_pid()
    os.kill(sutazaid, signal.SIGKILL)
    own.gone([sutazaid, spare["pid"]])
    broker.close()
    status = own.until(lambda status: status["state"] == "up" and bool(status["instances"]))
    assert [(each["ticket"], each["agent"], each["pid"]) for each in status["instances"]] == [
        (ticket["ticket"], "first", ticket["pid"])
    ]
    assert not detect_groups(own.fleet, own.state).exists(spare["group"])
    broker = own.peer()
    broker.ask("hello", process="broker")
    (told,) = broker.push("tickets")["tickets"]
    assert (told["ticket"], told["agent"], told["token"]) == (ticket["ticket"], "first", ticket["token"])
    own.until(lambda _: broker.ask("wake", agent="first", want=1)["status"] == "yes")
    broker.close()


def test_sutazaid_killed_between_note_and_order(own: OwnSutazaid, code: Path) -> None:
    """Its worker offers the spare again: it is ended, and is not two things at once; the agent wakes as ever."""
    broker = up(own, agent(code, "first"))
    (spare,) = ready(own)
    guard, sutazaid = own.guard_pid(), own.sutazaid_pid()
    os.kill(guard, signal.SIGSTOP)
    try:
        os.kill(sutazaid, signal.SIGKILL)
        (own.run / "tickets").mkdir(exist_ok=True)
        (own.run / "tickets" / spare["ticket"]).symlink_to("first")
    finally:
        os.kill(guard, signal.SIGCONT)
    own.gone([sutazaid, spare["pid"]])
    broker.close()
    own.until(lambda status: status["state"] == "up" and status["instances"] == [])
    assert not detect_groups(own.fleet, own.state).exists(spare["group"])
    assert not (own.run / "tickets" / spare["ticket"]).is_symlink()
    broker = own.peer()
    broker.ask("hello", process="broker")
    own.until(lambda _: broker.ask("wake", agent="first", want=1)["status"] == "yes")
    own.until(lambda status: any(each["state"] == "running" for each in status["instances"]))
    broker.close()


def test_a_spare_that_is_offered_twice(own: OwnSutazaid, code: Path) -> None:
    """Over a connection that replaced another: it gets no second group and no second ticket."""
    broker = up(own, agent(code, "first"), agent(code, "other", pool="others"))
    spares = ready(own, 2)
    answer = broker.ask("spare", pid=spares[0]["pid"])
    assert (answer["placed"], answer["ended"]) == (False, True)
    own.gone([spares[0]["pid"]])
    assert [each["pid"] for each in own.status()["spares"]] == [spares[1]["pid"]]
    broker.close()


def test_ended_spares_leave_nothing_in_their_worker(own: OwnSutazaid, code: Path) -> None:
    """Nobody tells the worker that a spare was ended: it looks, and closes its end."""
    broker = up(own, replace(agent(code, "first"), instances_max=8))
    worker = own.process("python-0")["pid"]

    def sockets() -> int:
        links = [os.readlink(link) for link in Path(f"/proc/{worker}/fd").iterdir()]  # noqa: PTH115 names
        return sum(link.startswith("socket:") for link in links)

    before = len(ready(own)) and sockets()
    for _ in range(3):
        (spare,) = ready(own)
        os.kill(spare["pid"], signal.SIGKILL)
        own.until(lambda status: status["spares"] == [])
        wake(broker, "first")
    ready(own)
    assert sockets() == before
    broker.close()


def test_the_worker_killed(own: OwnSutazaid, code: Path) -> None:
    """Its spares end with it; the next worker offers its own."""
    broker = up(own, agent(code, "first"))
    (spare,) = ready(own)
    os.kill(own.process("python-0")["pid"], signal.SIGKILL)
    own.gone([spare["pid"]])
    (after,) = ready(own)
    assert wake(broker, "first")["pid"] == after["pid"]
    broker.close()


def test_a_stop_leaves_none(own: OwnSutazaid, code: Path) -> None:
    """A stopped fleet has neither spare nor note nor folder."""
    broker = up(own, agent(code, "first"))
    ready(own)
    wake(broker, "first")
    (spare,) = ready(own)
    broker.close()
    own.stop()
    own.gone([spare["pid"]])
    assert not own.run.exists()


def test_an_offer_of_nothing(own: OwnSutazaid, code: Path) -> None:
    """A peer that is no worker is not given a group, and a pid that nobody has is refused."""
    broker = up(own, agent(code, "first"))
    assert broker.ask("spare", pid=os.getpid())["placed"] is False
    answer = broker.ask("spare", pid=0)
    assert (answer["ok"], answer["code"]) == (False, "protocol")
    broker.close()
