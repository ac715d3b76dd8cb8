"""The database is killed, cut off, frozen, away for long under a loaded real broker: nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.errors import UnavailableError
from sutazai.limits import STORE_AWAY_ANSWER_MS
from sutazai.store.opening import read_dsn
from sutazai.testing.broker_load import WAIT_S, Caller, judge, load
from sutazai.testing.broker_process import BrokerProcess
from sutazai.testing.postgres_server import in_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sutazai.testing.postgres_server import PostgresServer

ROUNDS = int(os.environ.get("SUTAZAI_POSTGRES_ROUNDS", "8"))
ECHO = {"agent": "a0", "skill": "echo", "input": 1}


@pytest.fixture
def dsn_file(own_server: PostgresServer) -> Path:
    """Where a broker finds its schema."""
    return own_server.new_dsn_file()


@pytest.fixture
def broker(dsn_file: Path) -> Iterator[BrokerProcess]:
    """A broker on PostgreSQL."""
    with BrokerProcess("--store", "postgres", "--store-dsn-file", str(dsn_file)) as running:
        yield running


def hurt(what: str, server: PostgresServer, broker: BrokerProcess, luck: random.Random) -> None:
    """Do one thing that must harm nobody."""
    if what == "cut":
        server.cut()
    elif what == "kill":
        server.kill()
        time.sleep(luck.uniform(0, 0.2))
        server.start()
    elif what == "freeze":
        server.freeze()
        time.sleep(luck.uniform(0.05, 0.5))
        server.freeze(thaw=True)
    elif what == "broker":
        broker.kill()
        broker.start()
    else:
        server.kill()
        broker.kill()
        server.start()
        broker.start()


def test_nothing_is_lost_or_doubled_when_the_database_is_hurt(
    own_server: PostgresServer, broker: BrokerProcess, dsn_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sessions end, the server dies and freezes, the broker dies, both die, while clients submit and turns commit."""
    luck = random.Random(5)  # noqa: S311 no secret
    faults = ["cut", "kill", "freeze", "cut", "broker", "kill", "both", "cut"]
    for number in range(4):
        broker.spawn_instance(f"a{number % 2}", f"k{number}", "2")
    with load(broker) as callers:
        for number in range(ROUNDS):
            time.sleep(luck.uniform(0.05, 0.4))
            hurt(faults[number % len(faults)], own_server, broker, luck)
    text = broker.log.read_text(encoding="utf-8")
    report = judge(broker, callers, in_database(read_dsn(dsn_file)))
    with capsys.disabled():
        print(f"\nPostgreSQL hurt {ROUNDS} times: {report}, 0 lost, 0 doubled")  # noqa: T201 the kill matrix is read by people
    assert "the store is back after" in text, "no fault reached the broker"
    assert "CRITICAL" not in text


def test_callers_are_told_while_the_database_is_away_and_served_after(
    own_server: PostgresServer, broker: BrokerProcess
) -> None:
    """Who asks is told ``unavailable`` in a bounded time and keeps its connection; a turn's commit waits and holds."""
    with broker.client() as client, broker.instance("a0", "k1") as instance:
        task = client.request({"t": "submit", "tasks": [ECHO]}, WAIT_S)["tasks"][0]["id"]
        instance.send({"t": "pull"})
        turn = next_turn(instance)
        own_server.kill()
        commit = {"t": "commit", "id": 5, "task": task, "fence": turn["fence"], "outcome": "result", "result": 7}
        instance.send(commit)
        started = time.monotonic()
        with pytest.raises(UnavailableError, match=r"away.*ask again"):
            client.request({"t": "submit", "tasks": [{**ECHO, "idempotency_key": "k"}]}, WAIT_S)
        with pytest.raises(UnavailableError):
            client.request({"t": "get", "task": task}, WAIT_S)
        assert time.monotonic() - started >= STORE_AWAY_ANSWER_MS / 1_000 / 2
        assert client.request({"t": "stats"}, WAIT_S)["store"]["away"] is True
        own_server.start()
        found = Caller(broker, 0).ask({"t": "wait", "task": task, "timeout_ms": 30_000})["task"]
        assert (found["status"], found["result"], found["attempt"]) == ("succeeded", 7, 1)
        client.request({"t": "submit", "tasks": [{**ECHO, "idempotency_key": "k"}]}, WAIT_S)
        assert client.request({"t": "stats"}, WAIT_S)["store"]["away"] is False
    assert broker.stop() == 0


def next_turn(instance: Any) -> dict[str, Any]:
    """Wait for a turn."""
    while (incoming := instance.receive(WAIT_S)) is not None:
        if incoming[0]["t"] == "turn":
            turn: dict[str, Any] = incoming[0]
            return turn
    raise AssertionError("no turn came")


def test_a_broker_that_is_stopped_while_the_database_is_away_ends(
    own_server: PostgresServer, broker: BrokerProcess
) -> None:
    """SIGTERM is obeyed; what nobody was told of is not lost: its caller asks again."""
    own_server.kill()
    with broker.client() as client:
        client.send({"t": "submit", "id": 1, "tasks": [ECHO]})
        while "the store is away" not in broker.log.read_text(encoding="utf-8"):
            time.sleep(0.01)
        assert broker.stop() == 0


def test_a_broker_says_why_it_cannot_open_its_store(own_server: PostgresServer, tmp_path: Path) -> None:
    """A missing file, one that others may read, a server that is away: each is named, and the broker ends."""
    dsn_file = own_server.new_dsn_file()
    own_server.stop()
    for path, mode, words in (
        (tmp_path / "none", 0o600, "should say where"), (dsn_file, 0o644, "chmod 600"), (dsn_file, 0o600, "not there")
    ):  # fmt: skip
        dsn_file.chmod(mode)
        with (
            pytest.raises(UnavailableError, match=words),
            BrokerProcess("--store", "postgres", "--store-dsn-file", str(path)),
        ):
            pass


def test_a_broker_finds_the_server_of_its_own_fleet(own_server: PostgresServer) -> None:
    """Without a file named, the one that the fleet's server wrote; room is set aside, since the disk is the fleet's."""
    broker = BrokerProcess("--store", "postgres", "--ballast-bytes", "4096")
    place = broker.state_root / broker.fleet / "services/postgres"
    place.mkdir(parents=True)
    (place / "dsn").touch(mode=0o600)
    (place / "dsn").write_text(read_dsn(own_server.state / "dsn"), encoding="utf-8")
    with broker, broker.client() as client:
        client.request({"t": "submit", "tasks": [ECHO]}, WAIT_S)
        assert (broker.state_root / broker.fleet / "store.ballast").stat().st_size == 4096
        assert not broker.store.exists()
    assert own_server.run("SELECT agent, status FROM tasks") == [("a0", 0)]
