"""One fleet, real processes: coming up in stages, being repaired, being limited, being stopped without a trace."""

from __future__ import annotations

import os
import re
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from sutazai.host import procfs
from sutazai.host.cgroup import detect_groups
from sutazai.supervisor.contract import Limits, Listen, Probe, Ready, Restart
from sutazai.testing.sutazaid import OwnSutazaid, free_port, http_ready, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HTTP = """
import os, json, socket
fd = json.loads(os.environ["SUTAZAI_LISTEN"])["web"][0]
server = socket.socket(fileno=fd)
while True:
    peer, _ = server.accept()
    peer.recv(65536)
    status = open(STATUS).read().strip() if os.path.exists(STATUS) else "200 OK"
    body = str(os.getpid())
    peer.sendall(f"HTTP/1.1 {status}\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
    peer.close()
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnSutazaid]:
    """A fleet of its own that is gone afterwards, whatever happened."""
    fleet = OwnSutazaid(tmp_path)
    yield fleet
    fleet.close()


def has_cgroups(own: OwnSutazaid) -> bool:
    """Whether this host lets us limit memory."""
    own.state.mkdir(parents=True, exist_ok=True)
    return "memory" in detect_groups(own.fleet, own.state).enforced()


def web(own: OwnSutazaid, port: int, status_file: Path, **fields: object) -> object:
    """A small HTTP server on a socket that ``sutazaid`` holds; its body is its pid."""
    return own.service(
        "web",
        HTTP.replace("STATUS", repr(str(status_file))),
        listen=[Listen("web", port=port)],
        ready=http_ready(port),
        **fields,
    )


def get(port: int) -> tuple[int, int]:
    """Ask the server of ``web`` for its status code and its pid."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
        peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while data := peer.recv(65_536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), int(body)


def test_stages_wait_for_readiness_and_order(own: OwnSutazaid, tmp_path: Path) -> None:
    """A stage begins when the one before is ready, `after` holds inside a stage, and no sleep decides it."""
    order = tmp_path / "order"
    note = f"echo $SUTAZAI_PROCESS >> {order}; "
    plan = own.plan(
        own.shell("edge", note + "exec sleep 1000", stage="edge"),
        own.shell("second", note + "exit 0", after=["first"], ready=Ready("exit")),
        own.shell("first", note + "sleep 0.3; echo first-ready >> " + str(order) + "; exit 0", ready=Ready("exit")),
        own.shell("store", note + "exit 0", stage="store", ready=Ready("exit")),
    )
    status = own.up(plan)
    own.until(lambda _: len(order.read_text().split()) == 5)
    assert order.read_text().split() == ["store", "first", "first-ready", "second", "edge"]
    assert [row(status, name)["state"] for name in ("store", "first", "second")] == ["done"] * 3
    assert row(status, "edge")["ready"]


def test_http_readiness_reads_the_status(own: OwnSutazaid, tmp_path: Path) -> None:
    """A server that answers 503 is not ready; the same server with 200 is."""
    port, status_file = free_port(), tmp_path / "status"
    status_file.write_text("503 Down")
    assert own.start(own.plan(web(own, port, status_file))).returncode == 0  # type: ignore[arg-type]
    own.until(lambda status: "HTTP 503" in row(status, "web")["why"])
    status_file.write_text("200 OK")
    status = own.until(lambda status: status["state"] == "up")
    assert row(status, "web")["listen"] == [{"name": "web", "port": port}]
    assert get(port)[1] == row(status, "web")["pid"]


def test_restart_with_backoff_keeps_the_socket(own: OwnSutazaid, tmp_path: Path) -> None:
    """A killed process comes back with another pid; a connection made while it was dead is served by the new one."""
    port = free_port()
    service = web(own, port, tmp_path / "none")
    plan = own.plan(service, restart=Restart(base_ms=1_000, cap_ms=1_000))  # type: ignore[arg-type]
    old = row(own.up(plan), "web")["pid"]
    os.kill(old, signal.SIGKILL)
    own.gone([old])
    code, new = get(port)
    assert code == 200
    assert new != old
    status = own.until(lambda status: row(status, "web")["state"] == "ready")
    assert row(status, "web")["restarts"] == 1
    assert row(status, "web")["last_exit"] == "killed by SIGKILL"


def test_crash_loop_is_said_and_taken_back(own: OwnSutazaid, tmp_path: Path) -> None:
    """Too many ends in the window raise CrashLoop with the last exit; when it holds at last, the condition goes."""
    good = tmp_path / "good"
    plan = own.plan(
        own.shell("bad", f"test -e {good} && exec sleep 1000; exit 7"),
        own.shell("other", "exec sleep 1000", stage="edge"),
        restart=Restart(base_ms=1, cap_ms=50, crash_loop_count=4, crash_loop_window_ms=3_000),
    )
    status = own.up(plan)
    status = own.until(lambda status: "CrashLoop" in {each["name"] for each in status["conditions"]})
    condition = next(each for each in status["conditions"] if each["name"] == "CrashLoop")
    assert condition["subject"] == "bad"
    assert "exit status 7" in condition["text"]
    assert status["state"] == "degraded"
    assert row(status, "other")["ready"], "a broken service must not keep the next stage down"
    good.touch()
    own.until(lambda status: status["state"] == "up" and not status["conditions"])


def test_stop_leaves_nothing(own: OwnSutazaid, tmp_path: Path) -> None:
    """Stop is answered when all is gone: no process (also a stubborn one), no cgroup, no socket; in reverse order."""
    order, port = tmp_path / "order", free_port()
    trap = f"trap 'echo $SUTAZAI_PROCESS >> {order}; exit 0' TERM; while :; do sleep 0.05; done"
    plan = own.plan(
        own.shell("store", trap, stage="store"),
        own.shell("middle", trap),
        own.shell("edge", trap, stage="edge", listen=[Listen("edge", port=port)]),
        own.shell("stubborn", "trap '' TERM; while :; do sleep 0.05; done", stop_grace_ms=200),
    )
    status = own.up(plan)
    own.until(lambda status: all(each["pids"] >= 1 for each in status["processes"]) or not has_cgroups(own))
    pids = [each["pid"] for each in status["processes"]] + [own.guard_pid(), own.sutazaid_pid()]
    assert own.stop()["ok"] is True
    assert not [pid for pid in pids if procfs.identity(pid)]
    assert not own.run.exists()
    assert not detect_groups(own.fleet, own.state).exists("")
    assert order.read_text().split() == ["edge", "middle", "store"]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.root
def test_memory_limit_ends_only_the_one_over_it(own: OwnSutazaid) -> None:
    """A service over its limit is killed by the kernel, is counted and named; its neighbour is not touched."""
    if not has_cgroups(own):
        pytest.skip("this host lets us limit no memory")
    hungry = "import time\nblocks = []\nwhile True:\n    blocks.append(bytearray(4 << 20))\n    time.sleep(0.01)\n"
    plan = own.plan(
        own.service("hungry", hungry, limits=Limits(memory_bytes=48 << 20)),
        own.shell("neighbour", "exec sleep 1000"),
        restart=Restart(base_ms=1, cap_ms=100),
    )
    neighbour = row(own.up(plan), "neighbour")["pid"]
    status = own.until(lambda status: "OomKilled" in {each["name"] for each in status["conditions"]})
    condition = next(each for each in status["conditions"] if each["name"] == "OomKilled")
    assert condition["subject"] == "hungry"
    assert "out of memory" in condition["text"]
    status = own.until(lambda status: row(status, "hungry")["restarts"] >= 1)
    assert row(status, "neighbour")["pid"] == neighbour
    assert row(status, "neighbour")["restarts"] == 0
    assert row(status, "hungry")["memory_limit_bytes"] == 48 << 20
    status = own.until(lambda status: row(status, "hungry")["oom_kills"] >= 2)  # counted beyond the group's own life
    assert row(status, "hungry")["memory_peak_bytes"] <= 48 << 20


@pytest.mark.root
def test_a_child_that_forked_away_ends_with_its_service(own: OwnSutazaid, tmp_path: Path) -> None:
    """The main process exits and leaves a double-forked child in its own session: that child is ended, too."""
    if not has_cgroups(own):
        pytest.skip("without cgroups a child whose parents have ended is not found")
    note = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {note}; exec sleep 1000' & while ! test -s {note}; do sleep 0.02; done; exit 0"
    own.up(own.plan(own.shell("leaver", script, ready=Ready("exit"))))
    own.gone([int(note.read_text())])


def test_a_failed_exec_says_why(own: OwnSutazaid) -> None:
    """A missing program and a missing folder are named with the kernel's words, not only as an exit status."""
    missing = own.shell("missing", "")
    missing.argv[:] = ["/nonexistent/program"]
    own.up(own.plan(missing, own.shell("lost", "exit 0", cwd="/nonexistent")))
    status = own.until(lambda status: all(each["last_exit"] for each in status["processes"]))
    assert row(status, "missing")["last_exit"] == "cannot execute /nonexistent/program: No such file or directory"
    assert row(status, "lost")["last_exit"] == "cannot enter the folder /nonexistent: No such file or directory"


def test_a_taken_port_names_its_holder(own: OwnSutazaid, tmp_path: Path) -> None:
    """The process waits under the condition PortTaken, which names us; once the port is free it starts by itself."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert own.start(own.plan(web(own, port, tmp_path / "none"))).returncode == 0  # type: ignore[arg-type]
        status = own.until(lambda status: bool(status["conditions"]))
        condition = status["conditions"][0]
        assert (condition["name"], condition["subject"]) == ("PortTaken", "web")
        assert f"port {port} is held by pid {os.getpid()}" in condition["text"]
    status = own.until(lambda status: status["state"] == "up")
    assert not status["conditions"]


def test_an_unhealthy_service_is_evidence(own: OwnSutazaid, tmp_path: Path) -> None:
    """A server that begins to answer 500 raises Unhealthy with status and latency; it clears when it answers 200."""
    port, status_file = free_port(), tmp_path / "status"
    probe = Probe("http", port=port, path="/", interval_ms=50, fail_after=2)
    own.up(own.plan(web(own, port, status_file, probe=probe)))  # type: ignore[arg-type]
    status_file.write_text("500 Broken")
    status = own.until(lambda status: bool(status["conditions"]))
    condition = status["conditions"][0]
    assert condition["name"] == "Unhealthy"
    assert re.search(r"HTTP 500 from / in \d+ ms; \d+ checks in a row failed", condition["text"])
    seen = row(status, "web")["probe"]
    assert seen["last_status"] == 500
    assert seen["failures"] >= 2
    assert seen["latency_ms"] >= 0
    status_file.write_text("200 OK")
    own.until(lambda status: not status["conditions"])


def test_late_readiness_restarts_and_says_not_ready(own: OwnSutazaid) -> None:
    """What is not ready in its time is ended and started again under NotReady; the next stage of a service goes on."""
    plan = own.plan(
        own.shell("late", "exec sleep 1000", ready=Ready("tcp", port=free_port(), timeout_ms=300)),
        own.shell("edge", "exec sleep 1000", stage="edge"),
        restart=Restart(base_ms=1, cap_ms=10),
    )
    own.up(plan)
    status = own.until(lambda status: row(status, "late")["restarts"] >= 1)
    texts = [each["text"] for each in status["conditions"] if each["name"] == "NotReady"]
    assert texts
    assert "not ready after 300 ms" in texts[0]
    assert "connection refused" in texts[0]
    assert row(status, "edge")["ready"]


def test_a_flood_of_output_stays_under_its_cap(own: OwnSutazaid) -> None:
    """A process that prints as fast as it can never blocks, and its log with all rotated files stays bounded."""
    limit = 256 << 10
    plan = own.plan(own.shell("flood", "exec yes flood", log_bytes_max=limit, log_files_kept=2))
    own.up(plan)
    logs = own.state / "logs"
    rotated = [logs / f"flood.log.{number}" for number in (1, 2)]
    own.until(lambda _: all(path.exists() for path in rotated))
    assert all(path.stat().st_size <= limit for path in rotated)
    assert sorted(path.name for path in logs.glob("flood*")) == ["flood.log", "flood.log.1", "flood.log.2"]
    assert rotated[0].read_bytes()[:64].count(b"flood\n") >= 9
    status = own.status()
    assert row(status, "flood")["restarts"] == 0


def test_a_process_gets_a_clean_environment_and_no_foreign_descriptor(own: OwnSutazaid) -> None:
    """Only the named sockets are inherited; the environment is the contract's and the plan's, not the caller's."""
    port = free_port()
    code = "import os; print(sorted(os.listdir('/proc/self/fd')), flush=True); print(dict(os.environ), flush=True)"
    os.environ["SECRET_OF_THE_CALLER"] = "x"
    try:
        own.up(
            own.plan(
                own.service("look", code, ready=Ready("exit"), listen=[Listen("a", port=port)], env={"MINE": "1"}),
            )
        )
    finally:
        del os.environ["SECRET_OF_THE_CALLER"]
    text = own.log("look")
    fds = re.findall(r"'(\d+)'", text.splitlines()[0])
    assert len(fds) == 5, "stdin, stdout, stderr, one socket, and the listing itself"
    assert "SECRET_OF_THE_CALLER" not in text
    for name in ("FLEET", "STATE_ROOT", "RUN_ROOT", "PROCESS", "LISTEN"):
        assert f"'SUTAZAI_{name}'" in text
    assert "'MINE': '1'" in text


@pytest.mark.root
def test_a_uid_is_dropped_for_good(own: OwnSutazaid) -> None:
    """A process with a uid of its own runs as it, without groups, and can gain no new rights."""
    if os.geteuid() != 0:
        pytest.skip("only root can change a uid")
    script = "grep -E '^(Uid|Gid|Groups|NoNewPrivs)' /proc/self/status"
    own.up(own.plan(own.shell("nobody", script, uid=65_534, ready=Ready("exit"))))
    text = own.log("nobody")
    assert "Uid:\t65534\t65534\t65534\t65534" in text
    assert "Groups:\t \n" in text
    assert "NoNewPrivs:\t1" in text


def test_only_one_sutazaid_runs_a_fleet(own: OwnSutazaid) -> None:
    """A second start is refused while the first lives, and harms nothing."""
    plan = own.plan(own.shell("a", "exec sleep 1000"))
    pid = row(own.up(plan), "a")["pid"]
    second = own.start(plan)
    assert second.returncode == 3
    assert "runs already" in second.stderr
    assert own.process("a")["pid"] == pid


def test_a_plan_that_cannot_run_is_refused_with_all_reasons(own: OwnSutazaid) -> None:
    """Nothing starts, and every mistake is named at once."""
    plan = own.plan(
        own.shell("a", "exit 0", pool="nowhere", after=["b"]),
        own.shell("b", "exit 0", after=["a"]),
        own.shell("c", "exit 0", stage="never"),
    )
    done = own.start(plan)
    assert done.returncode == 78
    for words in ("no pool 'nowhere'", "depend on one another: a, b", "no stage 'never'"):
        assert words in done.stderr
    own.plan_path.write_text("{")
    assert own.start_again().returncode == 78
