"""Why it exists: one agent that calls another without end must not fill that agent's queue for everybody else.

It counts the open calls of each agent to each other one, by what is on disk. It is rebuilt from the store at a start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sutazai.bus.watch import is_end
from sutazai.errors import InvalidInputError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sutazai.store.model import Event, NewTask


@dataclass(slots=True)
class _Call:
    """An open task that a turn made, or is about to make.

    Attributes:
        caller: agent whose turn it was.
        callee: agent whose task it is.
        stored: it is on disk.
    """

    caller: str
    callee: str
    stored: bool


class Bulkhead:
    """Open calls by caller and callee.

    Args:
        open_calls: identifier, caller and callee of those that are in the store.
        most: how many open calls one agent may have to this one.
    """

    def __init__(self, open_calls: Iterable[tuple[str, str, str]], most: Callable[[str], int]) -> None:
        self._most = most
        self._calls: dict[str, _Call] = {}
        self._counts: dict[tuple[str, str], int] = {}
        for task, caller, callee in open_calls:
            self._add(task, _Call(caller, callee, stored=True))

    def open(self, caller: str, callee: str) -> int:
        """How many calls of one agent to another are open."""
        return self._counts.get((caller, callee), 0)

    def calls(self) -> dict[tuple[str, str], int]:
        """Open calls by caller and callee."""
        return dict(self._counts)

    def ask(self, caller: str, tasks: Sequence[NewTask]) -> list[str]:
        """Take calls that a commit is about to store; they count from now on.

        Returns:
            Those that were not there before, for ``settle``.

        Raises:
            QueueFullError: the caller has too many open calls to one of the agents; it may be fewer later.
            InvalidInputError: this commit alone has too many.
        """
        new = [task for task in tasks if task.id not in self._calls and task.refused is None]
        for callee in {task.agent for task in new}:
            more, most, now = sum(task.agent == callee for task in new), self._most(callee), self.open(caller, callee)
            if more > most:
                raise InvalidInputError(
                    f"the turn calls {callee} {more} times at once, its bound for one caller is {most} "
                    "(queue.per_caller): call it in parts"
                )
            if now + more > most:
                raise QueueFullError(
                    f"{now} calls of {caller} to {callee} are open, its bound for one caller is {most} "
                    "(queue.per_caller): the turn is tried again",
                    5, callee,
                )  # fmt: skip
        for task in new:
            self._add(task.id, _Call(caller, task.agent, stored=False))
        return [task.id for task in new]

    def settle(self, asked: Iterable[str]) -> None:
        """The commit is over: what it did not store does not count."""
        for task in asked:
            call = self._calls.get(task)
            if call is not None and not call.stored:
                self._drop(task)

    def happened(self, event: Event) -> None:
        """Something that is on disk happened to a task."""
        call = self._calls.get(event.task)
        if call is None:
            return
        if is_end(event):
            self._drop(event.task)
        elif event.kind == "queued":
            call.stored = True
            if event.agent != call.callee:  # another agent took it over
                self._drop(event.task)
                self._add(event.task, _Call(call.caller, event.agent, stored=True))

    def _add(self, task: str, call: _Call) -> None:
        self._calls[task] = call
        key = (call.caller, call.callee)
        self._counts[key] = self._counts.get(key, 0) + 1

    def _drop(self, task: str) -> None:
        call = self._calls.pop(task)
        key = (call.caller, call.callee)
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]
