"""Why it exists: whoever waits for a task is told the moment it is on disk, with no polling.

``wait`` gets the whole task once, ``watch`` gets each event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.bus.group import Entry
from sutazai.errors import QueueFullError, RefusedError
from sutazai.limits import WAITS_PER_CONNECTION_MAX
from sutazai.store.model import STATUS_NUMBERS, TERMINAL_FIRST, Event, Events, Get, Outcome

if TYPE_CHECKING:
    from sutazai.bus.group import Journal
    from sutazai.bus.messages import RequestId
    from sutazai.bus.sessions import Session

_TERMINAL = {name for name, number in STATUS_NUMBERS.items() if number >= TERMINAL_FIRST}


@dataclass(slots=True, eq=False)
class Waiter:
    """One request that is answered later.

    Attributes:
        session: who asked.
        request: its identifier.
        until_ms: answered with the task as it is then.
        stream: it watches events.
        seq: of the last event sent; -1 before what is stored was sent.
        early: events that came while the stored ones were being read.
    """

    session: Session
    request: RequestId
    until_ms: int
    stream: bool
    seq: int = -1
    early: list[Event] | None = None


def is_end(event: Event) -> bool:
    """Whether an event ends its task."""
    return event.kind in _TERMINAL


def _as_json(event: Event) -> dict[str, Any]:
    return {
        "task": event.task,
        "seq": event.seq,
        "kind": event.kind,
        "at_wall_ms": event.at_wall_ms,
        "data": event.data,
    }


class Watches:
    """All who wait, by task.

    Args:
        journal: for reading tasks.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._by_task: dict[str, list[Waiter]] = {}

    def __len__(self) -> int:
        return len(self._by_task)

    def add(self, session: Session, request: RequestId, task: str, *, until_ms: int = 0, stream: bool = False) -> None:
        """Somebody waits for a task, or watches it.

        Raises:
            QueueFullError: this connection waits for too many already.
        """
        if session.waits >= WAITS_PER_CONNECTION_MAX:
            raise QueueFullError(f"this connection waits for {session.waits} tasks, the bound", 1)
        waiter = Waiter(session, request, until_ms, stream, early=[] if stream else None)
        session.waits += 1
        self._by_task.setdefault(task, []).append(waiter)
        if stream:
            self._journal.enqueue(Events(task), lambda result: self._begin(task, waiter, result))
        else:
            self._journal.enqueue(Get(task), lambda result: self._first(task, waiter, result))

    def _drop(self, task: str, waiter: Waiter) -> None:
        waiters = self._by_task.get(task, [])
        if waiter in waiters:
            waiters.remove(waiter)
            waiter.session.waits -= 1
        if not waiters:
            self._by_task.pop(task, None)

    def _first(self, task: str, waiter: Waiter, result: Outcome | RefusedError) -> None:
        """The task as it was when it was asked for; it may have been terminal already."""
        if not isinstance(result, RefusedError) and result.reply["status"] not in _TERMINAL:
            return
        self._answer(task, waiter, result)

    def _answer(self, task: str, waiter: Waiter, result: Outcome | RefusedError) -> None:
        if waiter not in self._by_task.get(task, ()):
            return
        self._drop(task, waiter)
        if isinstance(result, RefusedError):
            waiter.session.reply(waiter.request, error_message(result))
        else:
            waiter.session.reply(waiter.request, {"t": "task", "task": result.reply})

    def _begin(self, task: str, waiter: Waiter, result: Outcome | RefusedError) -> None:
        if isinstance(result, RefusedError):
            self._answer(task, waiter, result)
            return
        early, waiter.early, waiter.seq = waiter.early or [], None, 0
        for event in [*result.reply, *early]:
            self._stream(task, waiter, event)

    def _stream(self, task: str, waiter: Waiter, event: Event) -> None:
        if waiter.early is not None:
            waiter.early.append(event)
            return
        if waiter not in self._by_task.get(task, ()) or event.seq <= waiter.seq:
            return
        waiter.seq = event.seq
        waiter.session.reply(waiter.request, {"t": "event", "event": _as_json(event)})
        if is_end(event):
            self._drop(task, waiter)
            waiter.session.reply(waiter.request, {"t": "end"})

    def reads_for(self, events: list[Event]) -> list[Entry]:
        """Reads of tasks that just ended and that somebody waits for, to be part of the same group."""
        return [
            Entry(Get(event.task), lambda result, task=event.task: self._ended(task, result))  # type: ignore[misc]
            for event in events
            if event.task in self._by_task and is_end(event) and self._waits(event.task)
        ]

    def _waits(self, task: str) -> bool:
        return any(not waiter.stream for waiter in self._by_task[task])

    def _ended(self, task: str, result: Outcome | RefusedError) -> None:
        for waiter in [waiter for waiter in self._by_task.get(task, ()) if not waiter.stream]:
            self._answer(task, waiter, result)

    def announce(self, event: Event) -> None:
        """Something happened, and is on disk."""
        waiters = self._by_task.get(event.task)
        if waiters:
            for waiter in [waiter for waiter in waiters if waiter.stream]:
                self._stream(event.task, waiter, event)

    def tick(self, now_ms: int) -> None:
        """Answer those whose time is over."""
        late = [
            (task, waiter)
            for task, waiters in self._by_task.items()
            for waiter in waiters
            if not waiter.stream and waiter.until_ms <= now_ms
        ]
        for task, waiter in late:
            waiter.until_ms = now_ms + 3_600_000
            self._journal.enqueue(Get(task), lambda result, t=task, w=waiter: self._answer(t, w, result))  # type: ignore[misc]

    def next_ms(self) -> int:
        """When the next one's time is over, 0 for never."""
        times = [w.until_ms for waiters in self._by_task.values() for w in waiters if not w.stream]
        return min(times, default=0)

    def closed(self, session: Session) -> None:
        """A connection is gone."""
        if session.waits == 0:
            return
        for task in [task for task, waiters in self._by_task.items() if any(w.session is session for w in waiters)]:
            for waiter in [w for w in self._by_task.get(task, ()) if w.session is session]:
                self._drop(task, waiter)


def error_message(error: Exception) -> dict[str, Any]:
    """Write an error for the wire."""
    message = {"t": "error", "code": getattr(error, "code", "internal"), "detail": str(error)}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        message["retry_after_s"] = retry_after_s
    return message
