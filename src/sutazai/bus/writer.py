"""Why it exists: a slow disk is waited for in a thread, so that the broker goes on reading while a commit is synced.

Operations run on the event loop's thread, only the commit itself runs in the other. While it does, nobody touches the
store, so neither the store nor the deciding code needs a lock. A disk that syncs fast is waited for in place, which
saves two changes of threads: what comes meanwhile waits in its sockets, and the next group is the larger. When the
database is away, the same thread looks for it; the group that was cut off is settled, or run anew, before anything else
is done.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

from sutazai.bus.group import Entry, Group, refuse, roll_back, run_group, settle
from sutazai.errors import StoreAwayError
from sutazai.limits import STORE_AWAY_ANSWER_MS
from sutazai.store import model
from sutazai.store.letters import DeadLetters, Discard, Replay
from sutazai.store.protocol import DiskFullError, StoreLostError
from sutazai.store.times import Schedules

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sutazai.bus.broker import Broker
    from sutazai.errors import RefusedError
    from sutazai.store.protocol import ClockReading

_FULL_PAUSE_S = 0.2
_LOOK_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
_ANSWER_EVERY_S = 0.25
#: Up to here a commit is waited for in place, which saves two changes of threads.
COMMIT_IN_PLACE_MS = 1.0
_COMMIT_WEIGHT = 0.05
#: What somebody outside asks for and may ask for again; all else is the broker's own and waits.
_ASKED_FOR = (
    model.Submit, model.Cancel, model.Resolve, Replay, Discard, model.Get, model.Events, model.Tree,
    model.List, DeadLetters, Schedules, model.ReadState, model.Waiting,
)  # fmt: skip
_NOT_DONE = "the database of the store is away, this was not done: ask again"
_UNKNOWN = "the database of the store went away at the commit, so it is not known whether this was done: ask again"

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
        self._commits: SimpleQueue[ClockReading | str | None] = SimpleQueue()
        self._group = Group([], [])
        self._asked: list[Entry] = []
        self._busy = self._planned = self._again = self._closed = self._unknown = False
        self._lost_s = 0.0
        self._commit_ms = COMMIT_IN_PLACE_MS  # what the last commits took, the newest weighing most
        self._ending = threading.Event()
        self._started = 0.0
        self._idle: list[asyncio.Future[None]] = []
        self._thread = threading.Thread(target=self._work, name="commit", daemon=True)
        self._thread.start()
        broker.journal.wake = self.wake

    def wake(self) -> None:
        """There is something to do."""
        if not self._busy and not self._planned and not self._closed:
            self._planned = True
            # One more round of the loop first: what has arrived meanwhile shares this group.
            self._loop.call_soon(self._loop.call_soon, self._start)

    def _start(self) -> None:
        self._planned = False
        if self._busy or self._closed:
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
            if broker.store.wrote():
                self._commit(broker.clock.reading())
                return
            broker.store.commit(broker.clock.reading())
        except DiskFullError as error:
            self._finish_refused(error)
        except StoreLostError as error:
            self._lost(error, unknown=False)
        else:
            self._finish()

    def _commit(self, reading: ClockReading) -> None:
        if not self._broker.store.in_process or self._commit_ms > COMMIT_IN_PLACE_MS:
            self._busy = True
            self._commits.put(reading)
            return
        error: BaseException | None = None
        try:
            self._timed_commit(reading)
        except BaseException as caught:  # noqa: BLE001 judged as if it came from the thread
            error = caught
        self._committed(error, False)  # noqa: FBT003 a callback

    def _timed_commit(self, reading: ClockReading) -> None:
        started = time.perf_counter()
        self._broker.store.commit(reading)
        took_ms = (time.perf_counter() - started) * 1_000
        self._commit_ms += (took_ms - self._commit_ms) * _COMMIT_WEIGHT

    def _work(self) -> None:
        """Commit, or look for a lost database, on demand, in the thread."""
        while (wanted := self._commits.get()) is not None:
            error: BaseException | None = None
            done = False
            try:
                if isinstance(wanted, str):
                    done = self._look()
                else:
                    self._timed_commit(wanted)
            except BaseException as caught:  # noqa: BLE001 judged on the loop's thread
                error = caught
            if self._ending.is_set():
                return
            self._loop.call_soon_threadsafe(self._found if isinstance(wanted, str) else self._committed, error, done)

    def _committed(self, error: BaseException | None, _: bool) -> None:  # noqa: FBT001 a callback
        self._busy = False
        if error is None:
            self._finish()
        elif isinstance(error, StoreLostError):
            self._lost(error, unknown=True)
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

    # The database is away

    def _lost(self, error: StoreLostError, *, unknown: bool) -> None:
        """The group was cut off; ``unknown`` when its commit had been asked. Nobody is answered before it is found."""
        _log.error("the store is away, it is looked for: %s", error)
        self._busy, self._unknown = True, unknown
        self._lost_s = time.monotonic()
        self._commits.put("look")
        self._loop.call_later(STORE_AWAY_ANSWER_MS / 1_000, self._answer_away)

    def _look(self) -> bool:
        """Look for the database until it is there, or the broker ends."""
        attempt = 0
        while not self._ending.wait(_LOOK_PAUSES_S[min(attempt, len(_LOOK_PAUSES_S) - 1)]):
            attempt += 1
            try:
                return self._broker.store.recover()
            except StoreLostError as error:
                if attempt % 10 == 0:
                    _log.warning("the store is still away: %s", error)
        return False

    def _answer_away(self) -> None:
        """Who asked and has waited long enough hears that the store is away; what the broker does itself waits."""
        if not self._lost_s:
            return
        journal = self._broker.journal
        for entry in [entry for entry in journal.pending if isinstance(entry.operation, _ASKED_FOR)]:
            journal.pending.remove(entry)
            entry.done(StoreAwayError(_NOT_DONE))
        if self._unknown:
            for entry in self._group.done:
                if isinstance(entry.operation, _ASKED_FOR) and entry.done is not _answered:
                    answer, entry.done = entry.done, _answered
                    answer(StoreAwayError(_UNKNOWN))
        else:
            waiting = [entry for entry in self._asked if isinstance(entry.operation, _ASKED_FOR)]
            self._asked = [entry for entry in self._asked if not isinstance(entry.operation, _ASKED_FOR)]
            refuse(waiting, StoreAwayError(_NOT_DONE))
        self._flushed()
        self._loop.call_later(_ANSWER_EVERY_S, self._answer_away)

    def _found(self, error: BaseException | None, done: bool) -> None:  # noqa: FBT001 a callback
        if error is not None:
            _log.critical("the store cannot be used any more, the broker stops: %s", error)
            os._exit(70)
        away_s = time.monotonic() - self._lost_s
        what = "is there" if done else "is run anew"
        _log.warning("the store is back after %.1f s, the group that was cut off %s", away_s, what)
        self._busy = self._unknown = False
        self._lost_s = 0.0
        if done:
            self._finish()
            return
        self._broker.hooks.undone()
        try:
            self._run()
        except Exception as failure:  # noqa: BLE001 as in _start
            _log.critical("a group failed, the broker stops: %r", failure)
            os._exit(70)

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
        """Finish what was asked, then end the thread; what waits for a database that is away is not waited for."""
        while not self._lost_s and (self._busy or self._planned or self._broker.journal.pending):
            future: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(future)
            await future
        self._closed = True
        if self._lost_s:
            self._ending.set()
        self._commits.put(None)
        self._thread.join()


def _answered(_: model.Outcome | RefusedError) -> None:
    """Who asked was told already that it is not known."""
