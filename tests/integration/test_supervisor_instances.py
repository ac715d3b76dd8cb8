"""Workers and instances: tickets, groups, pipes, pushes, exits and reasons, with a zygote double and the real one."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.host import procfs
from sutazai.host.cgroup import detect_groups
from sutazai.supervisor.contract import Agent, Limits, Pool, Process, Ready, Worker
from sutazai.testing.sutazaid import OwnSutazaid, Peer, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Speaks the zygote's side of the protocol; what an instance does stands in its agent's name.
ZYGOTE = r"""
import json, os, signal, socket, sys, time
PATH = os.path.join(os.environ["SUTAZAI_RUN_ROOT"], os.environ["SUTAZAI_FLEET"], "sutazaid.sock")

def fork_twice(child):
    r, w = os.pipe()
    middle = os.fork()
    if middle == 0:
        pid = os.fork()
        if pid == 0:
            os.close(r); os.close(w)
            try:
                child()
            finally:
                os._exit(0)
        os.write(w, str(pid).encode())
        os._exit(0)
    os.close(w)
    pid = int(os.read(r, 16)); os.close(r); os.waitpid(middle, 0)
    return pid

def live(agent, uid, pipe):
    if not os.read(pipe, 1):
        os._exit(0)
    if uid:
        os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if agent == "ok":
        os._exit(0)
    if agent == "error":
        os._exit(4)
    if agent == "hungry":
        blocks = []
        while True:
            blocks.append(bytearray(4 << 20))
    if agent == "forker":
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            time.sleep(1000)
        time.sleep(0.3)
        os._exit(0)
    time.sleep(1000)

def serve(name):
    while True:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(PATH)
        except OSError:
            time.sleep(0.05); continue
        say = lambda **m: link.sendall(json.dumps(m).encode() + b"\n")
        say(op="hello", process=name)
        say(op="register", id=1, worker=name, pid=os.getpid(), pre_ms=1, threads=1)
        buffer, fds = b"", []
        while True:
            try:
                data, new, _, _ = socket.recv_fds(link, 65536, 8)
            except OSError:
                data = b""
            if not data:
                break
            fds += new
            buffer += data
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                message = json.loads(line)
                if message.get("push") == "member":
                    worker = message["worker"]
                    def member():
                        link.close()
                        serve(worker)
                    fork_twice(member)
                if message.get("push") == "fork":
                    pipe, agent = fds.pop(0), message["agent"]
                    if agent == "silent":
                        os.close(pipe); continue
                    if agent == "refused":
                        os.close(pipe); say(op="fork-failed", ticket=message["ticket"], error="no more pids"); continue
                    pid = fork_twice(lambda: (link.close(), live(agent, message["uid"], pipe)))
                    os.close(pipe)
                    say(op="forked", ticket=message["ticket"], pid=pid, uid=message["uid"] or os.geteuid())

serve("zygote")
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnSutazaid]:
    """A fleet of its own that is gone afterwards, whatever happened."""
    fleet = OwnSutazaid(tmp_path)
    yield fleet
    fleet.close()


def agent(name: str, instances_max: int = 2, memory: int = 64 << 20, module: str = "/nowhere") -> Agent:
    """An agent of the family base."""
    return Agent(
        name=name,
        module=module,
        version="1",
        family="base",
        pool="agents",
        limits=Limits(memory_bytes=memory),
        envelope_bytes=8 << 20,
        instances_max=instances_max,
        keep_ms=60_000,
        port=0,
    )


def zygote(argv: list[str]) -> Process:
    """The root zygote as the plan has it."""
    return Process(
        name="zygote",
        kind="worker",
        argv=argv,
        pool="platform",
        stage="services",
        ready=Ready("notify", timeout_ms=60_000),
    )


def up(own: OwnSutazaid, *agents: Agent, uid_first: int = 0, argv: list[str] | None = None, **pool: Any) -> Peer:
    """Bring workers up, and be the broker."""
    plan = own.plan(
        zygote(argv or [sys.executable, "-S", "-c", ZYGOTE]),
        workers=[Worker("python-0", "base", "platform", Limits(), 8 << 20)],
        agents=list(agents),
        pools=[Pool("platform", 512 << 20), Pool("agents", 512 << 20, **pool)],
        instance_uid_first=uid_first,
    )
    own.up(plan)
    broker = own.peer()
    assert broker.ask("hello", process="broker")["ok"]
    assert broker.push("tickets")["tickets"] == []
    return broker


def wake(broker: Peer, name: str, want: int = 1) -> list[str]:
    """Ask for instances that are granted at once."""
    answer = broker.ask("wake", agent=name, want=want)
    assert answer["status"] == "yes", answer
    tickets: list[str] = answer["tickets"]
    return tickets


def test_members_register_into_their_own_group(own: OwnSutazaid) -> None:
    """The root zygote and its member are ready, watched, and each in its own group."""
    up(own, agent("idle")).close()
    status = own.status()
    root, member = row(status, "zygote"), row(status, "python-0")
    assert root["ready"]
    assert member["ready"]
    assert member["pid"] not in {0, root["pid"]}
    groups = detect_groups(own.fleet, own.state)
    if groups.version != "none":
        assert groups.pids("platform/python-0") == [member["pid"]]
        assert groups.pids("platform/zygote") == [root["pid"]]


def test_a_wake_gives_a_placed_instance_and_its_exit_is_told(own: OwnSutazaid) -> None:
    """Ticket, fork, group, push; killed from outside it is reported as a signal of its own, and the group is gone."""
    broker = up(own, agent("idle"))
    (ticket,) = wake(broker, "idle")
    pushed = broker.push("ticket")
    assert pushed["ticket"] == ticket
    assert pushed["agent"] == "idle"
    assert len(pushed["token"]) == 32
    assert pushed["uid"] == os.geteuid()
    status = own.status()
    assert [each["ticket"] for each in status["instances"]] == [ticket]
    groups = detect_groups(own.fleet, own.state)
    path = f"agents/idle.{ticket}"
    if groups.version != "none":
        assert groups.pids(path) == [pushed["pid"]]
    os.kill(pushed["pid"], signal.SIGKILL)
    ended = broker.push("exit")
    assert (ended["ticket"], ended["reason"], ended["status"], ended["own"]) == (ticket, "signal", -9, True)
    assert own.status()["instances"] == []
    assert not groups.exists(path)
    broker.close()


def test_asking_twice_is_harmless_and_limits_hold(own: OwnSutazaid) -> None:
    """Forks under way are counted in; beyond instances_max it is wait, for an unknown agent no."""
    broker = up(own, agent("silent", instances_max=2))
    first = wake(broker, "silent")
    assert wake(broker, "silent") == first
    assert len(wake(broker, "silent", want=5)) == 2
    assert broker.ask("wake", agent="nobody")["status"] == "no"
    for _ in range(2):
        ended = broker.push("exit")
        assert (ended["reason"], ended["own"], ended["pid"]) == ("fork-failed", False, 0)
    broker.close()


def test_room_is_pushed_when_an_instance_ends(own: OwnSutazaid) -> None:
    """A wake that was told to wait hears of room as soon as the only instance is gone."""
    broker = up(own, agent("idle", instances_max=1))
    wake(broker, "idle")
    pid = broker.push("ticket")["pid"]
    answer = broker.ask("wake", agent="idle")
    assert answer["status"] == "wait"
    assert "has its 1 instances" in answer["why"]
    os.kill(pid, signal.SIGTERM)
    broker.push("exit")
    assert broker.push("room")["agent"] == "idle"
    wake(broker, "idle")
    broker.close()


def test_a_pool_limit_makes_it_wait(own: OwnSutazaid) -> None:
    """A pool's instance limit holds over agents; the reason is given."""
    broker = up(own, agent("idle"), agent("other"), instance_limit=1)
    wake(broker, "idle")
    broker.push("ticket")
    answer = broker.ask("wake", agent="other")
    assert answer["status"] == "wait"
    assert "1 instances" in answer["why"]
    broker.close()


def test_reasons_of_an_exit(own: OwnSutazaid) -> None:
    """ok, error, fork-failed and killed are told apart, with the status and whose fault it was."""
    broker = up(own, agent("ok"), agent("error"), agent("refused"), agent("idle"))
    for name, reason, status, own_fault in (
        ("ok", "ok", 0, True),
        ("error", "error", 4, True),
        ("refused", "fork-failed", -1, False),
    ):
        wake(broker, name)
        ended = broker.push("exit")
        assert (ended["agent"], ended["reason"], ended["status"], ended["own"]) == (name, reason, status, own_fault)
    (ticket,) = wake(broker, "idle")
    while broker.push("ticket")["ticket"] != ticket:
        pass
    assert broker.ask("kill", ticket=ticket, reason="hangs")["ok"]
    ended = broker.push("exit")
    assert (ended["reason"], ended["own"], ended["why"]) == ("killed", True, "hangs")
    assert broker.ask("kill", ticket=ticket)["code"] == "not-found"
    broker.close()


@pytest.mark.root
def test_an_instance_over_its_limit_is_told_as_oom(own: OwnSutazaid) -> None:
    """The kernel kills that instance only; another one of the same pool goes on."""
    own.state.mkdir(parents=True, exist_ok=True)
    if "memory" not in detect_groups(own.fleet, own.state).enforced():
        pytest.skip("this host lets us limit no memory")
    broker = up(own, agent("hungry", memory=48 << 20), agent("idle"))
    wake(broker, "idle")
    bystander = broker.push("ticket")["pid"]
    wake(broker, "hungry")
    ended = broker.push("exit")
    assert (ended["agent"], ended["reason"], ended["own"]) == ("hungry", "oom", True)
    assert procfs.identity(bystander) is not None
    status = own.status()
    assert ("OomKilled", "hungry") in {(each["name"], each["subject"]) for each in status["conditions"]}
    broker.close()


@pytest.mark.root
def test_what_an_instance_forked_away_ends_with_it(own: OwnSutazaid) -> None:
    """A double-forked child in a session of its own is dead before the exit is told."""
    groups = detect_groups(own.fleet, own.state)
    if groups.version == "none":
        pytest.skip("without cgroups a child whose parents have ended is not found")
    broker = up(own, agent("forker"))
    (ticket,) = wake(broker, "forker")
    main = broker.push("ticket")["pid"]
    own.until(lambda _: len(groups.pids(f"agents/forker.{ticket}")) >= 2)
    pids = groups.pids(f"agents/forker.{ticket}")
    broker.push("exit")
    assert not [pid for pid in {*pids, main} if procfs.identity(pid)]
    broker.close()


@pytest.mark.root
def test_each_slot_has_a_uid_of_its_own(own: OwnSutazaid) -> None:
    """Two instances at a time have two uids; a freed one is given again."""
    if os.geteuid() != 0:
        pytest.skip("only root can change a uid")
    broker = up(own, agent("idle", instances_max=3), uid_first=70_000)
    wake(broker, "idle", want=2)
    pushed = [broker.push("ticket") for _ in range(2)]
    assert sorted(each["uid"] for each in pushed) == [70_000, 70_001]
    first = next(each for each in pushed if each["uid"] == 70_000)
    own.until(lambda _: procfs.uid(first["pid"]) == 70_000)
    os.kill(first["pid"], signal.SIGKILL)
    broker.push("exit")
    wake(broker, "idle")
    assert broker.push("ticket")["uid"] == 70_000
    broker.close()


def test_sutazaid_killed_keeps_instances_and_tokens(own: OwnSutazaid) -> None:
    """Instances and workers live on; the broker is told the same tickets with the same tokens; exits are still told."""
    broker = up(own, agent("idle"))
    wake(broker, "idle", want=2)
    before = sorted(
        (push["ticket"], push["token"], push["pid"]) for push in (broker.push("ticket"), broker.push("ticket"))
    )
    member = own.process("python-0")["pid"]
    sutazaid = own.sutazaid_pid()
    os.kill(sutazaid, signal.SIGKILL)
    own.gone([sutazaid])
    broker.close()
    status = own.until(lambda status: status["state"] == "up")
    assert row(status, "python-0")["pid"] == member
    broker = own.peer()
    broker.ask("hello", process="broker")
    tickets = broker.push("tickets")["tickets"]
    assert sorted((each["ticket"], each["token"], each["pid"]) for each in tickets) == before
    os.kill(before[0][2], signal.SIGKILL)
    ended = broker.push("exit")
    assert (ended["ticket"], ended["reason"], ended["status"]) == (before[0][0], "signal", -9)
    own.until(lambda _: broker.ask("wake", agent="idle")["status"] == "yes")
    assert broker.push("ticket")["pid"]
    broker.close()


def test_a_killed_worker_comes_back_and_its_instances_go_on(own: OwnSutazaid) -> None:
    """The member is forked anew by the root zygote; what it had forked before is not touched."""
    broker = up(own, agent("idle"))
    wake(broker, "idle")
    instance = broker.push("ticket")["pid"]
    member = own.process("python-0")["pid"]
    os.kill(member, signal.SIGKILL)
    own.until(lambda status: row(status, "python-0")["ready"] and row(status, "python-0")["pid"] != member)
    assert procfs.identity(instance) is not None
    wake(broker, "idle")
    broker.push("ticket")
    root = own.process("zygote")["pid"]
    os.kill(root, signal.SIGKILL)
    status = own.until(lambda status: row(status, "zygote")["ready"] and row(status, "zygote")["pid"] != root)
    assert row(status, "python-0")["ready"], "a member does not need the root to live"
    broker.close()


def test_drain_tells_the_broker_and_ends_instances(own: OwnSutazaid) -> None:
    """Stop: the broker hears drain; instances that do not leave by themselves are ended, not as their own failure."""
    broker = up(own, agent("idle"))
    wake(broker, "idle")
    instance = broker.push("ticket")["pid"]
    broker.send({"op": "stop", "id": 99})
    broker.push("drain")
    ended = broker.push("exit")
    assert (ended["reason"], ended["own"]) == ("killed", False)
    assert procfs.identity(instance) is None
    own.gone([own.guard_pid()])
    broker.close()
    assert not own.run.exists()


def test_only_the_worker_that_was_asked_may_answer(own: OwnSutazaid) -> None:
    """Another peer cannot confirm somebody's ticket, and cannot register as a worker with a pid that is not its own."""
    broker = up(own, agent("silent"))
    (ticket,) = wake(broker, "silent")
    assert broker.ask("forked", ticket=ticket, pid=os.getpid())["code"] == "protocol"
    assert broker.ask("register", worker="python-0", pid=1)["code"] == "protocol"
    assert broker.ask("register", worker="python-0")["code"] == "refused"
    assert broker.ask("register", worker="python-9")["code"] == "not-found"
    broker.close()


AGENT = """
from sutazai.runtime import Agent, Context

agent = Agent("greeter")


@agent.skill
def greet(name: str, ctx: Context) -> str:
    \"\"\"Greet somebody.\"\"\"
    return f"Hello, {name}!"
"""


def test_the_real_zygote_forks_a_real_instance(own: OwnSutazaid, tmp_path: Path) -> None:
    """`python -m sutazai.runtime.zygote` understands all of this: register, member, fork, pipe, release."""
    module = tmp_path / "greeter.py"
    module.write_text(AGENT)
    argv = [sys.executable, "-m", "sutazai.runtime.zygote"]
    broker = up(own, agent("greeter", module=str(module), memory=256 << 20), argv=argv)
    (ticket,) = wake(broker, "greeter")
    pushed = broker.push("ticket")
    assert pushed["ticket"] == ticket
    assert pushed["uid"] == procfs.uid(pushed["pid"])
    groups = detect_groups(own.fleet, own.state)
    if groups.version != "none":
        own_groups = [name for name in groups.children("agents") if name.endswith(f".{ticket}")]  # placed, or a spare's
        assert [pid for name in own_groups for pid in groups.pids(f"agents/{name}")] == [pushed["pid"]]
    os.kill(pushed["pid"], signal.SIGKILL)
    assert broker.push("exit")["reason"] == "signal"
    broker.close()
