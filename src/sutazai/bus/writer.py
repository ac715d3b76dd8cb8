"""Why it exists: the disk is waited for in a thread, so that the broker goes on reading while a commit is synced.

Operations run on the event loop's thread, only the commit itself runs in the other. While it does, nobody touches the
store, so neither the store nor the deciding code needs a lock.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from sutazai.bus.group import Entry, Group, refuse, roll_back, run_group, settle
from sutazai.store.protocol import DiskFullError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sutazai.bus.broker import Broker
    from sutazai.store.protocol import ClockReading

_FULL_PAUSE_S = 0.2

_log = logging.getLogger(__name__)


class Writer:
    """Runs groups of a broker's journal, one after the other.

    Args:
        loop: of the broker.
        broker: whose journal.
        flushed: called when answers of a group were handed out.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, broker: Broker, flushed: Callable[[], None]) -> None:
        self._loop, self._broker, self._flushed = loop, broker, flushed
        self._commits: SimpleQueue[ClockReading | None] = SimpleQueue()
        self._group = Group([], [])
        self._asked: list[Entry] = []
        self._busy = self._planned = self._again = False
        self._started = 0.0
        self._idle: list[asyncio.Future[None]] = []
        self._thread = threading.Thread(target=self._work, name="commit", daemon=True)
        self._thread.start()
        broker.journal.wake = self.wake

    def wake(self) -> None:
        """There is something to do."""
        if not self._busy and not self._planned:
            self._planned = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._planned = False
        if self._busy:
            return
        broker = self._broker
        self._asked = broker.journal.take()
        if not self._asked and not broker.has_work():
            self._tell_idle()
            return
        self._again = False
        self._started = time.perf_counter()
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 whatever it was, the store is the truth and the next broker reads it
            _log.critical("a group failed, the broker stops: %r", error)
            os._exit(70)

    def _run(self) -> None:
        broker = self._broker
        try:
            self._group = run_group(broker.store, broker.clock, self._asked, broker.hooks)
        except DiskFullError as error:
            self._finish_refused(error)
            return
        if broker.store.wrote():
            self._busy = True
            self._commits.put(broker.clock.reading())
            return
        broker.store.commit(broker.clock.reading())
        self._finish()

    def _work(self) -> None:
        """Commit on demand, in the thread."""
        while (reading := self._commits.get()) is not None:
            error: BaseException | None = None
            try:
                self._broker.store.commit(reading)
            except BaseException as caught:  # noqa: BLE001 judged on the loop's thread
                error = caught
            self._loop.call_soon_threadsafe(self._committed, error)

    def _committed(self, error: BaseException | None) -> None:
        self._busy = False
        if error is None:
            self._finish()
        elif not isinstance(error, DiskFullError):
            _log.critical("the commit failed, the broker stops: %s", error)
            os._exit(70)
        else:
            roll_back(self._broker.store, self._broker.hooks)
            if self._again:
                self._finish_refused(error)
            else:
                self._again = True
                self._run()

    def _finish(self) -> None:
        group, self._group = self._group, Group([], [])
        self._broker.journal.put_back(group.later)
        self._broker.meters.latency["group"].add((time.perf_counter() - self._started) * 1_000)
        self._broker.committed(group.done)
        settle(group.done)
        self._flushed()
        self._next()

    def _finish_refused(self, error: DiskFullError) -> None:
        refuse(self._asked, error)
        self._flushed()
        self._loop.call_later(_FULL_PAUSE_S, self.wake)

    def _next(self) -> None:
        if self._broker.journal.pending or self._broker.has_work():
            self.wake()
        else:
            self._tell_idle()

    def _tell_idle(self) -> None:
        for future in self._idle:
            if not future.done():
                future.set_result(None)
        self._idle.clear()

    async def close(self) -> None:
        """Finish what was asked, then end the thread."""
        while self._busy or self._planned or self._broker.journal.pending:
            future: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(future)
            await future
        self._commits.put(None)
        self._thread.join()
