"""Why it exists: Celery on RabbitMQ: late acknowledgement, confirmed publishing, results in Valkey that syncs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import TimeoutError as NoResultError
from celery.result import AsyncResult

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import common

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "Celery"
app = Celery("celery_peer", broker=common.RABBITMQ, backend=common.VALKEY)
app.conf.update(
    task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=4,
    task_default_queue="celery-peer",
    broker_transport_options={"confirm_publish": True}, result_expires=3_600, broker_connection_retry_on_startup=True,
    worker_send_task_events=False, worker_hijack_root_logger=False,
)  # fmt: skip


@app.task(name="work")
def work(number: int, sleep_ms: int, log: str) -> dict[str, int]:
    """Run one task."""
    return common.body(number, sleep_ms, log)


def worker() -> list[str]:
    """See ``common.Peer``: its pool has processes, as many as the others have threads."""
    os.chdir(HERE)
    return [
        f"{sys.prefix}/bin/celery", "-A", "celery_peer", "worker", "-c", str(common.PROCESSES * common.THREADS),
        "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR", "-n",
        f"w{os.getpid()}@localhost",
    ]  # fmt: skip


def one(number: int, sleep_ms: int, log: str) -> Any:
    """See ``common.Peer``."""
    return work.delay(number, sleep_ms, log)


def many(numbers: Sequence[int], sleep_ms: int, log: str) -> None:
    """See ``common.Peer``: it has no batches."""


def result(handle: Any, timeout_s: float) -> bool:
    """See ``common.Peer``."""
    try:
        handle.get(timeout=timeout_s, interval=0.001)
    except NoResultError:
        return False
    return True


def name_of(handle: Any) -> str:
    """What a handle is remembered by."""
    return str(handle.id)


def handle_of(name: str) -> Any:
    """A handle again."""
    return AsyncResult(name, app=app)


if __name__ == "__main__":
    import celery_peer  # by its own name, as the workers know the task

    common.main(celery_peer)
