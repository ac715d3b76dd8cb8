"""Why it exists: a caller with many tasks asks once for all, and hears of each the moment it has ended and is on disk.

One question is one ``wait_each``; each end is one ``ended``, in the order of the ends; the last word is ``end``, with
the tasks that were still open when the time was over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sutazai.bus.group import Entry
from sutazai.bus.watch import error_message, is_end
from sutazai.errors import QueueFullError, RefusedError
from sutazai.limits import WAITS_PER_CONNECTION_MAX
from sutazai.store.ends import Ended, Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sutazai.bus.group import Journal
    from sutazai.bus.messages import RequestId
    from sutazai.bus.sessions import Session
    from sutazai.store.model import Event, Outcome


@dataclass(slots=True, eq=False)
class _Question:
    """One ``wait_each``.

    Attributes:
        session: who asked.
        request: its identifier.
        until_ms: answered then with what is open.
        open: tasks whose end was not told, in the order asked.
    """

    session: Session
    request: RequestId
    until_ms: int
    open: dict[str, None]


class EachDesk:
    """All who wait for several tasks.

    Args:
        journal: for reading how they ended.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._questions: dict[_Question, None] = {}
        self._by_task: dict[str, list[_Question]] = {}

    def ask(self, session: Session, request: RequestId, tasks: Iterable[str], until_ms: int) -> None:
        """Somebody waits for tasks.

        Raises:
            QueueFullError: this connection waits for too many already.
        """
        names = dict.fromkeys(tasks)
        if session.waits + len(names) > WAITS_PER_CONNECTION_MAX:
            raise QueueFullError(f"this connection waits for {session.waits} tasks, {len(names)} more are too many", 1)
        question = _Question(session, request, until_ms, names)
        session.waits += len(names)
        self._questions[question] = None
        for name in names:
            self._by_task.setdefault(name, []).append(question)
        self._read(tuple(names), question)

    def _read(self, names: tuple[str, ...], only: _Question | None = None) -> None:
        self._journal.enqueue(Outcomes(names), lambda result: self._found(names, result, only))

    def _found(self, names: tuple[str, ...], result: Outcome | RefusedError, only: _Question | None) -> None:
        """How tasks ended was read; ``only`` for one question, or for all that are open."""
        if isinstance(result, RefusedError):
            asking = {q: None for name in names for q in self._by_task.get(name, ()) if only is None or q is only}
            for question in asking:
                self._close(question)
                question.session.reply(question.request, error_message(result))
            return
        ended: Ended = result.reply
        for task in ended.tasks:
            for question in list(self._by_task.get(task["task"], ())):
                self._tell(question, task)
        if ended.left:
            self._read(ended.left, only)

    def _tell(self, question: _Question, task: dict[str, Any]) -> None:
        self._forget(question, task["task"])
        question.session.reply(question.request, {"t": "ended", **task})
        if not question.open:
            self._close(question)
            question.session.reply(question.request, {"t": "end", "open": []})

    def _forget(self, question: _Question, name: str) -> None:
        if name in question.open:
            del question.open[name]
            question.session.waits -= 1
            asking = self._by_task[name]
            asking.remove(question)
            if not asking:
                del self._by_task[name]

    def _close(self, question: _Question) -> None:
        for name in list(question.open):
            self._forget(question, name)
        self._questions.pop(question, None)

    def reads_for(self, events: Iterable[Event]) -> list[Entry]:
        """One read of all tasks that just ended and that somebody waits for, to be part of the same group."""
        names = tuple(event.task for event in events if event.task in self._by_task and is_end(event))
        return [Entry(Outcomes(names), lambda result: self._found(names, result, None))] if names else []

    def tick(self, now_ms: int) -> None:
        """Answer those whose time is over."""
        for question in [question for question in self._questions if question.until_ms <= now_ms]:
            still = list(question.open)
            self._close(question)
            question.session.reply(question.request, {"t": "end", "open": still})

    def closed(self, session: Session) -> None:
        """A connection is gone."""
        for question in [question for question in self._questions if question.session is session]:
            self._close(question)
