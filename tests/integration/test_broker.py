"""The real broker process over its real socket: the durable path, its refusals, and its way with bad company."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import FencedError, InvalidInputError, NotFoundError, ProtocolError, RefusedError, UnavailableError
from sutazai.limits import FRAME_BYTES_MAX, TASK_INPUT_BYTES_MAX
from sutazai.testing.broker_process import BrokerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sutazai.wire.transport import BlockingConnection

WAIT_S = 30.0


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    """One broker for all tests here; each uses agents of its own."""
    with BrokerProcess("--lease-ms", "2000") as process:
        yield process


def submit(client: BlockingConnection, **task: Any) -> str:
    """Submit one task."""
    reply = client.request({"t": "submit", "tasks": [{"skill": "echo", "input": {}, **task}]}, WAIT_S)
    name: str = reply["tasks"][0]["id"]
    return name


def turn_of(instance: BlockingConnection) -> dict[str, Any]:
    """Wait for a turn, past other messages."""
    while True:
        incoming = instance.receive(WAIT_S)
        assert incoming is not None, "no turn came"
        if incoming[0]["t"] == "turn":
            return incoming[0]


def commit(instance: BlockingConnection, turn: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Commit a turn."""
    message = {"t": "commit", "task": turn["task"]["id"], "fence": turn["fence"], "outcome": "result", **fields}
    return instance.request(message, WAIT_S)


def waited(client: BlockingConnection, task: str) -> dict[str, Any]:
    """Wait for a task's end."""
    reply = client.request({"t": "wait", "task": task, "timeout_ms": 30_000}, WAIT_S)
    found: dict[str, Any] = reply["task"]
    return found


def test_a_task_goes_from_submission_to_result(broker: BrokerProcess) -> None:
    """A client's task reaches an instance of its agent, and the result reaches the client that waits."""
    with broker.client() as client, broker.instance("simple") as instance:
        instance.send({"t": "pull"})
        task = submit(client, agent="simple", input={"name": "Ada"})
        turn = turn_of(instance)
        assert turn["task"]["input"] == {"name": "Ada"}
        assert (turn["fence"], turn["task"]["attempt"]) == (1, 1)
        assert commit(instance, turn, result={"hello": "Ada"})["status"] == "succeeded"
        found = waited(client, task)
        assert (found["status"], found["result"]) == ("succeeded", {"hello": "Ada"})


def test_a_commit_that_is_repeated_is_answered_alike(broker: BrokerProcess) -> None:
    """The second commit of a turn changes nothing and gets the first one's answer, also over another connection."""
    with broker.client() as client, broker.instance("twice", "k_twice") as instance:
        instance.send({"t": "pull"})
        task = submit(client, agent="twice", session="s")
        turn = turn_of(instance)
        first = commit(instance, turn, result=1, state={"n": 1}, state_version=0)
        again = commit(instance, turn, result=1, state={"n": 1}, state_version=0)
        with broker.instance("twice", "k_twice") as other:
            elsewhere = commit(other, turn, result=2, state={"n": 2}, state_version=0)
        assert first["status"] == again["status"] == elsewhere["status"] == "succeeded"
        assert waited(client, task)["result"] == 1
        state = client.request({"t": "state", "agent": "twice", "session": "s"}, WAIT_S)
        assert (state["state"], state["state_version"]) == ({"n": 1}, 1)


def test_a_closed_socket_ends_the_lease_at_once(broker: BrokerProcess) -> None:
    """The turn of an instance that is gone is given to another one; the first one's commit is refused."""
    with broker.client() as client:
        task = submit(client, agent="mortal")
        first = broker.instance("mortal", "k_m1")
        first.send({"t": "pull"})
        lost = turn_of(first)
        first.close()
        with broker.instance("mortal", "k_m2") as second:
            second.send({"t": "pull"})
            turn = turn_of(second)
            assert turn["task"]["id"] == task
            assert turn["fence"] > lost["fence"]
            assert turn["task"]["attempt"] == 2
            with pytest.raises(FencedError):
                commit(second, lost, result=None)
            commit(second, turn, result="done")
        tree = client.request({"t": "tree", "task": task}, WAIT_S)["tasks"]
        assert [entry["outcome"] for entry in tree[0]["turns"]] == ["lost", "result"]


def test_a_parent_goes_on_when_its_children_are_terminal(broker: BrokerProcess) -> None:
    """A turn that waits frees its instance; the next turn gets the results in the order asked for, and its carry."""
    with broker.client() as client, broker.instance("boss") as boss, broker.instance("hand") as hand:
        boss.send({"t": "pull"})
        hand.send({"t": "pull"})
        task = submit(client, agent="boss")
        turn = turn_of(boss)
        emits = [{"id": f"c-{task}-{n}", "agent": "hand", "skill": "do", "input": {"n": n}} for n in range(3)]
        names = [emit["id"] for emit in reversed(emits)]
        wait = {"tasks": names, "then": "collect", "carry": {"kept": True}}
        assert commit(boss, turn, outcome="wait", wait=wait, emits=emits, pull=True)["status"] == "waiting"
        for _ in emits:
            child = turn_of(hand)
            assert child["task"]["parent"] == task
            commit(hand, child, result=child["task"]["input"]["n"], pull=True)
        after = turn_of(boss)
        assert (after["task"]["step"], after["task"]["carry"]) == ("collect", {"kept": True})
        assert [(r["task"], r["result"]) for r in after["task"]["results"]] == [
            (name, 2 - place) for place, name in enumerate(names)
        ]
        assert commit(boss, after, result="all")["status"] == "succeeded"


def test_a_watcher_sees_every_event_and_the_end(broker: BrokerProcess) -> None:
    """Events come in order without a gap, progress among them, and the stream ends with the task."""
    with broker.client() as client, broker.instance("seen") as instance:
        task = submit(client, agent="seen")
        client.send({"t": "watch", "id": 77, "task": task})
        instance.send({"t": "pull"})
        turn = turn_of(instance)
        beat = {"t": "heartbeat", "task": task, "fence": turn["fence"], "progress": {"fraction": 0.5, "text": "half"}}
        instance.send(beat)
        lease = instance.receive(WAIT_S)
        assert lease is not None
        assert (lease[0]["ok"], lease[0]["cancel"]) == (True, False)
        commit(instance, turn, result=None)
        kinds = []
        while (incoming := client.receive(WAIT_S)) is not None and incoming[0]["t"] == "event":
            kinds.append(incoming[0]["event"]["kind"])
        assert incoming is not None
        assert incoming[0] == {"t": "end", "re": 77}
        assert kinds == ["queued", "leased", "progress", "succeeded"]


def test_a_cancelled_task_stops_its_instance(broker: BrokerProcess) -> None:
    """Cancelling tells the instance, fences its commit, and is the task's last word."""
    with broker.client() as client, broker.instance("stoppable") as instance:
        instance.send({"t": "pull"})
        task = submit(client, agent="stoppable")
        turn = turn_of(instance)
        assert client.request({"t": "cancel", "task": task}, WAIT_S)["task"]["status"] == "cancelled"
        stop = instance.receive(WAIT_S)
        assert stop is not None
        assert (stop[0]["t"], stop[0]["task"]) == ("cancel", task)
        with pytest.raises(FencedError):
            commit(instance, turn, result=None)
        assert waited(client, task)["status"] == "cancelled"


def test_a_deadline_expires_a_task_without_an_instance(broker: BrokerProcess) -> None:
    """A task whose agent never wakes ends as expired, and who waits is told."""
    with broker.client() as client:
        assert waited(client, submit(client, agent="nobody", deadline_ms=50))["status"] == "expired"


def test_a_poison_task_is_dead_after_its_attempts(broker: BrokerProcess) -> None:
    """An agent that fails each time is tried so often as allowed; then the task is dead, with its evidence."""
    with broker.client() as client, broker.instance("poison") as instance:
        instance.send({"t": "pull"})
        task = submit(client, agent="poison", attempts_max=3)
        for _ in range(3):
            error = {"code": "skill-failed", "message": "boom", "retryable": True}
            commit(instance, turn_of(instance), outcome="failed", error=error, pull=True)
        found = waited(client, task)
        assert (found["status"], found["attempt"], found["error"]["message"]) == ("dead", 3, "boom")
        dead = client.request({"t": "list", "status": "dead", "agent": "poison"}, WAIT_S)["tasks"]
        assert [entry["id"] for entry in dead] == [task]


def test_an_idempotency_key_gives_the_same_task(broker: BrokerProcess) -> None:
    """The same key and input is the same task; the same key with another input is refused, and says why."""
    with broker.client() as client:
        task = {"agent": "keyed", "skill": "echo", "input": {"a": 1, "b": 2}, "idempotency_key": "k1"}
        first = client.request({"t": "submit", "tasks": [task]}, WAIT_S)["tasks"][0]
        same = {**task, "input": {"b": 2, "a": 1}}
        second = client.request({"t": "submit", "tasks": [same]}, WAIT_S)["tasks"][0]
        assert (first["duplicate"], second["duplicate"], second["id"]) == (False, True, first["id"])
        with pytest.raises(InvalidInputError, match="'k1' was used"):
            client.request({"t": "submit", "tasks": [{**task, "input": {}}]}, WAIT_S)


def test_hibernation_is_agreed_only_without_work(broker: BrokerProcess) -> None:
    """An idle instance may leave; one whose agent has a due task stays and gets it."""
    with broker.client() as client, broker.instance("sleepy") as instance:
        assert instance.request({"t": "hibernate"}, WAIT_S)["t"] == "bye"
        submit(client, agent="sleepy")
        with broker.instance("sleepy") as second:
            assert second.request({"t": "hibernate"}, WAIT_S)["t"] == "stay"
            second.send({"t": "pull"})
            commit(second, turn_of(second), result=None)


def test_bad_requests_are_refused_and_the_connection_lives(broker: BrokerProcess) -> None:
    """Unknown tasks, wrong fields and too large inputs are told apart; the next request on the wire works."""
    with broker.client() as client:
        with pytest.raises(NotFoundError):
            client.request({"t": "get", "task": "t_none"}, WAIT_S)
        with pytest.raises(InvalidInputError):
            client.request({"t": "submit", "tasks": [{"agent": "a", "skill": "s", "priority": 77}]}, WAIT_S)
        with pytest.raises(InvalidInputError, match="above"):
            submit(client, agent="large", input="x" * (TASK_INPUT_BYTES_MAX + 1))
        with pytest.raises(RefusedError):
            client.request({"t": "submit", "tasks": []}, WAIT_S)
        assert client.request({"t": "stats"}, WAIT_S)["totals"]["refused"] >= 3


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">IB", FRAME_BYTES_MAX + 1, 1),
        struct.pack(">IB", 3, 1) + b"[1]",
        struct.pack(">IB", 3, 9) + b"{}}",
        struct.pack(">IB", 20, 1) + b'{"t":"submit","x":1}',
        struct.pack(">IB", 2, 2) + b"ab",
    ],
    ids=["http", "oversize", "no object", "unknown kind", "no hello", "raw without message"],
)
def test_garbage_closes_its_own_connection_only(broker: BrokerProcess, garbage: bytes) -> None:
    """Bytes that are no protocol are answered with an error and cut off; others go on."""
    with broker.client() as client, socket.socket(socket.AF_UNIX) as bad:
        bad.settimeout(WAIT_S)
        bad.connect(str(broker.socket))
        bad.sendall(garbage)
        answer = b""
        while piece := bad.recv(4096):
            answer += piece
        assert b'"code":"protocol"' in answer
        assert client.request({"t": "stats"}, WAIT_S)["t"] == "stats"


def test_another_version_is_refused_by_name(broker: BrokerProcess) -> None:
    """A peer of another version is told which one this is."""
    from sutazai.wire.transport import BlockingConnection

    with BlockingConnection.connect(broker.socket) as connection, pytest.raises(ProtocolError, match="version 1"):
        connection.request({"t": "hello", "v": 2, "role": "client", "name": "new"}, WAIT_S)


def test_an_instance_may_not_act_as_a_client(broker: BrokerProcess) -> None:
    """Roles are kept apart: an instance that submits is cut off."""
    with broker.instance("climber") as instance, pytest.raises((ProtocolError, UnavailableError)):
        submit(instance, agent="climber")


def test_instances_need_their_ticket() -> None:
    """A broker of a fleet turns away whom ``sutazaid`` has not announced."""
    with BrokerProcess(tickets=True) as broker, pytest.raises((ProtocolError, UnavailableError)):
        broker.instance("any", "k_forged")


def ask_for_much(client: BlockingConnection, task: str) -> None:
    """Ask for a large task again and again, and read no answer: faster than the broker looks at it."""
    until = time.monotonic() + WAIT_S
    for number in itertools.count():
        client.send({"t": "get", "id": number, "task": task})
        if time.monotonic() > until:
            return


def test_a_reader_that_does_not_read_is_cut_off(broker: BrokerProcess) -> None:
    """A client that asks for much and reads nothing loses its connection before the broker loses memory."""
    with broker.client() as client:
        task = submit(client, agent="big", input="x" * (TASK_INPUT_BYTES_MAX - 2))
        greedy = broker.client()
        with pytest.raises(UnavailableError):
            ask_for_much(greedy, task)
        greedy.close()
        client.request({"t": "cancel", "task": task}, WAIT_S)
        assert client.request({"t": "stats"}, WAIT_S)["t"] == "stats"


def test_sigterm_ends_it_cleanly_and_nothing_is_lost() -> None:
    """After SIGTERM and a new start the accepted task is there, and the second broker on one store is refused."""
    with BrokerProcess() as broker:
        with broker.client() as client:
            task = submit(client, agent="patient")
        rival = BrokerProcess(folder=broker.state_root)
        rival.start(wait=False)
        assert rival._process is not None
        assert rival._process.wait(WAIT_S) == 1
        assert "another process" in rival.log.read_text()
        rival.close()
        assert broker.stop() == 0
        broker.start()
        with broker.client() as client:
            assert client.request({"t": "get", "task": task}, WAIT_S)["task"]["status"] == "queued"


def test_the_idle_broker_is_small(broker: BrokerProcess) -> None:
    """Its own memory stays small; pages of files count where nobody else maps them, so they are left out."""
    assert broker.stop() == 0  # not what floods of the other tests have left behind
    broker.start()
    with open(f"/proc/{broker.pid}/smaps_rollup", encoding="ascii") as rollup:  # noqa: PTH123 a file of the kernel
        pss_kb = next(int(line.split()[1]) for line in rollup if line.startswith("Pss_Anon:"))
    assert pss_kb < 25 * 1024
    assert os.path.exists(broker.socket)  # noqa: PTH110 a socket


def test_a_flood_waits_in_its_own_socket(broker: BrokerProcess) -> None:
    """A client that submits 96 MB at once without reading is slowed down; all of it is stored, memory stays small."""
    with broker.client() as client:
        task = {"agent": "flooded", "skill": "echo", "input": "x" * (TASK_INPUT_BYTES_MAX - 2)}
        for number in range(96):
            client.send({"t": "submit", "id": number, "tasks": [task]})
        accepted = 0
        while accepted < 96:
            incoming = client.receive(WAIT_S)
            assert incoming is not None
            assert incoming[0]["t"] == "accepted"
            accepted += 1
        with open(f"/proc/{broker.pid}/status", encoding="ascii") as status:  # noqa: PTH123 a file of the kernel
            peak_kb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        assert peak_kb < 400 * 1024


def test_a_hello_is_small(broker: BrokerProcess) -> None:
    """Who has not said who it is may not make the broker hold a large frame."""
    with socket.socket(socket.AF_UNIX) as bad:
        bad.settimeout(WAIT_S)
        bad.connect(str(broker.socket))
        bad.sendall(struct.pack(">IB", FRAME_BYTES_MAX, 1) + b" " * 100_000)
        assert b"no hello" in bad.recv(4096)
