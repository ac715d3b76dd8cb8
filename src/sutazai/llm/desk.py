"""Why it exists: a model answers few requests at a time; the rest wait in a bounded line, and who gave up leaves it.

The driver blocks in threads, one a slot; its pieces reach the event loop through the job's queue. ``max_tokens``
bounds what a queue can hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.errors import InternalError, QueueFullError
from sutazai.llm.drivers.protocol import Finish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sutazai.llm.drivers.protocol import ChatRequest, Driver

FIRST_GUESS_S = 5.0
LATEST_WEIGHT = 0.2
RETRY_AFTER_S_MAX = 60

Item = str | Finish | Exception


@dataclass(frozen=True, slots=True)
class Statistics:
    """The desk now.

    Attributes:
        active: requests that a slot works on.
        waiting: requests in line.
        seconds_typical: time of one answer, moving average.
    """

    active: int
    waiting: int
    seconds_typical: float


class Job:
    """One request on its way.

    Attributes:
        request: what is asked.
        items: what a thread has made of it so far.
        started: a slot works on it.
        started_ns: when that began, monotonic; 0 before.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self.items: asyncio.Queue[Item] = asyncio.Queue()
        self.started = False
        self.started_ns = 0
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop it as soon as its driver asks whether to go on."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody stopped it."""
        return self._cancelled.is_set()

    async def next(self) -> str | Finish:
        """Wait for the next piece; the last one is the ``Finish``.

        Raises:
            SutazaiError: the driver's error.
        """
        item = await self.items.get()
        if isinstance(item, Exception):
            raise item
        return item


class Desk:
    """Slots and the line before them.

    Args:
        driver: loaded.
        slots: answers at the same time.
        queue_max: requests that may wait.
    """

    def __init__(self, driver: Driver, slots: int, queue_max: int) -> None:
        self._driver, self._slots, self._queue_max = driver, slots, queue_max
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="slot")
        self._free = asyncio.Semaphore(slots)
        self._jobs: dict[asyncio.Task[None], Job] = {}
        self._active = 0
        self._seconds = FIRST_GUESS_S

    def statistics(self) -> Statistics:
        """Look at it."""
        return Statistics(self._active, len(self._jobs) - self._active, self._seconds)

    @contextlib.asynccontextmanager
    async def take(self, request: ChatRequest) -> AsyncIterator[Job]:
        """Put a request in line; leaving the context stops it.

        Raises:
            QueueFullError: the line is full.
        """
        if len(self._jobs) >= self._slots + self._queue_max:
            waiting = len(self._jobs) - self._active
            after_s = math.ceil(self._seconds * (waiting + 1) / self._slots)
            raise QueueFullError(f"{waiting} requests wait already", min(after_s, RETRY_AFTER_S_MAX))
        job = Job(request)
        task = asyncio.create_task(self._work(job), name="llm-job")
        self._jobs[task] = job
        task.add_done_callback(lambda done: self._jobs.pop(done, None))
        try:
            yield job
        finally:
            job.cancel()
            if not job.started:
                task.cancel()  # its place in the line is free at once

    async def close(self, wait_s: float) -> bool:
        """Stop all jobs; answers whether all threads have left the driver within ``wait_s`` seconds."""
        tasks = dict(self._jobs)
        for job in tasks.values():
            job.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=wait_s)
        self._threads.shutdown(wait=False)
        return not self._active

    async def _work(self, job: Job) -> None:
        async with self._free:
            if job.cancelled:
                return
            job.started = True
            job.started_ns = time.monotonic_ns()
            self._active += 1
            begun_s = time.monotonic()
            try:
                loop = asyncio.get_running_loop()
                item: Item = await loop.run_in_executor(self._threads, self._answer, job, loop)
            except Exception as error:  # noqa: BLE001 raised again by whoever reads the job
                item = error
            finally:
                self._active -= 1
            seconds = time.monotonic() - begun_s
            self._seconds += LATEST_WEIGHT * (seconds - self._seconds)
            job.items.put_nowait(item)

    def _answer(self, job: Job, loop: asyncio.AbstractEventLoop) -> Finish:
        def emit(piece: str) -> bool:
            if job.cancelled:
                return False
            loop.call_soon_threadsafe(job.items.put_nowait, piece)
            return True

        finish = self._driver.chat(job.request, emit)
        if not isinstance(finish, Finish):
            raise InternalError("a driver must end with a Finish")
        return finish
