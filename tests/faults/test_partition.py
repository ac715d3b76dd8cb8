"""The network between the broker and its servers loses every packet, for longer than all timeouts, under load."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.control.alarms import Board
from sutazai.control.snapshot import HostSample, Snapshot, SourceState
from sutazai.errors import HostError
from sutazai.store.opening import read_dsn
from sutazai.testing.broker_load import WAIT_S, judge, load
from sutazai.testing.broker_process import BrokerProcess
from sutazai.testing.network import Island
from sutazai.testing.postgres_server import in_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sutazai.testing.postgres_server import PostgresServer
    from sutazai.testing.rabbitmq_process import RabbitMQProcess

ROUNDS = int(os.environ.get("SUTAZAI_PARTITION_ROUNDS", "1"))
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'sutazai broker %'"
RAISED = {"StoreDown", "DispatcherDown"}


@pytest.fixture
def island() -> Iterator[Island]:
    """A network namespace whose link can be cut."""
    try:
        made = Island()
    except HostError as error:
        pytest.skip(f"a network partition was NOT tested: {error}")
    with made:
        yield made


@pytest.fixture
def dsn_file(island: Island, postgres_server: PostgresServer) -> Path:
    """Where a broker on the island finds its schema: by TCP, and let in."""
    with (postgres_server.state / "data/pg_hba.conf").open("a", encoding="utf-8") as rules:
        rules.write(f"host all all {island.inside}/32 scram-sha-256\n")
    postgres_server.run("SELECT pg_reload_conf()")
    path = postgres_server.new_dsn_file()
    path.write_text(read_dsn(path) + " host=127.0.0.1", encoding="utf-8")
    return path


class Watcher:
    """Asks the broker as control does, and keeps the conditions that hold."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker, self._board = broker, Board()
        self.holds: dict[str, str] = {}

    def _tell(self, name: str, subject: str, *, active: bool, text: str) -> None:
        assert subject == "broker"
        self.holds.pop(name, None)
        if active:
            self.holds[name] = text

    def look(self) -> None:
        """Take one picture; the broker answers, whatever is away."""
        with self._broker.client() as client:
            stats = client.request({"t": "stats"}, WAIT_S)
        told = [
            {"name": name, "subject": "broker", "text": text, "since_wall_ms": 0} for name, text in self.holds.items()
        ]
        status = {"state": "up", "conditions": told}
        self._board.update(Snapshot(0, status, stats, HostSample(), SourceState(), SourceState()), self._tell)

    def until(self, reached: Callable[[], bool], what: str) -> None:
        """Look until something is so.

        Raises:
            AssertionError: it is not within a minute.
        """
        give_up_s = time.monotonic() + WAIT_S
        while not reached():
            assert time.monotonic() < give_up_s, f"{what}: {self.holds}\n{self._broker.log.read_text()[-2_000:]}"
            time.sleep(0.05)
            self.look()


def test_nothing_is_lost_or_doubled_when_the_network_loses_every_packet(
    island: Island, postgres_server: PostgresServer, rabbitmq_server: RabbitMQProcess, dsn_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Both sides give the other up by themselves, the conditions say so, and both come back when packets pass again.

    In every second round the broker is killed in the middle: its session at the server then holds the lock of the
    store, nobody tells the server that the client is gone, and the next broker gets the lock all the same.
    """
    arguments = (
        "--store", "postgres", "--store-dsn-file", str(dsn_file),
        "--dispatch", "rabbitmq", "--dispatch-url-file", str(rabbitmq_server.url),
    )  # fmt: skip
    broker = BrokerProcess(*arguments)
    broker.command = [*island.prefix, *broker.command]
    with broker:
        watcher = Watcher(broker)
        for number in range(4):
            broker.spawn_instance(f"a{number % 2}", f"k{number}", "2")
        with load(broker) as callers:
            watcher.until(lambda: carried(broker) > 0, "signals are carried by RabbitMQ")
            for number in range(ROUNDS):
                killed = number % 2 == 1
                with island.cut():
                    watcher.until(lambda: watcher.holds.keys() >= RAISED, "both are named as away")
                    if killed:
                        broker.kill()
                    give_up_s = time.monotonic() + WAIT_S
                    while postgres_server.run(SESSIONS) != [(0,)]:
                        assert time.monotonic() < give_up_s, "the server keeps the session of a client that is gone"
                        time.sleep(0.1)
                if killed:
                    broker.start()
                used, accepted = carried(broker), sum(len(caller.accepted) for caller in callers)
                watcher.until(lambda: not watcher.holds.keys() & RAISED, "the conditions are cleared")
                watcher.until(lambda used=used: carried(broker) > used, "signals are carried again")  # type: ignore[misc]
                assert sum(len(caller.accepted) for caller in callers) > accepted
        report = judge(broker, callers, in_database(read_dsn(dsn_file)))
    with capsys.disabled():
        print(f"\nnetwork cut {ROUNDS} times: {report}, 0 lost, 0 doubled")  # noqa: T201 read by people


def carried(broker: BrokerProcess) -> int:
    """How many claims were made by a signal, of this broker process."""
    with broker.client() as client:
        found: dict[str, Any] = client.request({"t": "stats"}, WAIT_S)["dispatch"]
    return int(found["used"])
