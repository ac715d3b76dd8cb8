"""A real gateway in front of a real broker: whole ways of a task, crashes of both, clients that are slow."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from gateway_rig import WAIT_S, Rig, commit, turn

if TYPE_CHECKING:
    from collections.abc import Iterator

TASK = {"skill": "greet", "input": {"name": "Ada"}}


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """One gateway and one broker for the tests of this module; a test that kills one starts it again."""
    with Rig() as made:
        yield made


def test_a_task_goes_all_the_way(rig: Rig) -> None:
    """Accepted on the agent's port, leased and committed by an instance, its result read at the edge."""
    accepted = rig.http.post(rig.url("agent:hello", "/tasks"), json=TASK)
    assert accepted.status_code == 202
    with rig.instance() as worker:
        taken = turn(worker)
        assert taken["task"]["input"] == {"name": "Ada"}
        commit(worker, taken, "Hello, Ada!")
    task = rig.http.get(rig.url("edge", accepted.headers["location"])).json()
    assert (task["status"], task["result"]) == ("succeeded", "Hello, Ada!")


def test_a_direct_answer(rig: Rig) -> None:
    """``Prefer: wait`` holds the request until an instance commits, and gives the result in the same answer."""

    def work() -> None:
        with rig.instance() as worker:
            commit(worker, turn(worker), "direct")

    thread = threading.Thread(target=work)
    thread.start()
    answer = rig.http.post(rig.url("agent:hello", "/tasks"), json=TASK, headers={"Prefer": "wait=60"})
    thread.join(WAIT_S)
    assert (answer.status_code, answer.json()["result"]) == (200, "direct")


def test_events_reach_a_client_as_they_happen(rig: Rig) -> None:
    """The stream shows queued, leased and the end, and then closes."""
    name = rig.http.post(rig.url("agent:hello", "/tasks"), json=TASK).json()["id"]
    kinds: list[str] = []
    with rig.http.stream("GET", rig.url("agent:hello", f"/tasks/{name}/events")) as stream:
        for line in stream.iter_lines():
            if not line.startswith("event: "):
                continue
            kinds.append(line.removeprefix("event: "))
            if kinds == ["queued"]:
                with rig.instance() as worker:
                    commit(worker, turn(worker), 1)
    assert kinds[0] == "queued"
    assert kinds[-1] == "succeeded"


def test_the_same_key_after_a_kill_of_the_gateway_is_the_same_task(rig: Rig) -> None:
    """A gateway that was killed loses nothing: its sockets stay open, and the key gives the task that was stored."""
    headers = {"Idempotency-Key": "survives"}
    first = rig.http.post(rig.url("agent:adder", "/tasks"), json=TASK, headers=headers).json()["id"]
    rig.kill("gateway")
    late: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: late.append(httpx.get(rig.url("agent:adder", "/health"), timeout=WAIT_S))
    )  # connects while nobody accepts: the backlog keeps it
    thread.start()
    rig.start("gateway")
    thread.join(WAIT_S)
    assert late[0].json()["agent"] == "adder"
    again = httpx.post(
        rig.url("agent:adder", "/tasks"), json=TASK, headers={**dict(rig.http.headers), **headers}, timeout=WAIT_S
    )
    assert (again.status_code, again.json()["id"]) == (200, first)
    httpx.delete(rig.url("edge", f"/tasks/{first}"), headers=dict(rig.http.headers), timeout=WAIT_S)


def test_a_broker_that_is_down_is_503_and_back_again_it_works(rig: Rig) -> None:
    """While the broker is away work is refused with Retry-After and health says degraded; then all is well again."""
    rig.kill("broker")
    refused = rig.http.post(rig.url("agent:hello", "/tasks"), json=TASK)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert rig.http.get(rig.url("agent:hello", "/health")).json()["status"] == "degraded"
    rig.start("broker")
    accepted = rig.http.post(rig.url("agent:hello", "/tasks"), json=TASK)
    assert accepted.status_code == 202
    assert rig.http.get(rig.url("agent:hello", "/health")).json()["status"] == "healthy"
    with rig.instance() as worker:
        commit(worker, turn(worker), 1)


def test_every_door_answers_for_its_own(rig: Rig) -> None:
    """One process, told apart by the port a request came in on."""
    assert rig.http.get(rig.url("agent:hello", "/health")).json()["agent"] == "hello"
    assert rig.http.get(rig.url("agent:adder", "/health")).json()["agent"] == "adder"
    assert rig.http.get(rig.url("edge", "/health")).json()["agent"] == "gateway"
    assert rig.http.get(rig.url("worker:python-0", "/health")).json()["agent"] == "python-0"
    names = [agent["name"] for agent in rig.http.get(rig.url("edge", "/agents")).json()["agents"]]
    assert names == ["hello", "adder"]


@pytest.mark.parametrize(
    "data",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow:",
        (
            b"POST /tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-of-the-test\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        ),
    ],
    ids=["head", "body"],
)
def test_a_slow_client_is_answered_408(rig: Rig, data: bytes) -> None:
    """A head or a body that does not come in time ends with 408 and a closed connection."""
    with socket.create_connection(("127.0.0.1", rig.ports["agent:hello"]), timeout=WAIT_S) as client:
        client.sendall(data)
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /tasks HTTP/1.1\r\nHost: x\r\nContent-Length: banana\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"\r\n" * 50_000,
    ],
    ids=["tls", "version", "length", "long-path", "empty-lines"],
)
def test_noise_does_not_hurt(rig: Rig, data: bytes) -> None:
    """What is no HTTP is closed, and the next client is served."""
    with socket.create_connection(("127.0.0.1", rig.ports["edge"]), timeout=WAIT_S) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        try:
            while client.recv(65_536):
                pass
        except ConnectionResetError:
            pass  # closed with data unread
    assert rig.http.get(rig.url("edge", "/health")).status_code == 200


def test_many_clients_at_once(rig: Rig) -> None:
    """Forty clients each submit and cancel; every answer belongs to its question."""

    def one(number: int) -> None:
        body = {"skill": "greet", "input": {"name": f"n{number}"}}
        headers = dict(rig.http.headers)
        with httpx.Client(timeout=WAIT_S, headers=headers) as client:
            name = client.post(rig.url("agent:adder", "/tasks"), json=body).json()["id"]
            shown = client.delete(rig.url("edge", f"/tasks/{name}")).json()
            seen.append((number, shown["input"]["name"], shown["status"]))

    seen: list[tuple[int, str, str]] = []
    threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(seen) == [(number, f"n{number}", "cancelled") for number in range(40)]


def test_it_ends_when_told_to(rig: Rig) -> None:
    """SIGTERM ends it with status 0, also while a stream is open."""
    name = rig.http.post(rig.url("agent:adder", "/tasks"), json={**TASK, "delay_s": 600}).json()["id"]
    with rig.http.stream("GET", rig.url("agent:adder", f"/tasks/{name}/events")) as stream:
        lines = stream.iter_lines()
        next(lines)
        begun_s = time.monotonic()
        assert rig.kill("gateway", signal.SIGTERM) == 0
    assert time.monotonic() - begun_s < WAIT_S
    rig.start("gateway")
