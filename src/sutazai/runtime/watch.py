"""Why it exists: while a skill holds the main thread, somebody must send heartbeats and hear that it was cancelled.

A second thread does, but only for turns that last: a timer descriptor wakes it ``GRACE_MS`` after a turn began. A
shorter turn costs two system calls and no change of threads. Whoever holds ``_lock`` owns the connection: the main
thread between turns, the watcher during a long one.

A skill is stopped from here: ``async`` ones by cancelling their task, others by a signal to the main thread, whose
handler raises. It is repeated every second, because agent code may swallow it; a skill that does not return at all is
ended by the broker's order to ``sutazaid``.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from sutazai.errors import ProtocolError, RefusedError, UnavailableError
from sutazai.runtime.execute import TurnCancelledError
from sutazai.runtime.kernel import Timer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import FrameType

    from sutazai.runtime.broker_link import BrokerLink
    from sutazai.runtime.context import Context
    from sutazai.runtime.log import Log
    from sutazai.runtime.turn import Turn

GRACE_MS = 20
DEADLINE = "deadline"
STOP_SIGNAL = signal.SIGUSR2
_REPEAT_S = 1.0
_PROGRESS_GAP_S = 0.25
_RECONNECT_S = (0.01, 1.0)
_STACK_BYTES = 256 * 1024


class Watcher:
    """Keeps a turn alive and stops it when it must end.

    Made in the main thread, which is the one that runs skills.

    Attributes:
        drain: the broker or a signal asked to exit after this turn.
        reason: why the turn must stop: ``cancelled``, ``deadline``, ``lease``; empty while it may go on.
        arrived: messages for the main thread that came meanwhile.
    """

    def __init__(self, link: BrokerLink, log: Log) -> None:
        self.link, self._log = link, log
        self._lock = threading.Lock()
        self._lock.acquire()  # the main thread owns the connection first
        self._timer = Timer()
        self.back, self.poke = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
        self.turn: Turn | None = None
        self.context: Context | None = None
        self._main = threading.get_ident()
        self.task: asyncio.Task[Any] | None = None
        self.in_skill = False
        self.drain = False
        self.reason = ""
        self.arrived: deque[dict[str, Any]] = deque()
        self._engaged = False
        self.last_heartbeat_s = 0.0

    def prepare(self) -> None:
        """Start the thread and take the signal; called once, after the fork.

        It is a bare thread: ``threading.Thread.start`` waits until the thread runs, which would delay every wake.
        """
        signal.signal(STOP_SIGNAL, self._on_signal)
        _thread.stack_size(_STACK_BYTES)
        _thread.start_new_thread(self._run, ())
        _thread.stack_size(0)  # threads of agent code have the usual size

    def begin(self, turn: Turn, context: Context) -> None:
        """Give the connection away until ``end``."""
        self.reason, self.task = "", None
        self.last_heartbeat_s = time.monotonic()
        self._give_away(turn, context)

    def _give_away(self, turn: Turn, context: Context) -> None:
        self.turn, self.context = turn, context
        left_ms = max(1, round((turn.deadline_s - time.monotonic()) * 1_000))
        self._timer.start(min(GRACE_MS, left_ms))
        self._lock.release()

    def end(self) -> None:
        """Take the connection back."""
        self.turn = None
        self._timer.stop()
        if not self._lock.acquire(blocking=False):
            os.eventfd_write(self.back, 1)
            self._lock.acquire()
            _clear(self.back)
        self.context = self.task = None

    def paused(self) -> _Paused:
        """Own the connection in the middle of a turn: ``with watcher.paused(): …``, in the main thread only.

        Raises:
            RuntimeError: called in another thread.
        """
        if threading.get_ident() != self._main:
            raise RuntimeError("only the thread that runs the skill can do this")
        return _Paused(self)

    def resume(self, turn: Turn, context: Context, task: asyncio.Task[Any] | None) -> None:
        """Give the connection away again, for the same turn."""
        self.task = task
        self._give_away(turn, context)

    def progressed(self) -> None:
        """Send new progress soon, if the turn is long enough to be watched."""
        if self._engaged:
            os.eventfd_write(self.poke, 1)

    def is_stopping(self) -> bool:
        """Whether the turn must stop."""
        return bool(self.reason)

    @property
    def current(self) -> tuple[Turn, Context] | None:
        """The turn that runs."""
        return None if self.turn is None or self.context is None else (self.turn, self.context)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.in_skill and self.reason:
            raise TurnCancelledError(self.reason)

    def _run(self) -> None:
        wait = select.poll()
        wait.register(self._timer.descriptor, select.POLLIN)
        while True:
            wait.poll()
            self._timer.clear()
            with self._lock:
                _clear(self.back)
                if (current := self.current) is not None:
                    self._engaged = True
                    try:
                        _Watch(self, *current).run()
                    except Exception as error:  # noqa: BLE001 without this thread no turn would ever be stopped
                        self._log.error("the watcher failed; the turn goes on unwatched", error=repr(error))
                    self._engaged = False

    def stop_skill(self, reason: str, *, by_task: bool) -> None:
        """Interrupt the skill."""
        self.reason = reason
        task = self.task
        if by_task and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: the skill has just ended
                task.get_loop().call_soon_threadsafe(task.cancel)
        else:
            signal.pthread_kill(self._main, STOP_SIGNAL)


class _Paused:
    """The main thread owns the connection between ``__enter__`` and ``__exit__``."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._current = watcher.current
        self._task = watcher.task

    def __enter__(self) -> None:
        self._watcher.in_skill = False
        self._watcher.end()

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            self._watcher.resume(*self._current, self._task)
        self._watcher.in_skill = True


class _Watch:
    """The watching of one long turn."""

    def __init__(self, watcher: Watcher, turn: Turn, context: Context) -> None:
        self._watcher, self._turn, self._context = watcher, turn, context
        self._link = watcher.link
        now = time.monotonic()
        self._heartbeat_s = watcher.last_heartbeat_s + self._link.heartbeat_s
        self._stop_again_s = 0.0
        self._stops = 0
        self._reconnect_s, self._reconnect_wait_s = now, _RECONNECT_S[0]
        self._progress_s = 0.0

    def run(self) -> None:
        """Watch until the main thread wants the connection back."""
        back, poke = self._watcher.back, self._watcher.poke
        if self._context.progress_now is not None:
            self._heartbeat_s = 0.0  # it was said before anybody watched
        while self._watcher.turn is self._turn:
            self._do_what_is_due(time.monotonic())
            poller = select.poll()
            poller.register(back, select.POLLIN)
            poller.register(poke, select.POLLIN)
            if self._link.connected:
                poller.register(self._link.connection, select.POLLIN)
            ready = {descriptor for descriptor, _ in poller.poll(self._wait_ms(time.monotonic()))}
            if back in ready:
                return
            if poke in ready:
                _clear(poke)
                self._heartbeat_s = min(self._heartbeat_s, self._progress_s + _PROGRESS_GAP_S)
            if self._link.connected and self._link.connection.fileno() in ready:
                self._guarded(self._read)

    def _wait_ms(self, now: float) -> int:
        if self._link.connected and self._link.connection.waiting:
            return 0
        moments = [self._heartbeat_s if self._link.connected else self._reconnect_s]
        moments.append(self._stop_again_s if self._watcher.reason else self._turn.deadline_s)
        return max(0, round((min(moments) - now) * 1_000) + 1)

    def _do_what_is_due(self, now: float) -> None:
        if not self._watcher.reason and now >= self._turn.deadline_s:
            self._stop(DEADLINE)
        elif self._watcher.reason and now >= self._stop_again_s:
            self._stop(self._watcher.reason)
        if not self._link.connected:
            if now >= self._reconnect_s:
                self._reconnect(now)
        elif now >= self._heartbeat_s:
            self._guarded(self._heartbeat)
        elif self._link.connection.waiting:
            self._guarded(self._read)

    def _stop(self, reason: str) -> None:
        if self._watcher.reason and time.monotonic() < self._stop_again_s:
            return
        self._stops += 1
        self._stop_again_s = time.monotonic() + _REPEAT_S
        self._watcher.stop_skill(reason, by_task=self._stops == 1)

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except UnavailableError:
            self._link.drop()
            self._reconnect_s, self._reconnect_wait_s = time.monotonic(), _RECONNECT_S[0]

    def _reconnect(self, now: float) -> None:
        try:
            self._link.connect(self._turn.held)
            self._heartbeat_s = 0.0
        except (UnavailableError, RefusedError, ProtocolError):
            self._reconnect_s = now + self._reconnect_wait_s
            self._reconnect_wait_s = min(_RECONNECT_S[1], self._reconnect_wait_s * 2)

    def _heartbeat(self) -> None:
        now = time.monotonic()
        progress = self._context.progress_now
        self._link.send(
            {
                "t": "heartbeat",
                "task": self._turn.task.id,
                "fence": self._turn.fence,
                "progress": None if progress is None else {"fraction": progress.fraction, "text": progress.text},
            }
        )
        self._progress_s = self._watcher.last_heartbeat_s = now
        self._heartbeat_s = now + self._link.heartbeat_s

    def _read(self) -> None:
        while (message := self._link.receive(0)) is not None:
            kind = message["t"]
            mine = message.get("task", self._turn.task.id) == self._turn.task.id
            if kind == "lease" and mine and message.get("fence", self._turn.fence) == self._turn.fence:
                if message["cancel"]:
                    self._stop("cancelled")
                elif not message["ok"]:
                    self._stop("lease")
            elif kind == "cancel":
                if mine and message["fence"] == self._turn.fence:
                    self._stop("cancelled")
            elif kind == "drain":
                self._watcher.drain = True
            elif kind not in {"lease", "error"}:
                self._watcher.arrived.append(message)


def _clear(descriptor: int) -> None:
    try:
        os.eventfd_read(descriptor)
    except BlockingIOError:
        return
