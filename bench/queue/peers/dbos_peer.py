"""Why it exists: DBOS on SQLite: workflows on a queue, their outputs recorded in the system database."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbos import DBOS, DBOSClient, EnqueueOptions

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import common

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "DBOS"
READY = common.PLACE / "dbos.ready"  # its workers make the tables
URL = f"sqlite:///{common.PLACE / 'dbos.sqlite'}"
_client: list[Any] = []


def worker() -> list[str]:
    """See ``common.Peer``: SQLite allows one executor, so one process with all threads."""
    return [sys.executable, str(Path(__file__).resolve()), "serve"]


def serve() -> None:
    """Run the workflows of the queue."""
    DBOS(config={
        "name": "bench", "system_database_url": URL, "log_level": "ERROR", "application_version": "1",
        "executor_id": "worker",
    })  # fmt: skip

    @DBOS.workflow(name="work", max_recovery_attempts=100)
    def work(number: int, sleep_ms: int, log: str) -> dict[str, int]:
        return common.body(number, sleep_ms, log)

    DBOS.launch()
    DBOS.register_queue(
        "bench", worker_concurrency=common.PROCESSES * common.THREADS, polling_interval_sec=0.01,
        on_conflict="always_update",
    )  # fmt: skip
    READY.touch()
    threading.Event().wait()


def open_client() -> None:
    """Connect."""
    _client.append(DBOSClient(system_database_url=URL))


def one(number: int, sleep_ms: int, log: str) -> Any:
    """See ``common.Peer``."""
    options: EnqueueOptions = {"workflow_name": "work", "queue_name": "bench", "app_version": "1"}
    return _client[0].enqueue(options, number, sleep_ms, log)


def many(numbers: Sequence[int], sleep_ms: int, log: str) -> None:
    """See ``common.Peer``: it has no batches."""


def result(handle: Any, timeout_s: float) -> bool:
    """See ``common.Peer``."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if handle.get_status().status == "SUCCESS":
            return True
        time.sleep(0.001)
    return False


def name_of(handle: Any) -> str:
    """What a handle is remembered by."""
    return str(handle.workflow_id)


def handle_of(name: str) -> Any:
    """A handle again."""
    return _client[0].retrieve_workflow(name)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        common.main(sys.modules[__name__])
