"""A new plan, a refused one, garbage on the socket, and a host without rights."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sutazai.host import procfs
from sutazai.limits import LINE_BYTES_MAX
from sutazai.supervisor.contract import Agent, Limits, Listen, PlanFile, Pool, Ready
from sutazai.testing.sutazaid import OwnSutazaid, free_port, row

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnSutazaid]:
    """A fleet of its own that is gone afterwards, whatever happened."""
    fleet = OwnSutazaid(tmp_path)
    yield fleet
    fleet.close()


def test_a_plan_swap_touches_only_what_changes(own: OwnSutazaid, tmp_path: Path) -> None:
    """Kept goes on, changed is restarted, removed is stopped with its port, added is started; the file is the new."""
    port = free_port()
    kept = own.shell("kept", "exec sleep 1000")
    plan = own.plan(
        kept,
        own.shell("changed", "exec sleep 1000"),
        own.shell("removed", "exec sleep 1000", listen=[Listen("r", port=port)]),
        pools=[Pool("standard", 1 << 30), Pool("platform", 512 << 20), Pool("old", 64 << 20)],
    )
    before = own.up(plan)
    new = own.plan(
        own.shell("added", "exec sleep 1000", stage="edge"),
        kept,
        own.shell("changed", "exec sleep 1000", env={"NEW": "1"}),
        digest="d2",
        pools=[Pool("standard", 1 << 30), Pool("platform", 512 << 20), Pool("fresh", 64 << 20)],
    )
    path = tmp_path / "next.json"
    new.dump(path)
    answer = own.ask("plan", path=str(path))
    assert answer["ok"]
    assert (answer["kept"], answer["changed"]) == (["kept"], ["changed"])
    assert (answer["removed"], answer["added"]) == (["removed"], ["added"])
    after = own.until(lambda status: status["state"] == "up" and row(status, "added")["ready"])
    assert after["digest"] == "d2"
    assert [each["name"] for each in after["processes"]] == ["added", "kept", "changed"]
    assert row(after, "kept")["pid"] == row(before, "kept")["pid"]
    assert row(after, "changed")["pid"] != row(before, "changed")["pid"]
    assert b"NEW=1" in Path(f"/proc/{row(after, 'changed')['pid']}/environ").read_bytes()
    assert procfs.identity(row(before, "removed")["pid"]) is None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert PlanFile.load(own.plan_path).digest == "d2"
    assert [each["name"] for each in after["pools"]] == ["standard", "platform", "fresh"]


def test_a_refused_plan_leaves_the_old_one_running(own: OwnSutazaid, tmp_path: Path) -> None:
    """No file, no JSON, an impossible plan, another fleet's plan: each is refused with its reason, nothing changes."""
    plan = own.plan(own.shell("a", "exec sleep 1000"))
    pid = row(own.up(plan), "a")["pid"]
    path = tmp_path / "next.json"
    assert "cannot read the plan" in own.ask("plan", path=str(path))["error"]
    path.write_text("{ not json")
    assert "is no JSON" in own.ask("plan", path=str(path))["error"]
    replace(plan, processes=[own.shell("a", "exit 0", pool="nowhere")]).dump(path)
    answer = own.ask("plan", path=str(path))
    assert answer["code"] == "bad-config"
    assert "there is no pool 'nowhere'" in answer["error"]
    replace(plan, fleet="other").dump(path)
    assert "the running fleet's is" in own.ask("plan", path=str(path))["error"]
    status = own.status()
    assert row(status, "a")["pid"] == pid
    assert status["digest"] == "d1"
    assert ("PlanRefused", own.fleet) in {(each["name"], each["subject"]) for each in status["conditions"]}
    plan.dump(path)
    assert own.ask("plan", path=str(path))["ok"]
    own.until(lambda status: not status["conditions"])


def test_a_plan_changed_while_sutazaid_was_dead_is_applied(own: OwnSutazaid) -> None:
    """What was started from another entry is adopted, and then restarted from the new one."""
    plan = own.plan(own.shell("a", "exec sleep 1000"), own.shell("b", "exec sleep 1000"))
    before = own.up(plan)
    guard, sutazaid = own.guard_pid(), own.sutazaid_pid()
    os.kill(sutazaid, signal.SIGSTOP)  # else it takes the guard's place
    for victim in (guard, sutazaid):
        os.kill(victim, signal.SIGKILL)
        own.gone([victim])
    new = own.plan(own.shell("a", "exec sleep 1000", env={"NEW": "1"}), own.shell("b", "exec sleep 1000"))
    own.up(new)
    after = own.until(lambda status: row(status, "a")["ready"] and row(status, "a")["pid"] != row(before, "a")["pid"])
    assert row(after, "b")["pid"] == row(before, "b")["pid"]
    assert b"NEW=1" in Path(f"/proc/{row(after, 'a')['pid']}/environ").read_bytes()


def test_restart_of_what_is_being_stopped_is_refused_and_the_stop_ends(own: OwnSutazaid) -> None:
    """A restart that comes inside a stop's grace must not bring the process back: the fleet goes down all the same."""
    deaf = own.shell("slow", "exec sleep 1000", stop_signal=signal.SIGCONT, stop_grace_ms=1_500)
    own.up(own.plan(deaf))
    pids = [own.process("slow")["pid"], own.sutazaid_pid(), own.guard_pid()]
    stopper = own.peer()
    stopper.send({"op": "stop", "id": 1})
    own.until(lambda status: row(status, "slow")["state"] == "stopping")
    assert own.ask("restart", process="slow")["code"] == "refused"
    own.gone(pids)
    stopper.close()


def test_restart_and_ready_over_the_socket(own: OwnSutazaid) -> None:
    """`ready` counts only from the process itself; `restart` gives a new pid; unknown names are told."""
    code = (
        "import json,os,socket,time\n"
        "s=socket.socket(socket.AF_UNIX)\n"
        "s.connect(os.environ['SUTAZAI_RUN_ROOT']+'/'+os.environ['SUTAZAI_FLEET']+'/sutazaid.sock')\n"
        "s.sendall(json.dumps({'op':'ready','process':'talker'}).encode()+b'\\n')\n"
        "time.sleep(1000)\n"
    )
    ready = Ready("notify", timeout_ms=60_000)
    mute = own.shell("mute", "exec sleep 1000", ready=ready)
    assert own.start(own.plan(own.service("talker", code, ready=ready), mute)).returncode == 0
    status = own.until(lambda status: row(status, "talker")["ready"])
    assert row(status, "mute")["state"] == "starting"
    assert own.ask("ready", process="mute")["code"] == "refused"
    old = row(status, "talker")["pid"]
    assert own.ask("restart", process="talker")["ok"]
    own.until(lambda status: row(status, "talker")["ready"] and row(status, "talker")["pid"] != old)
    assert own.ask("restart", process="nobody")["code"] == "not-found"
    assert own.ask("kill", process="mute", signal=9)["ok"]
    own.until(lambda status: row(status, "mute")["restarts"] == 1)


def test_conditions_of_others_are_kept(own: OwnSutazaid) -> None:
    """Another process raises and clears a condition; an unknown kind is refused."""
    own.up(own.plan(own.shell("a", "exec sleep 1000")))
    say = {"name": "DeadLetters", "subject": "some-agent", "text": "3 tasks"}
    assert own.ask("condition", active=True, **say)["ok"]
    (condition,) = own.ask("conditions")["conditions"]
    assert (condition["name"], condition["subject"], condition["text"]) == ("DeadLetters", "some-agent", "3 tasks")
    assert condition["fix"]
    assert own.ask("condition", active=False, **say)["ok"]
    assert own.ask("conditions")["conditions"] == []
    assert own.ask("condition", active=True, name="Nonsense", subject="x")["code"] == "not-found"


GARBAGE = (
    b"\x00\xff\xfe garbage\n",
    b"[1, 2, 3]\n",
    b'{"op": 5}\n',
    b"{" * 100_000 + b"\n",
    b"x" * (LINE_BYTES_MAX + 2),
    b'{"op": "status"',
)


def test_garbage_on_the_socket_harms_nobody(own: OwnSutazaid) -> None:
    """Not JSON, wrong types, deep nesting, an endless line, half a line: told and cut off; all others are served."""
    pid = row(own.up(own.plan(own.shell("a", "exec sleep 1000"))), "a")["pid"]
    sutazaid = own.sutazaid_pid()
    for garbage in GARBAGE:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(60)
            peer.connect(str(own.run / "sutazaid.sock"))
            peer.sendall(garbage)
            if garbage.endswith(b"\n") or len(garbage) > LINE_BYTES_MAX:
                assert b'"ok":false' in peer.recv(65_536)
                assert peer.recv(65_536) == b""
    for fields in ({"op": "nonsense"}, {"op": "wake"}, {"op": "wake", "agent": 5}, {"op": "queues", "queues": []}):
        assert own.ask(**fields)["ok"] is False  # type: ignore[arg-type]
    assert own.ask("kill", process="a", signal=900)["code"] == "protocol"
    idle = [own.peer() for _ in range(20)]
    assert own.sutazaid_pid() == sutazaid
    assert own.process("a")["pid"] == pid
    for peer in idle:
        peer.close()


def test_a_reader_that_does_not_read_is_cut_off(own: OwnSutazaid) -> None:
    """Answers to a peer that never reads do not pile up without bound, and nobody else waits."""
    own.up(own.plan(own.shell("a", "exec sleep 1000")))
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.settimeout(60)
        deaf.connect(str(own.run / "sutazaid.sock"))
        with pytest.raises(ConnectionError):
            ask_for_ever(deaf)
    assert own.status()["ok"]


def ask_for_ever(peer: socket.socket) -> None:
    """Ask without reading any answer."""
    while True:
        peer.sendall(b'{"op":"status"}\n' * 100)


@pytest.mark.root
def test_another_user_is_not_served(own: OwnSutazaid) -> None:
    """The socket's mode keeps other users out."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    own.up(own.plan(own.shell("a", "exec sleep 1000")))
    assert (own.run / "sutazaid.sock").stat().st_mode & 0o777 == 0o600
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setresgid(65_534, 65_534, 65_534)
            os.setresuid(65_534, 65_534, 65_534)
            with socket.socket(socket.AF_UNIX) as peer:
                code = 0 if peer.connect_ex(str(own.run / "sutazaid.sock")) == 13 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.root
def test_without_rights_it_runs_and_says_what_it_cannot_hold() -> None:
    """As an unprivileged user without cgroups: the fleet works, stops cleanly, and pretends nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    nobody = pwd.getpwnam("nobody").pw_uid
    folder = Path(tempfile.mkdtemp(prefix="sn"))
    folder.chmod(0o755)
    (folder / "state").mkdir()
    (folder / "state").chmod(0o777)
    own = OwnSutazaid(folder)
    try:
        hungry = "import time\nblocks = [bytearray(200 << 20)]\ntime.sleep(1000)\n"
        plan = own.plan(
            own.shell("a", "exec sleep 1000", limits=Limits(memory_bytes=64 << 20, cpu_quota_cores=0.5)),
            own.service("hungry", hungry, limits=Limits(memory_bytes=64 << 20), stage="edge"),
            agents=[Agent("x", "/x", "1", "base", "standard", Limits(), 0, 1, 1_000, 0)],
            instance_uid_first=70_000,
        )
        if own.start(plan, uid=nobody).returncode:
            pytest.skip(f"an unprivileged user cannot read {sys.executable}")
        status = own.until(lambda status: row(status, "a")["ready"])
        if status["enforcement"]["version"] != "none":
            pytest.skip("this host delegates cgroups to nobody")
        assert "memory" in {each["limit"] for each in status["enforcement"]["missing"]}
        status = own.until(
            lambda status: (
                {"LimitNotEnforced", "PrivilegesNotDropped"} <= {each["name"] for each in status["conditions"]}
            )
        )
        assert procfs.uid(row(status, "a")["pid"]) == nobody
        own.until(lambda status: row(status, "hungry")["restarts"] >= 1)
        assert "MemoryError" in own.log("hungry"), "RLIMIT_DATA is what is left"
        pid = row(status, "a")["pid"]
        assert own.ask("wake", agent="x")["status"] == "wait"
        own.stop()
        own.gone([pid])
    finally:
        own.close()
        shutil.rmtree(folder, ignore_errors=True)
