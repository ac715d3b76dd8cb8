"""Why it exists: taskiq on RabbitMQ (quorum queue), acknowledged when the result is saved, results in Valkey."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskiq import AsyncTaskiqTask, TaskiqResultTimeoutError
from taskiq_aio_pika import AioPikaBroker, Queue, QueueType
from taskiq_redis import RedisAsyncResultBackend

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import common

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "taskiq"
backend: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(common.VALKEY, result_ex_time=3_600)
broker = AioPikaBroker(
    common.RABBITMQ, result_backend=backend, qos=64,
    task_queues=[Queue(name="taskiq-peer", type=QueueType.QUORUM)],
)  # fmt: skip
_loop = asyncio.new_event_loop()


@broker.task(task_name="work")
async def work(number: int, sleep_ms: int, log: str) -> dict[str, int]:
    """Run one task."""
    if sleep_ms:
        await asyncio.sleep(sleep_ms / 1_000)
    return common.body(number, 0, log)


def worker() -> list[str]:
    """See ``common.Peer``."""
    os.chdir(HERE)
    return [
        f"{sys.prefix}/bin/taskiq", "worker", "taskiq_peer:broker", "--workers", str(common.PROCESSES),
        "--max-async-tasks", str(common.THREADS), "--ack-type", "when_saved", "--log-level", "ERROR",
    ]  # fmt: skip


def open_client() -> None:
    """Connect."""
    _loop.run_until_complete(broker.startup())


def one(number: int, sleep_ms: int, log: str) -> Any:
    """See ``common.Peer``."""
    return _loop.run_until_complete(work.kiq(number, sleep_ms, log))


def together(numbers: Sequence[int], clients: int, sleep_ms: int, log: str) -> list[Any]:
    """Enqueue as so many callers."""
    gate = asyncio.Semaphore(clients)

    async def give(number: int) -> Any:
        async with gate:
            return await work.kiq(number, sleep_ms, log)

    async def run() -> list[Any]:
        return await asyncio.gather(*(give(number) for number in numbers))

    return _loop.run_until_complete(run())


def many(numbers: Sequence[int], sleep_ms: int, log: str) -> list[Any]:
    """See ``common.Peer``: all of a batch at once."""
    return together(numbers, len(numbers), sleep_ms, log)


def result(handle: Any, timeout_s: float) -> bool:
    """See ``common.Peer``."""
    try:
        _loop.run_until_complete(handle.wait_result(check_interval=0.001, timeout=timeout_s))
    except TaskiqResultTimeoutError:
        return False
    return True


def name_of(handle: Any) -> str:
    """What a handle is remembered by."""
    return str(handle.task_id)


def handle_of(name: str) -> Any:
    """A handle again."""
    return AsyncTaskiqTask(name, backend)


if __name__ == "__main__":
    import taskiq_peer  # by its own name, as the workers know the task

    common.main(taskiq_peer)
