"""``kill -9`` of the real broker at each step of a large result: it is there whole and once, and nothing is left over.

The instance is the real runtime's: it uploads and commits until it is answered.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from dying_broker import FORGETTING, STEPS

from sutazai.runtime.activation import Instance, Place
from sutazai.runtime.broker_link import Identity
from sutazai.runtime.log import Log
from sutazai.runtime.turn import Commit, read_turn
from sutazai.testing.broker_load import WAIT_S
from sutazai.testing.broker_process import BrokerProcess
from sutazai.wire.messages import OUTCOME_RESULT
from sutazai.wire.payloads import open_payload

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
DATA = b'"' + bytes(97 + number % 26 for number in range(5_000_000)) + b'"'


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    """A broker in a folder of its own; not started."""
    process = BrokerProcess()
    try:
        yield process
    finally:
        process.close()


def until(what: str, holds: Any) -> None:
    """Wait for something."""
    give_up_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.02)


def instance(broker: BrokerProcess, folder: Path) -> Instance:
    """Make an instance as it is in a fleet."""
    place = Place(broker.socket, folder / "guard")
    return Instance(lambda: AssertionError("no agent is needed"), Identity("a", "k", ""), place, Log({}))


@pytest.mark.parametrize("step", STEPS)
def test_a_broker_that_dies_at_a_step(broker: BrokerProcess, step: str, tmp_path: Path) -> None:
    """After the restart the commit is answered, the file has all bytes and is the only one; a forgotten one is gone."""
    usual, broker.command = broker.command, [sys.executable, str(HERE / "dying_broker.py"), step]
    broker.start()
    dying = broker.process
    with broker.client() as client:
        spec = {"agent": "a", "skill": "do", "deadline_ms": 600_000}
        task = client.request({"t": "submit", "tasks": [spec]}, WAIT_S)["tasks"][0]["id"]
    worker = instance(broker, tmp_path)
    worker._link.connect(None)
    worker._link.send({"t": "pull"})
    turn = read_turn(worker._link.receive(WAIT_S) or {})

    def restart() -> None:
        dying.wait(WAIT_S)
        broker.command = usual
        broker.start()

    again = Thread(target=restart)
    again.start()
    try:
        answer = worker._send_commit(turn, Commit(OUTCOME_RESULT, large=DATA), 0, pull=False)
    finally:
        again.join(WAIT_S)
        worker._link.drop()
    assert dying.returncode == -9
    assert answer["status"] == "succeeded"
    folder = broker.store.parent / "payloads"
    if step in FORGETTING:
        until("the file of a forgotten task stays", lambda: not list(folder.iterdir()))
        return
    with broker.client() as client:
        found = client.request({"t": "get", "task": task}, WAIT_S)["task"]
        turns = client.request({"t": "tree", "task": task}, WAIT_S)["tasks"][0]["turns"]
    assert found["result_ref"]["digest"] == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    with open_payload(folder, found["result_ref"]) as file:
        assert file.read() == DATA
    assert [entry["outcome"] for entry in turns] == ["result"]
    until("a file is left over", lambda: [path.name for path in folder.iterdir()] == [found["result_ref"]["file"]])


def test_a_result_waits_for_room_on_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """Nothing of it is left on the disk, other tasks are taken meanwhile; with room it is committed by itself."""
    broker = BrokerProcess("--ballast-bytes", str(1 << 20), folder=small_disk)
    try:
        broker.start()
        with broker.client() as client:
            spec = {"agent": "a", "skill": "do", "deadline_ms": 600_000}
            client.request({"t": "submit", "tasks": [spec]}, WAIT_S)
            worker = instance(broker, tmp_path)
            worker._link.connect(None)
            worker._link.send({"t": "pull"})
            turn = read_turn(worker._link.receive(WAIT_S) or {})
            hog = small_disk / "hog"
            hog.write_bytes(bytes(5 << 20))
            told: list[dict[str, Any]] = []
            sending = Thread(
                target=lambda: told.append(worker._send_commit(turn, Commit(OUTCOME_RESULT, large=DATA), 0, pull=False))
            )
            sending.start()
            until("the upload is not refused", lambda: "has no room for this result" in broker.log.read_text())
            assert list((small_disk / broker.fleet / "payloads").iterdir()) == []
            other = {"agent": "b", "skill": "do"}
            assert client.request({"t": "submit", "tasks": [other]}, WAIT_S)["t"] == "accepted"
            assert told == []
            hog.unlink()
            sending.join(WAIT_S)
            worker._link.drop()
            assert told[0]["status"] == "succeeded"
    finally:
        broker.close()
