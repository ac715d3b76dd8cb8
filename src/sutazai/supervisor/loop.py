"""Why it exists: one thread waits for everything, so that no lock and no event-loop framework is needed.

Python with asyncio is 18 MB before it does anything; ``selectors``, a heap of timers and a wake-up pipe for signals
are 300 lines less and 8 MB less. Callbacks must not block. A callback that raises is logged and does not stop the
loop, except ``InternalError``: then the process ends, and the guard starts a fresh one that re-adopts.
"""

from __future__ import annotations

import contextlib
import heapq
import selectors
import signal
import socket
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sutazai.clock import Clock, SystemClock
from sutazai.errors import InternalError
from sutazai.supervisor.journal import say

if TYPE_CHECKING:
    from collections.abc import Callable

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


@dataclass(order=True, slots=True)
class Timer:
    """One call in the future.

    Attributes:
        due_ms: on the loop's monotonic clock.
        order: keeps timers of one millisecond in the order they were made.
        callback: None once cancelled or done.
    """

    due_ms: int
    order: int
    callback: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        """Forget the call; harmless when it was made."""
        self.callback = None

    @property
    def pending(self) -> bool:
        """Whether the call is still to come."""
        return self.callback is not None


class Loop:
    """Readable and writable file descriptors, timers and signals."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self._selector = selectors.DefaultSelector()
        self._timers: list[Timer] = []
        self._order = 0
        self._exit_code: int | None = None
        self._signals: dict[int, Callable[[], None]] = {}
        self._posted: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.settimeout(0)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        self.watch(self._wake_read.fileno(), READ, self._on_signals)

    def now_ms(self) -> int:
        """Monotonic milliseconds."""
        return self.clock.monotonic_ms()

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call back with the events that happened on ``fd``; a second call changes the first."""
        try:
            self._selector.modify(fd, events, callback)
        except KeyError:
            self._selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        """Stop watching; harmless when it is not watched."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def after(self, delay_ms: int, callback: Callable[[], None]) -> Timer:
        """Call back once, in ``delay_ms``."""
        self._order += 1
        timer = Timer(self.now_ms() + max(0, delay_ms), self._order, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Call back in the loop, not in the handler."""
        self._signals[number] = callback
        signal.signal(number, _wake_only)

    def post(self, callback: Callable[[], None]) -> None:
        """Call back soon, in the loop; the only method that another thread may use."""
        self._posted.append(callback)
        with contextlib.suppress(OSError):  # full: then the loop is about to wake anyway; closed: nobody listens
            self._wake_write.send(b"\0")

    def stop(self, code: int) -> None:
        """Leave ``run`` with this code after the current callbacks."""
        self._exit_code = code

    def run(self) -> int:
        """Serve until ``stop``; returns its code."""
        while self._exit_code is None:
            self.turn()
        return self._exit_code

    def turn(self) -> None:
        """Wait once, and make the calls that are due."""
        for key, events in self._selector.select(self._wait_s()):
            current = self._selector.get_map().get(key.fd)
            if current is not None and current.data is key.data:  # an earlier callback may have closed or replaced it
                _guarded(key.data, events)
        now = self.now_ms()
        while self._timers and self._timers[0].due_ms <= now:
            timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                _guarded(callback)

    def close(self) -> None:
        """Give the descriptors back."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _wait_s(self) -> float | None:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0, self._timers[0].due_ms - self.now_ms()) / 1_000

    def take_signals(self) -> None:
        """Act on the signals that have come, without waiting for any."""
        self._on_signals(READ)

    def _on_signals(self, _events: int) -> None:
        try:
            numbers = set(self._wake_read.recv(4096))
        except BlockingIOError:
            return
        for number in sorted(numbers):
            if callback := self._signals.get(number):
                callback()
        while self._posted:
            _guarded(self._posted.popleft())


def _wake_only(_number: int, _frame: object) -> None:
    """Let the wake-up pipe tell the loop."""


def _guarded(callback: Callable[..., None], *arguments: int) -> None:
    try:
        callback(*arguments)
    except InternalError:
        raise
    except Exception:  # noqa: BLE001 one bad event must not end the process that keeps all others alive
        say(f"an event failed, going on\n{traceback.format_exc()}")
