"""Why it exists: dramatiq on RabbitMQ, confirmed publishing, results in Valkey that syncs every write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dramatiq
import redis
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from dramatiq.results.errors import ResultTimeout

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import common

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "dramatiq"
broker = RabbitmqBroker(url=common.RABBITMQ, confirm_delivery=True)
backend = RedisBackend(client=redis.Redis.from_url(common.VALKEY, socket_timeout=None))  # it waits longer than 5 s
broker.add_middleware(Results(backend=backend, store_results=True, result_ttl=3_600_000))
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=20, min_backoff=50, queue_name="dramatiq")
def work(number: int, sleep_ms: int, log: str) -> dict[str, int]:
    """Run one task."""
    return common.body(number, sleep_ms, log)


def worker() -> list[str]:
    """See ``common.Peer``."""
    return [
        f"{sys.prefix}/bin/dramatiq", "dramatiq_peer", "-p", str(common.PROCESSES), "-t", str(common.THREADS),
        "--path", str(HERE),
    ]  # fmt: skip


def one(number: int, sleep_ms: int, log: str) -> Any:
    """See ``common.Peer``."""
    return work.send(number, sleep_ms, log)


def many(numbers: Sequence[int], sleep_ms: int, log: str) -> None:
    """See ``common.Peer``: it has no batches."""


def result(handle: Any, timeout_s: float) -> bool:
    """See ``common.Peer``."""
    try:
        handle.get_result(backend=backend, block=True, timeout=int(timeout_s * 1_000))
    except ResultTimeout:
        return False
    return True


def name_of(handle: Any) -> str:
    """What a handle is remembered by."""
    return str(handle.message_id)


def handle_of(name: str) -> Any:
    """A handle again."""
    return work.message(0, 0, "").copy(message_id=name)


if __name__ == "__main__":
    import dramatiq_peer  # by its own name, as the workers know the task

    common.main(dramatiq_peer)
