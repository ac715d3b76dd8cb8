"""``kill -9`` of the supervisor and of its guard: what runs goes on untouched, and nothing is forgotten."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from sutazai.host import procfs
from sutazai.host.cgroup import detect_groups
from sutazai.supervisor.contract import Limits, Listen, Process, Restart
from sutazai.testing.sutazaid import OwnSutazaid, free_port, http_ready, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HTTP = """
import os, json, socket
server = socket.socket(fileno=json.loads(os.environ["SUTAZAI_LISTEN"])["web"][0])
while True:
    peer, _ = server.accept()
    peer.recv(65536)
    body = str(os.getpid())
    peer.sendall(f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
    peer.close()
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnSutazaid]:
    """A fleet of its own that is gone afterwards, whatever happened."""
    fleet = OwnSutazaid(tmp_path)
    yield fleet
    fleet.close()


def web(own: OwnSutazaid, port: int) -> Process:
    """A small HTTP server on a socket that ``sutazaid`` holds."""
    return own.service("web", HTTP, listen=[Listen("web", port=port)], ready=http_ready(port))


def get(port: int) -> int:
    """Ask the server for its pid."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
        peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while data := peer.recv(65_536):
            answer += data
    return int(answer.rpartition(b"\r\n\r\n")[2])


def kill_sutazaid(own: OwnSutazaid) -> int:
    """Kill it and wait until another one answers; returns the new pid."""
    old = own.sutazaid_pid()
    os.kill(old, signal.SIGKILL)
    own.gone([old])
    own.until(lambda status: status["state"] in {"up", "degraded"})
    return own.sutazaid_pid()


def test_sutazaid_killed_re_adopts_all(own: OwnSutazaid) -> None:
    """Same pids, same counters, same limits, same conditions, the port served all the time."""
    port = free_port()
    plan = own.plan(
        web(own, port),
        own.shell("quiet", "exec sleep 1000", limits=Limits(memory_bytes=64 << 20)),
        own.shell("job", "exit 0", ready=own_ready_exit()),
        own.shell("bad", "exit 3", stage="edge"),
        restart=Restart(base_ms=5_000, cap_ms=60_000, crash_loop_count=1),
    )
    own.up(plan)
    before = own.until(lambda status: "CrashLoop" in {each["name"] for each in status["conditions"]})
    pids = {each["name"]: each["pid"] for each in before["processes"]}
    for _ in range(3):
        kill_sutazaid(own)
        after = own.status()
        assert {name: row(after, name)["pid"] for name in ("web", "quiet")} == {
            name: pids[name] for name in ("web", "quiet")
        }
        assert row(after, "job")["state"] == "done", "a job that is done is not done again"
        assert get(port) == pids["web"]
    assert row(after, "quiet")["restarts"] == 0
    assert row(after, "bad")["restarts"] >= 1
    assert "CrashLoop" in {each["name"] for each in after["conditions"]}
    assert after["since_wall_ms"] == before["since_wall_ms"]
    groups = detect_groups(own.fleet, own.state)
    if "memory" in groups.enforced():
        for name in ("web", "quiet"):
            assert groups.pids(f"standard/{name}") == [pids[name]], "nothing is started beside what lives"
    assert own.stop()["ok"] is True
    assert not [pid for pid in pids.values() if pid and procfs.identity(pid)]
    assert not own.run.exists()


def own_ready_exit() -> object:
    """Ready when the job ends with 0."""
    from sutazai.supervisor.contract import Ready

    return Ready("exit")


def test_an_adopted_process_is_repaired_and_its_exit_is_known(own: OwnSutazaid) -> None:
    """A process that the dead sutazaid started is restarted by the new one; the guard tells how it ended."""
    own.up(own.plan(own.shell("a", "trap 'exit 9' TERM; while :; do sleep 0.05; done")))
    old = own.process("a")["pid"]
    kill_sutazaid(own)
    os.kill(old, signal.SIGTERM)
    status = own.until(lambda status: row(status, "a")["restarts"] == 1 and row(status, "a")["ready"])
    assert row(status, "a")["last_exit"] == "exit status 9"
    assert row(status, "a")["pid"] != old


def test_a_process_that_died_meanwhile_is_started_again(own: OwnSutazaid) -> None:
    """Both die at once: the new sutazaid does not believe its notes, and starts the process anew."""
    own.up(own.plan(own.shell("a", "exec sleep 1000")))
    old, sutazaid = own.process("a")["pid"], own.sutazaid_pid()
    os.kill(sutazaid, signal.SIGSTOP)
    os.kill(old, signal.SIGKILL)
    os.kill(sutazaid, signal.SIGKILL)
    status = own.until(lambda status: row(status, "a")["ready"] and row(status, "a")["pid"] != old)
    assert row(status, "a")["restarts"] == 1


def test_a_stranger_in_the_notes_is_not_adopted(own: OwnSutazaid, tmp_path: Path) -> None:
    """A note that names a living process outside the group (a reused pid) is not believed, and it is not harmed."""
    own.up(own.plan(own.shell("a", "exec sleep 1000")))
    sutazaid = own.sutazaid_pid()
    os.kill(sutazaid, signal.SIGSTOP)
    notes = own.state / "adopt.json"
    facts = json.loads(notes.read_text())
    me = procfs.identity(os.getpid())
    assert me is not None
    old = facts["processes"]["a"]["pid"]
    facts["processes"]["a"].update(pid=me.pid, start_ticks=me.start_ticks)
    notes.write_text(json.dumps(facts))
    os.kill(sutazaid, signal.SIGKILL)
    own.until(lambda status: row(status, "a")["ready"] and row(status, "a")["pid"] not in {me.pid, old})
    own.gone([old])


def test_connections_made_while_sutazaid_is_dead_are_answered(own: OwnSutazaid) -> None:
    """The control socket is kept by the guard: a request sent between death and return waits, and is answered."""
    own.up(own.plan(own.shell("a", "exec sleep 1000")))
    answers = []
    for _ in range(3):
        os.kill(own.sutazaid_pid(), signal.SIGKILL)
        asking = threading.Thread(target=lambda: answers.append(own.ask("status")["ok"]))
        asking.start()
        asking.join(60)
    assert answers == [True] * 3


def kill_both(own: OwnSutazaid) -> None:
    """Kill guard and ``sutazaid`` so that neither can stand in for the other."""
    sutazaid, guard = own.sutazaid_pid(), own.guard_pid()
    os.kill(sutazaid, signal.SIGSTOP)
    for victim in (guard, sutazaid):
        os.kill(victim, signal.SIGKILL)
        own.gone([victim])


def kill_guard(own: OwnSutazaid) -> None:
    """Kill the guard, and wait until its ``sutazaid`` has taken its place and another one has adopted all that runs."""
    before, guard, sutazaid = own.status(), own.guard_pid(), own.sutazaid_pid()
    os.kill(guard, signal.SIGKILL)
    own.gone([guard])
    status = own.until(lambda status: own.guard_pid() == sutazaid and status["state"] == "up")
    assert own.sutazaid_pid() not in {guard, sutazaid}
    assert [each["pid"] for each in status["processes"]] == [each["pid"] for each in before["processes"]]
    assert "Unguarded" not in {each["name"] for each in status["conditions"]}


def test_a_killed_guard_is_replaced_by_its_sutazaid(own: OwnSutazaid) -> None:
    """No process, port or exit status is lost; the new guard does what the old one did; a second one, too."""
    port = free_port()
    own.up(own.plan(web(own, port), own.shell("a", "exec sleep 1000")))
    kill_guard(own)
    assert get(port) == own.process("web")["pid"]
    pid = own.process("a")["pid"]
    os.kill(pid, signal.SIGKILL)
    status = own.until(lambda status: row(status, "a")["restarts"] == 1 and row(status, "a")["ready"])
    assert row(status, "a")["last_exit"] == "killed by SIGKILL", "the new guard reaps what the old sutazaid had started"
    victim = own.sutazaid_pid()
    os.kill(victim, signal.SIGKILL)
    own.gone([victim])
    own.until(lambda status: status["state"] == "up")
    kill_guard(own)
    assert get(port) == own.process("web")["pid"]
    guard = own.guard_pid()
    assert own.ask("stop")["ok"] is True
    own.gone([guard])
    assert not own.run.exists()


def test_a_second_start_is_still_refused(own: OwnSutazaid) -> None:
    """The fleet's lock goes with the process that takes the guard's place."""
    plan = own.plan(own.shell("a", "exec sleep 1000"))
    own.up(plan)
    kill_guard(own)
    assert own.start_again().returncode == 3


def test_guard_and_sutazaid_killed_a_new_up_adopts(own: OwnSutazaid) -> None:
    """With both dead the work goes on; the next start takes everything over, the listening socket included."""
    port = free_port()
    plan = own.plan(web(own, port))
    pid = row(own.up(plan), "web")["pid"]
    kill_both(own)
    assert get(port) == pid
    status = own.up(plan)
    assert row(status, "web")["pid"] == pid
    os.kill(pid, signal.SIGKILL)
    own.gone([pid])
    assert get(port) != pid


def test_a_stop_survives_sutazaids_death(own: OwnSutazaid) -> None:
    """The wish to stop is on disk: a sutazaid killed while stopping is followed by one that goes on stopping."""
    own.up(own.plan(own.shell("slow", "trap '' TERM; while :; do sleep 0.05; done", stop_grace_ms=2_000)))
    guard, pid, sutazaid = own.guard_pid(), own.process("slow")["pid"], own.sutazaid_pid()
    peer = own.peer()
    peer.send({"op": "stop", "id": 1})
    own.until(lambda status: status["state"] == "stopping")
    os.kill(sutazaid, signal.SIGKILL)
    own.gone([guard, sutazaid, pid])
    peer.close()
    assert not own.run.exists()
    assert not detect_groups(own.fleet, own.state).exists("")


def test_a_stop_that_finds_no_sutazaid(own: OwnSutazaid) -> None:
    """SIGTERM reaches the guard between two ``sutazaid``: the next one is told when it is up; the fleet ends."""
    own.up(own.plan(own.shell("left", "exec sleep 1000")))
    guard, pid, sutazaid = own.guard_pid(), own.process("left")["pid"], own.sutazaid_pid()
    os.kill(guard, signal.SIGSTOP)
    try:
        os.kill(sutazaid, signal.SIGKILL)
        os.kill(guard, signal.SIGTERM)
    finally:
        os.kill(guard, signal.SIGCONT)
    own.gone([guard, sutazaid, pid])
    assert not own.run.exists()


def test_a_stop_while_the_guard_is_replaced(own: OwnSutazaid) -> None:
    """SIGTERM to the ``sutazaid`` that is becoming the guard ends the fleet, at whatever step it arrives."""
    own.up(own.plan(own.shell("left", "exec sleep 1000")))
    guard, pid, sutazaid = own.guard_pid(), own.process("left")["pid"], own.sutazaid_pid()
    os.kill(guard, signal.SIGKILL)
    while procfs.name(sutazaid) == "sutazaid":
        pass  # the name changes at the exec, before the new program has any handler
    os.kill(sutazaid, signal.SIGTERM)
    own.gone([guard, sutazaid, pid])
    assert not own.run.exists()


def test_down_without_a_living_sutazaid_ends_what_is_left(own: OwnSutazaid) -> None:
    """Guard and sutazaid are dead: a start with --down adopts what is left, stops it, and ends."""
    plan = own.plan(own.shell("left", "exec sleep 1000"))
    pid = row(own.up(plan), "left")["pid"]
    kill_both(own)
    assert own.start(plan, "--down", "--foreground").returncode == 0
    own.gone([pid])
    assert not own.run.exists()
