"""The three clients against scripted servers: answers, refusals, restarts, silence, and what the messages say."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.client import FleetClient, Status, SupervisorClient, TaskClient, tasks
from sutazai.client.facts import Process, Series
from sutazai.errors import (
    FencedError,
    InvalidInputError,
    NotFoundError,
    ProtocolError,
    QueueFullError,
    RefusedError,
    UnavailableError,
)
from sutazai.wire.frames import Decoder, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLEET = "f"


class Servers:
    """Unix sockets of one fleet, each connection handled by what the test hands in."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._closing: list[socket.socket] = []

    def serve(self, name: str, handle: Callable[[socket.socket], None]) -> Callable[[], None]:
        """Answer connections to a socket; returns what stops it."""
        path = self.run / name
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()
        self._closing.append(listening)

        def talk(peer: socket.socket) -> None:
            with contextlib.suppress(OSError), peer:
                handle(peer)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listening.accept()
                    self._closing.append(peer)
                    threading.Thread(target=talk, args=(peer,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return lambda: self._stop(listening)

    def _stop(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()

    def close(self) -> None:
        """Close everything."""
        for each in self._closing:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """An empty fleet under a short path."""
    root = Path(tempfile.mkdtemp(prefix="sz", dir="/tmp"))  # a short path for unix sockets
    (root / FLEET).mkdir()
    monkeypatch.setenv("SUTAZAI_RUN_ROOT", str(root))
    monkeypatch.delenv("SUTAZAI_FLEET", raising=False)
    made = Servers(root / FLEET)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(root)


def _http(status: int, body: bytes, *, length: int | None = None) -> Callable[[socket.socket], None]:
    def handle(peer: socket.socket) -> None:
        peer.recv(65_536)
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body) if length is None else length}\r\n\r\n"
        peer.sendall(head.encode() + body)

    return handle


def _quiet(peer: socket.socket) -> None:
    while peer.recv(65_536):
        pass


# Which fleet


def test_without_a_fleet_the_message_says_how_to_start_one(servers: Servers) -> None:
    """Nothing is up: every client says the same."""
    for ask in (FleetClient().status, SupervisorClient().status, TaskClient().stats):
        with pytest.raises(UnavailableError, match="sutazai up"):
            ask()


def test_the_only_fleet_is_found_and_two_must_be_named(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is asked for only when there is a choice."""
    servers.serve("sutazaid.sock", _quiet)
    servers.serve("control.sock", _http(200, b'{"agents": []}'))
    assert FleetClient().agents() == []
    (servers.run.parent / "g").mkdir()
    (servers.run.parent / "g" / "sutazaid.sock").touch()
    with pytest.raises(RefusedError, match="f, g"):
        FleetClient().agents()
    assert FleetClient(FLEET).agents() == []
    monkeypatch.setenv("SUTAZAI_FLEET", FLEET)
    assert FleetClient().agents() == []


def test_a_fleet_that_is_not_up_is_told_from_a_process_that_is_away(servers: Servers) -> None:
    """The message says what to do in each case."""
    with pytest.raises(UnavailableError, match="is not up"):
        FleetClient(FLEET).status()
    servers.serve("sutazaid.sock", _quiet)
    with pytest.raises(UnavailableError, match="control of the fleet 'f' does not answer"):
        FleetClient(FLEET).status()


# Facts


def test_the_query_is_written_with_its_lists_and_quotes(servers: Servers) -> None:
    """Labels, lists and odd characters arrive as they were meant."""
    targets = []

    def handle(peer: socket.socket) -> None:
        targets.append(peer.recv(65_536).split(b" ")[1].decode())
        peer.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"series": []}')

    servers.serve("control.sock", handle)
    FleetClient(FLEET).metrics("process_up", 60, step_s=10, reduce="max", process=["a b", "c&d"])
    assert targets == ["/v1/metrics?name=process_up&last_ms=60000&reduce=max&step_ms=10000&process=a+b&process=c%26d"]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalid-input", InvalidInputError),
        (404, "not-found", NotFoundError),
        (405, "refused", RefusedError),
        (503, "unavailable", UnavailableError),
        (500, "internal", RefusedError),
        (404, "", NotFoundError),
    ],
)
def test_a_problem_becomes_its_error(servers: Servers, status: int, code: str, expected: type[Exception]) -> None:
    """The class follows from the code, the message is the detail."""
    servers.serve("control.sock", _http(status, json.dumps({"code": code, "detail": "because"}).encode()))
    with pytest.raises(expected, match="because"):
        FleetClient(FLEET).events()


@pytest.mark.parametrize(
    ("handle", "expected"),
    [
        (_http(200, b"no json"), ProtocolError),
        (_http(200, b"{}", length=999), UnavailableError),
        (lambda peer: peer.recv(65_536) and peer.sendall(b"garbage\r\n\r\n"), ProtocolError),
        (lambda peer: peer.recv(10) and None, UnavailableError),
        (_quiet, UnavailableError),
    ],
)
def test_a_broken_or_silent_server_is_an_error_in_time(
    servers: Servers, handle: Callable[[socket.socket], None], expected: type[Exception]
) -> None:
    """Half an answer, none, or nonsense never hangs and is never taken for a fact."""
    servers.serve("control.sock", handle)
    with pytest.raises(expected):
        FleetClient(FLEET, timeout_s=0.3).agents()


def test_facts_of_other_versions_are_taken() -> None:
    """New fields are ignored, missing and null ones take their defaults; everything stays in ``raw``."""
    process = Process.of({"name": "shop", "memory_bytes": None, "new": 1})
    assert (process.memory_bytes, process.restarts) == (0, 0)
    status = Status.parse({"fleet": "f", "processes": [{"name": "shop"}], "queues": {"a": {"queued": 3}}, "new": 1})
    assert status.process("shop") is not None
    assert status.queues["a"].queued == 3
    assert status.raw["new"] == 1
    series = Series.of({"name": "x", "points": [[1, 2.5], [2, 3.5]]})
    assert (series.times_ms, series.values) == ([1, 2], [2.5, 3.5])


# sutazaid


def _lines(answer: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> Callable[[socket.socket], None]:
    def handle(peer: socket.socket) -> None:
        buffer = b""
        while data := peer.recv(65_536):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                for reply in answer(json.loads(line)):
                    peer.sendall(json.dumps(reply).encode() + b"\n")

    return handle


def test_sutazaid_is_asked_line_by_line_and_pushes_are_passed_over(servers: Servers) -> None:
    """Only the answer with the question's number counts; several questions share a connection."""
    asked = []

    def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(request)
        return [
            {"push": "room"},
            {"id": 999, "ok": True},
            {"id": request["id"], "ok": True, "fleet": "f", "conditions": []},
        ]

    servers.serve("sutazaid.sock", _lines(answer))
    with SupervisorClient(FLEET) as client:
        assert client.status()["fleet"] == "f"
        assert client.conditions() == []
        client.restart("shop")
        client.plan("/plan.json")
        client.condition("DiskLow", "state", active=True, text="full")
        client.stop()
    assert [request["op"] for request in asked] == ["status", "conditions", "restart", "plan", "condition", "stop"]
    assert asked[2]["process"] == "shop"
    assert client.pid == 0


def test_a_named_connection_says_hello_first_and_knows_the_pid(servers: Servers) -> None:
    """After a restart of ``sutazaid`` the other pid is known."""
    pids = iter([7, 8])

    def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
        more = {"pid": next(pids)} if request["op"] == "hello" else {}
        return [{"id": request["id"], "ok": True, **more}]

    servers.serve("sutazaid.sock", _lines(answer))
    with SupervisorClient(FLEET, name="test") as client:
        client.status()
        client.status()
        assert client.pid == 7
        client.close()
        client.status()
        assert client.pid == 8


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("not-found", NotFoundError),
        ("refused", RefusedError),
        ("bad-config", RefusedError),
        ("unavailable", UnavailableError),
    ],
)
def test_sutazaids_refusal_becomes_its_error(servers: Servers, code: str, expected: type[Exception]) -> None:
    """The class follows from the code, the text is kept."""
    servers.serve(
        "sutazaid.sock", _lines(lambda request: [{"id": request["id"], "ok": False, "code": code, "error": "no"}])
    )
    with SupervisorClient(FLEET) as client, pytest.raises(expected, match="no"):
        client.restart("shop")


def test_a_restarted_sutazaid_is_found_again_without_a_word(servers: Servers) -> None:
    """The connection that died is replaced within the same question."""

    def once(peer: socket.socket) -> None:
        request = json.loads(peer.recv(65_536))
        peer.sendall(json.dumps({"id": request["id"], "ok": True}).encode() + b"\n")

    servers.serve("sutazaid.sock", once)
    with SupervisorClient(FLEET) as client:
        for _ in range(3):
            client.status()


def test_a_silent_sutazaid_is_given_up(servers: Servers) -> None:
    """No question waits for ever."""
    servers.serve("sutazaid.sock", _quiet)
    with SupervisorClient(FLEET, timeout_s=0.2) as client, pytest.raises(UnavailableError, match="does not answer"):
        client.status()


# The broker


class Broker:
    """Answers frames by a table; can cut the connection before an answer."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.cuts = 0
        self.answers: dict[str, list[dict[str, Any]]] = {}

    def __call__(self, peer: socket.socket) -> None:
        decoder = Decoder()
        while data := peer.recv(65_536):
            for message, _ in decoder.feed(data):
                if message["t"] == "hello":
                    peer.sendall(encode({"t": "welcome", "re": message["id"], "v": 1}))
                    continue
                self.asked.append(message)
                if self.cuts:
                    self.cuts -= 1
                    return
                for reply in self.answers[message["t"]]:
                    peer.sendall(encode({**reply, "re": message["id"]}))


@pytest.fixture
def broker(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A scripted broker of a fleet that is up."""
    monkeypatch.setattr(tasks, "RECONNECT_S", 0.001)
    made = Broker()
    servers.serve("sutazaid.sock", _quiet)
    servers.serve("broker.sock", made)
    return made


def test_tasks_are_given_asked_for_and_listed(broker: Broker) -> None:
    """Each verb is one message, its answer is unwrapped."""
    done = {"id": "t_1", "status": "succeeded"}
    broker.answers = {
        "submit": [{"t": "accepted", "tasks": [{"id": "t_1", "status": "queued", "duplicate": False}]}],
        "get": [{"t": "task", "task": done}],
        "wait": [{"t": "task", "task": done}],
        "cancel": [{"t": "task", "task": done}],
        "tree": [{"t": "tree", "tasks": [done]}],
        "list": [{"t": "list", "tasks": [done]}],
        "stats": [{"t": "stats", "queues": {}, "totals": {}}],
        "state": [{"t": "state", "state": {"n": 1}, "state_version": 2}],
    }
    with TaskClient(FLEET) as client:
        assert client.submit([{"agent": "a", "skill": "s", "input": {}}])[0]["id"] == "t_1"
        assert client.get("t_1") == client.wait("t_1") == client.cancel("t_1") == done
        assert client.tree("t_1") == client.list(status="dead", limit=5) == [done]
        assert client.stats()["totals"] == {}
        assert client.state("a", "s") == {"n": 1}
    listing = next(message for message in broker.asked if message["t"] == "list")
    assert {"status": "dead", "limit": 5}.items() <= listing.items()
    assert "agent" not in listing


def test_waiting_ends_with_the_time(broker: Broker) -> None:
    """A task that is not done in time is given as it is."""
    broker.answers = {"wait": [{"t": "task", "task": {"id": "t_1", "status": "leased"}}]}
    with TaskClient(FLEET) as client:
        assert client.wait("t_1", timeout_s=0)["status"] == "leased"


def test_many_tasks_are_waited_for_at_once(broker: Broker) -> None:
    """Each end is given once; a connection that is cut is made anew, and only those that are open are asked for."""
    ended = [{"t": "ended", "task": f"t_{number}", "status": "succeeded", "result": number} for number in (2, 1)]
    broker.answers = {"wait_each": [*ended, {"t": "end", "open": []}]}
    broker.cuts = 1
    with TaskClient(FLEET) as client:
        found = list(client.wait_each(["t_1", "t_2", "t_1"]))
    assert found == [{"task": f"t_{number}", "status": "succeeded", "result": number} for number in (2, 1)]
    assert [message["tasks"] for message in broker.asked] == [["t_1", "t_2"]] * 2


def test_waiting_for_many_ends_with_the_time(broker: Broker) -> None:
    """Those that are open then are not given."""
    broker.answers = {"wait_each": [{"t": "end", "open": ["t_1"]}]}
    with TaskClient(FLEET) as client:
        assert list(client.wait_each(["t_1"], timeout_s=0)) == []
    assert broker.asked[0]["timeout_ms"] == 0


def test_a_restart_of_the_broker_is_waited_for(broker: Broker) -> None:
    """Questions are asked again on a new connection, until somebody answers."""
    broker.cuts = 2
    broker.answers = {"get": [{"t": "task", "task": {"id": "t_1", "status": "queued"}}]}
    with TaskClient(FLEET) as client:
        assert client.get("t_1")["id"] == "t_1"
    assert len(broker.asked) == 3


def test_a_submission_is_repeated_only_with_a_key(broker: Broker) -> None:
    """Without a key a second try could double the task, so the caller is told."""
    broker.answers = {"submit": [{"t": "accepted", "tasks": [{"id": "t_1"}]}]}
    with TaskClient(FLEET) as client:
        broker.cuts = 1
        with pytest.raises(UnavailableError):
            client.submit([{"agent": "a", "skill": "s", "input": {}}])
        broker.cuts = 1
        assert client.submit([{"agent": "a", "skill": "s", "input": {}, "idempotency_key": "k"}])[0]["id"] == "t_1"


def test_watching_goes_on_behind_the_last_event(servers: Servers, broker: Broker) -> None:
    """A stream cut in the middle shows each event once."""
    events = [{"task": "t_1", "seq": seq, "kind": "progress", "at_wall_ms": seq, "data": {}} for seq in range(4)]
    starts = []

    def stream(peer: socket.socket) -> None:
        decoder = Decoder()
        while data := peer.recv(65_536):
            for message, _ in decoder.feed(data):
                if message["t"] == "hello":
                    peer.sendall(encode({"t": "welcome", "re": message["id"], "v": 1}))
                    continue
                starts.append(message)
                shown = events[:2] if len(starts) == 1 else events
                peer.sendall(b"".join(encode({"t": "event", "re": message["id"], "event": event}) for event in shown))
                if len(starts) == 1:
                    return
                peer.sendall(encode({"t": "end", "re": message["id"]}))

    servers.serve("broker.sock", stream)
    with TaskClient(FLEET) as client:
        assert [event["seq"] for event in client.watch("t_1")] == [0, 1, 2, 3]
    assert len(starts) == 2


@pytest.mark.parametrize(
    ("code", "expected"), [("not-found", NotFoundError), ("queue-full", QueueFullError), ("fenced", FencedError)]
)
def test_the_brokers_refusal_becomes_its_error(broker: Broker, code: str, expected: type[Exception]) -> None:
    """The class follows from the code, for answers and for streams."""
    refusal = [{"t": "error", "code": code, "detail": "no"}]
    broker.answers = {"get": refusal, "watch": refusal}
    with TaskClient(FLEET) as client:
        with pytest.raises(expected, match="no"):
            client.get("t_1")
        with pytest.raises(expected, match="no"):
            next(client.watch("t_1"))


def test_a_fleet_that_goes_down_is_not_waited_for(servers: Servers, broker: Broker) -> None:
    """Patience is for a restart, not for a fleet that was stopped."""
    broker.cuts = 10**6
    (servers.run / "sutazaid.sock").unlink()
    with TaskClient(FLEET) as client, pytest.raises(UnavailableError):
        client.get("t_1")
    assert len(broker.asked) == 1


def test_importing_the_client_stays_cheap() -> None:
    """It is imported in every instance: no HTTP library, no pydantic, no event loop."""
    code = "import sys, sutazai.client; print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"pydantic", "starlette", "uvicorn", "asyncio", "http.client", "ssl", "email", "prometheus_client"}
    assert heavy & set(out) == set()
