"""Control as a real process between a scripted ``sutazaid`` and a scripted broker."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.client import FleetClient
from sutazai.errors import InvalidInputError, NotFoundError, UnavailableError
from sutazai.telemetry.conditions import ConditionSet
from sutazai.wire.frames import Decoder, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT_S = 60.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Server(ABC):
    """Accepts on a unix socket; each connection has a thread; stopping cuts all of them."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                self._open.append(peer)
                threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := peer.recv(65_536):
                self.received(peer, data)

    @abstractmethod
    def received(self, peer: socket.socket, data: bytes) -> None:
        """Take what a peer has sent."""

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for peer in self._open:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
            peer.close()
        self._thread.join(WAIT_S)


class ScriptedSupervisor(_Server):
    """Answers ``status`` with a document that the test changes."""

    def __init__(self, path: Path, status: dict[str, Any], conditions: ConditionSet) -> None:
        self.status, self.conditions = status, conditions
        self.pid = 70_001
        self.ready: queue.Queue[str] = queue.Queue()
        self._buffers: dict[socket.socket, bytes] = {}
        super().__init__(path)

    def received(self, peer: socket.socket, data: bytes) -> None:
        *lines, self._buffers[peer] = (self._buffers.get(peer, b"") + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            reply = {"id": request.get("id"), "ok": True, **self._answer(request)}
            peer.sendall(json.dumps(reply).encode() + b"\n")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "status":
            return {**self.status, "conditions": self.conditions.to_json()}
        if request["op"] == "condition" and request["active"]:
            self.conditions.raise_(request["name"], request["subject"], request["text"], _now_ms())
        elif request["op"] == "condition":
            self.conditions.clear(request["name"], request["subject"])
        elif request["op"] == "ready":
            self.ready.put(request["process"])
        return {"pid": self.pid} if request["op"] == "hello" else {}


class ScriptedBroker(_Server):
    """Answers ``stats`` with a document that the test changes."""

    def __init__(self, path: Path, stats: dict[str, Any]) -> None:
        self.stats = stats
        self._decoders: dict[socket.socket, Decoder] = {}
        super().__init__(path)

    def received(self, peer: socket.socket, data: bytes) -> None:
        decoder = self._decoders.setdefault(peer, Decoder())
        for message, _ in decoder.feed(data):
            kind = {"hello": "welcome", "stats": "stats"}[message["t"]]
            body = self.stats if kind == "stats" else {"v": 1}
            peer.sendall(encode({"t": kind, "re": message["id"], **body}))


class Stage:
    """Folders of a fleet, its scripted neighbours, and control."""

    def __init__(self, state_root: Path, run_root: Path) -> None:
        self.fleet = f"t{os.getpid()}x"
        self.state, self.run = state_root / self.fleet, run_root / self.fleet
        self.environment = {
            **os.environ,
            "SUTAZAI_FLEET": self.fleet,
            "SUTAZAI_STATE_ROOT": str(state_root),
            "SUTAZAI_RUN_ROOT": str(run_root),
        }
        self.environment.pop("SUTAZAI_LISTEN", None)
        for folder in (self.state / "logs", self.run):
            folder.mkdir(parents=True)
        (self.state / "plan.json").write_text(json.dumps(_plan()))
        self.status = _status(self.fleet)
        self.conditions = ConditionSet()
        self.stats = {
            "queues": {"greeter": {"queued": 2, "leased": 1, "waiting": 0, "dead": 0}},
            "totals": {"accepted": 9, "succeeded": 6},
            "latency": {},
            "store": {"bytes": 4096, "wal_bytes": 0, "commit_ms_p50": 1.5},
        }
        self.supervisor: ScriptedSupervisor | None = None
        self.broker: ScriptedBroker | None = None
        self.control: subprocess.Popen[bytes] | None = None
        self.client = FleetClient(self.fleet, timeout_s=WAIT_S)

    def start_neighbours(self) -> None:
        """Start both scripted servers."""
        self.supervisor = ScriptedSupervisor(self.run / "sutazaid.sock", self.status, self.conditions)
        self.broker = ScriptedBroker(self.run / "broker.sock", self.stats)

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        """Start control and wait until it said that it is ready."""
        self.control = subprocess.Popen(
            [sys.executable, "-m", "sutazai.control", *arguments],
            env=self.environment,
            stderr=subprocess.DEVNULL,
            **more,
        )
        if self.supervisor is not None:
            assert self.supervisor.ready.get(timeout=WAIT_S) == "control"
        return self.control

    def end(self, number: int = signal.SIGTERM) -> int:
        """End control and wait for it."""
        assert self.control is not None
        self.control.send_signal(number)
        status = self.control.wait(WAIT_S)
        self.control = None
        return status

    def until(self, ask: Callable[[], Any]) -> Any:
        """Ask again until the answer is true."""
        give_up_at = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(UnavailableError):
                if answer := ask():
                    return answer
            assert time.monotonic() < give_up_at, "it did not come true in time"
            time.sleep(0.05)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A fleet's surroundings, cleaned up whatever happens."""
    run_root = Path(tempfile.mkdtemp(prefix="sz", dir="/tmp"))  # a short path for unix sockets
    monkeypatch.setenv("SUTAZAI_STATE_ROOT", str(tmp_path))
    monkeypatch.setenv("SUTAZAI_RUN_ROOT", str(run_root))
    made = Stage(tmp_path, run_root)
    try:
        made.start_neighbours()
        yield made
    finally:
        if made.control is not None:
            made.control.kill()
            made.control.wait()
        for server in (made.supervisor, made.broker):
            if server is not None:
                server.stop()
        shutil.rmtree(run_root)


def _named(conditions: list[Any]) -> list[Any]:
    """Leave out what the machine that runs the tests says about itself."""
    return [condition for condition in conditions if condition.subject != "host"]


def _status(fleet: str) -> dict[str, Any]:
    shop = {
        "name": "shop",
        "kind": "service",
        "pool": "standard",
        "stage": "services",
        "state": "running",
        "pid": os.getpid(),
        "started_wall_ms": 1,
        "restarts": 0,
        "memory_bytes": 50_000_000,
        "memory_limit_bytes": 64_000_000,
        "memory_peak_bytes": 51_000_000,
        "cpu_usec": 1_500_000,
        "pids": 2,
        "oom_kills": 0,
        "ready": True,
        "last_exit": "",
        "listen": [{"name": "http", "port": 8000}],
    }
    instance = {
        "ticket": "k_1",
        "agent": "greeter",
        "worker": "python-0",
        "pid": os.getppid(),
        "uid": 0,
        "state": "idle",
        "memory_bytes": 7_000_000,
        "memory_limit_bytes": 256_000_000,
        "memory_peak_bytes": 8_000_000,
        "cpu_usec": 10_000,
        "oom_kills": 0,
        "started_wall_ms": 1,
    }
    pool = {"name": "standard", "parent": "", "size_bytes": 1_000, "used_bytes": 500, "reserved_bytes": 600}
    return {
        "fleet": fleet,
        "state": "up",
        "since_wall_ms": 1,
        "digest": "d1",
        "manifest": "/m.yaml",
        "enforcement": {"version": "v1", "enforced": ["memory"], "missing": []},
        "pools": [{**pool, "instances": 1, "instance_limit": 0, "waiting": 0}],
        "processes": [shop],
        "instances": [instance],
        "host": {"memory_total_bytes": 8_000, "memory_available_bytes": 4_000, "cores": 2, "load1": 0.5, "psi": {}},
        "queues": {"greeter": {"queued": 2, "leased": 1, "waiting": 0}},
    }


def _plan() -> dict[str, Any]:
    skill = {"name": "greet", "description": "Greet.", "input": {"type": "object"}, "output": {"type": "string"}}
    agent = {
        "name": "greeter",
        "module": "/a/greeter",
        "version": "1.2.3",
        "family": "base",
        "pool": "standard",
        "limits": {"memory_bytes": 256_000_000},
        "envelope_bytes": 1,
        "instances_max": 2,
        "keep_ms": 1,
        "port": 10300,
        "skills": [skill],
    }
    return {"version": 1, "fleet": "t", "agents": [agent]}


def test_every_fact_has_its_source(stage: Stage) -> None:
    """One sample later every question is answered, typed, and each fact can be cited."""
    stage.conditions.raise_("MemoryPressure", "shop", "78 % of its limit", 5)
    stage.conditions.raise_("Unhealthy", "shop", "", 6)
    (stage.state / "logs" / "shop.log").write_text('{"at_wall_ms": 7, "level": "error", "text": "no", "n": 1}\n')
    stage.start()
    status = stage.until(stage.client.status)
    shop = status.process("shop")
    assert (status.fleet, status.state, shop.memory_bytes) == (stage.fleet, "up", 50_000_000)
    assert shop.source.startswith("status:process/shop@")
    assert status.broker["totals"] == {"accepted": 9, "succeeded": 6}
    pressure, unhealthy = _named(stage.client.conditions())
    assert (pressure.root, unhealthy.root, unhealthy.depends_on) == (True, False, ["MemoryPressure/shop"])
    assert unhealthy.source == "condition:Unhealthy/shop@6"
    assert [item.name for item in _named(stage.client.conditions(roots=True))] == ["MemoryPressure"]
    (series,) = stage.until(lambda: stage.client.metrics("process_memory_bytes", process="shop"))
    assert series.values[-1] == 50_000_000
    assert series.source.startswith('metric:process_memory_bytes{process="shop"}@')
    (line,) = stage.client.logs("shop", since_s=10**10)
    assert (line.at_wall_ms, line.level, line.text, line.fields) == (7, "error", "no", {"n": 1})
    assert line.source == "log:shop@7+0"
    (card,) = stage.client.agents()
    assert (card.name, card.port, card.skills[0]["name"], card.source) == (
        "greeter",
        10300,
        "greet",
        "agent:greeter@1.2.3",
    )
    kinds = {event.kind for event in stage.client.events()}
    assert {"control-started", "process-started", "instance-started", "condition-raised", "fleet-state"} <= kinds
    spans = _named(stage.client.condition_history(since_s=10**10))
    assert [(span.name, span.raised_wall_ms, span.cleared_wall_ms) for span in spans] == [
        ("MemoryPressure", 5, None),
        ("Unhealthy", 6, None),
    ]


def test_memory_is_read_from_the_kernel(stage: Stage) -> None:
    """The owners are the fleet's processes; the parts of a process sum up."""
    stage.start()
    owners = stage.until(stage.client.memory)
    shop = next(owner for owner in owners if owner.pid == os.getpid())
    assert shop.pss_bytes == shop.private_bytes + shop.shared_bytes > 0
    assert shop.limit_bytes in {0, 64_000_000}
    assert owners == sorted(owners, key=lambda owner: -owner.pss_bytes)


def test_changes_become_events_and_history(stage: Stage) -> None:
    """A restart, a kill, a condition that comes and goes: each is one event with its numbers."""
    stage.start()
    stage.until(stage.client.status)
    stage.conditions.raise_("Unhealthy", "shop", "3 checks failed", _now_ms())
    stage.until(lambda: stage.client.events(kind="condition-raised", subject="shop"))
    stage.conditions.clear("Unhealthy", "shop")
    stage.status["processes"][0] |= {"restarts": 1, "last_exit": "signal 9: out of memory", "pid": 1}
    stage.status["instances"] = []
    stage.stats["queues"]["greeter"]["dead"] = 1
    restarted, killed, cleared, dead, ended = (
        stage.until(lambda kind=kind: stage.client.events(kind=kind, subject=("shop", "greeter")))[0]
        for kind in ("process-restarted", "oom-killed", "condition-cleared", "task-dead", "instance-ended")
    )
    assert restarted.data["restarts"] == 1
    assert "signal 9" in restarted.text
    assert killed.subject == "shop"
    assert (cleared.subject, cleared.data["name"], cleared.data["text_before"]) == (
        "shop",
        "Unhealthy",
        "3 checks failed",
    )
    assert dead.subject == ended.subject == "greeter"
    span = next(span for span in stage.client.condition_history() if span.name == "Unhealthy")
    assert span.cleared_wall_ms is not None
    assert span.cleared_wall_ms >= span.raised_wall_ms
    stage.until(lambda: stage.conditions.get("DeadLetters", "greeter"))


def test_a_restart_keeps_metrics_and_notices_what_happened_meanwhile(stage: Stage) -> None:
    """After ``kill -9`` the ring has its data, and a process' restart in the gap is still an event, once."""
    stage.start()
    stage.until(lambda: sum(len(found.points) for found in stage.client.metrics("process_up", process="shop")) >= 2)
    before = stage.client.metrics("process_up", process="shop")[0].points
    assert stage.end(signal.SIGKILL) == -signal.SIGKILL
    stage.status["processes"][0] |= {"restarts": 3, "pid": 1, "last_exit": "killed by SIGKILL: out of memory"}
    stage.start()
    (event,) = stage.until(lambda: stage.client.events(kind="process-restarted"))
    assert event.data["restarts"] == 3
    after = stage.until(lambda: stage.client.metrics("process_up", process="shop"))[0].points
    assert after[: len(before)] == before
    assert [event.kind for event in stage.client.events(kind="process-started")] == ["process-started"]
    assert stage.end(signal.SIGKILL) == -signal.SIGKILL
    stage.start()
    kills = "process_oom_kills_total"
    stage.until(lambda: stage.client.events(kind="control-started")[2:])
    stage.until(lambda: {found.values[-1] for found in stage.client.metrics(kills, process="shop")} == {1})


def test_it_works_without_its_neighbours_and_finds_them_again(stage: Stage) -> None:
    """While ``sutazaid`` and the broker are away, facts are refused or marked; afterwards all is as before."""
    stage.start()
    stage.until(stage.client.status)
    assert stage.supervisor is not None
    assert stage.broker is not None
    stage.broker.stop()
    stage.until(lambda: stage.client.status().broker is None)
    stage.until(lambda: stage.conditions.get("BrokerDown", "broker"))
    stage.supervisor.stop()
    stage.until(lambda: any(item.name == "SupervisorDown" for item in stage.client.conditions()))
    with pytest.raises(UnavailableError, match="sutazaid"):
        stage.client.status()
    with pytest.raises(UnavailableError):
        stage.client.memory()
    assert stage.client.metrics("host_load1")
    assert stage.client.agents()
    (stage.run / "sutazaid.sock").unlink()
    stage.start_neighbours()
    assert stage.supervisor.ready.get(timeout=WAIT_S) == "control"
    stage.until(lambda: stage.client.status().broker)
    stage.until(lambda: not _named(stage.client.conditions()))
    lost = [(event.kind, event.subject) for event in stage.client.events(kind=("source-lost", "source-back"))]
    assert lost.index(("source-lost", "broker")) < lost.index(("source-lost", "sutazaid"))
    assert {("source-back", "broker"), ("source-back", "sutazaid")} <= set(lost)


def test_it_starts_before_its_neighbours(stage: Stage) -> None:
    """Without anybody to ask it answers what it can and becomes whole by itself."""
    assert stage.supervisor is not None
    assert stage.broker is not None
    stage.supervisor.stop()
    stage.broker.stop()
    stage.supervisor = stage.broker = None
    stage.start()
    stage.until(lambda: stage.client.metrics("host_memory_available_bytes"))
    stage.start_neighbours()
    stage.until(stage.client.status)


def test_inherited_sockets_are_served_and_wrong_questions_are_explained(stage: Stage) -> None:
    """Sockets come from the parent by name; every error is a problem document that says what is wrong."""
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(stage.run / "control.sock"))
    unix.listen()
    tcp = socket.create_server(("127.0.0.1", 0))
    stage.environment["SUTAZAI_LISTEN"] = json.dumps({"control": [unix.fileno()], "metrics": [tcp.fileno()]})
    stage.start(pass_fds=(unix.fileno(), tcp.fileno()))
    port = tcp.getsockname()[1]
    unix.close()
    tcp.close()
    stage.until(stage.client.status)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT_S) as answer:
        text = answer.read().decode()
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'process_memory_bytes{process="shop"} 50000000' in text.splitlines()
    for target, status, code in (
        ("/v1/metrics", 400, "invalid-input"),
        ("/v1/metrics?name=nonsense", 404, "not-found"),
        ("/v1/metrics?name=process_up&pool=x", 400, "invalid-input"),
        ("/v1/metrics?name=process_up&step_ms=-1", 400, "invalid-input"),
        ("/v1/logs?limit=1000000", 400, "invalid-input"),
        ("/v1/logs?proces=shop", 400, "invalid-input"),
        ("/v1/logs?process=../../etc/passwd", 404, "not-found"),
        ("/nonsense", 404, "not-found"),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{target}", timeout=WAIT_S)
        problem = json.loads(caught.value.read())
        assert (caught.value.code, problem["code"]) == (status, code), target
        assert caught.value.headers["content-type"] == "application/problem+json"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", data=b"{}", timeout=WAIT_S)
    assert caught.value.code == 405
    caught.value.close()
    with pytest.raises(NotFoundError):
        stage.client.metrics("nonsense")
    with pytest.raises(InvalidInputError):
        stage.client.metrics("process_up", pool="x")
    assert stage.end() == 0


def test_a_flood_of_log_lines_is_read_from_its_end(stage: Stage) -> None:
    """Tens of megabytes of lines, rotated: the newest matching lines come, bounded, and it says that there are more."""
    folder = stage.state / "logs"
    line = b"x" * 90
    with (folder / "shop.log.1").open("wb") as file:
        file.writelines(b"old %07d %s\n" % (number, line) for number in range(80_000))
    with (folder / "shop.log").open("wb") as file:
        file.writelines(b"new %07d %s\n" % (number, line) for number in range(400_000))
    stage.start()
    newest = stage.until(lambda: stage.client.logs("shop", since_s=10**10, limit=3))
    assert [entry.text[:11] for entry in newest] == ["new 0399997", "new 0399998", "new 0399999"]
    assert stage.client.logs("shop", since_s=10**10, contains="NEW 0399000")[0].text.startswith("new 0399000")
    assert stage.client.logs("shop", since_s=10**10, contains="nowhere") == []


def test_a_damaged_ring_and_a_lost_plan_do_not_stop_it(stage: Stage) -> None:
    """It begins a new ring, says so, and gives the facts that it has."""
    (stage.state / "metrics").mkdir()
    (stage.state / "metrics" / "ring").write_bytes(b"garbage")
    (stage.state / "metrics" / "seen.json").write_text("{")
    (stage.state / "plan.json").unlink()
    stage.start()
    stage.until(lambda: stage.client.metrics("process_up"))
    assert stage.client.agents() == []
    assert (stage.state / "metrics" / "ring.damaged").read_bytes() == b"garbage"


def test_without_a_place_for_metrics_it_still_answers(stage: Stage) -> None:
    """No ring and no event log: their questions are refused, all others are answered."""
    (stage.state / "metrics").write_text("in the way")
    stage.start()
    stage.until(stage.client.status)
    for ask in (stage.client.events, stage.client.metric_names):
        with pytest.raises(UnavailableError, match="log of control"):
            ask()
