"""Why it exists: the steps that every operation is made of: end a task, requeue it, put a parent back, write an event.

Each rule of ``docs/explanation/states-and-crashes.md`` is one statement here or in a named query, inside the
transaction of the operation that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sutazai.limits import EVENTS_PER_TASK_MAX
from sutazai.store.model import (
    CANCELLED,
    DEAD,
    LEASED,
    QUEUED,
    STATUS_NAMES,
    TERMINAL_FIRST,
    WAITING,
    Event,
    Outcome,
)
from sutazai.store.queries import sql

if TYPE_CHECKING:
    from sutazai.store.counts import Counts
    from sutazai.store.driver import Connection

INPUT, CARRY, RESULT = 0, 1, 2

_encode = msgspec.json.Encoder().encode

_BY_ID = sql("task_by_id")
_BY_SEQ = sql("task_by_seq")
_FINISH = sql("task_finish")
_REQUEUE = sql("task_requeue")
_PARENT = sql("parent_child_ended")
_CHILDREN = sql("children_open")
_CHILDREN_ALL = sql("children_all")
_RELEASE = sql("session_release_next")
_EVENT = sql("event_insert")
_EVENTS_TRIM = sql("events_trim")
_PUT = sql("payload_put")
_GET = sql("payload_get")
_DELETE = sql("payload_delete")
_STATE_USED = sql("state_used")
_TURN = sql("turn_insert")


def to_json(value: Any) -> str:
    """Write a value for a column."""
    return _encode(value).decode()


class Row:
    """A task as an operation reads it before it decides. The columns of ``task_by_id``."""

    __slots__ = (
        "agent", "attempt", "attempts_max", "awaited", "checkpoints", "deadline_ms", "depth", "due_ms", "events",
        "fence", "held", "id", "input_bytes", "leased_wall_ms", "losses", "parent", "pid", "priority", "seq", "session",
        "skill", "status", "step", "ticket", "turns",
    )  # fmt: skip

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.seq: int
        self.id: str
        self.agent: str
        self.skill: str
        self.status: int
        self.session: str | None
        self.step: str
        self.ticket: str | None
        (self.seq, self.id, self.agent, self.skill, self.status, self.session, self.held, self.due_ms,
         self.deadline_ms, self.parent, self.depth, self.awaited, self.step, self.attempt, self.attempts_max,
         self.losses, self.fence, self.turns, self.checkpoints, self.ticket, self.pid, self.leased_wall_ms,
         self.events, self.priority, self.input_bytes) = values  # fmt: skip

    @property
    def is_open(self) -> bool:
        """Whether it is not terminal."""
        return self.status < TERMINAL_FIRST

    @property
    def is_ready(self) -> int:
        """1 when it may be claimed now."""
        return int(self.status == QUEUED and not self.held and self.due_ms == 0)


class Txn:
    """One operation inside a transaction.

    Attributes:
        execute: runs a named statement (``queries.sql``); its rows are read with ``fetchone`` and ``fetchall``.
        counts: numbers by agent.
        now_ms: the broker's clock.
        wall_ms: for people.
        outcome: what is answered and announced after the commit.
    """

    __slots__ = ("counts", "execute", "now_ms", "outcome", "wall_ms")

    def __init__(self, connection: Connection, counts: Counts, now_ms: int, wall_ms: int) -> None:
        self.counts, self.now_ms, self.wall_ms = counts, now_ms, wall_ms
        self.execute = connection.execute
        self.outcome = Outcome()

    def row(self, task: str) -> Row | None:
        """Read a task by its identifier."""
        values = self.execute(_BY_ID, (task,)).fetchone()
        return None if values is None else Row(values)

    def event(self, task: tuple[int, str, str], seq: int, kind: str, data: dict[str, Any]) -> None:
        """Write and announce what happened to ``task``: its place, identifier and agent."""
        place, name, agent = task
        text = to_json(data) if data else None
        self.execute(_EVENT, (place, seq, kind, self.wall_ms, text))
        if seq > EVENTS_PER_TASK_MAX:
            self.execute(_EVENTS_TRIM, (place, seq - EVENTS_PER_TASK_MAX))
        self.outcome.events.append(Event(name, agent, seq, kind, self.wall_ms, data))

    def payload(self, seq: int, kind: int) -> str | None:
        """Read input, carry or result of a task."""
        found = self.execute(_GET, (seq * 4 + kind,)).fetchone()
        if found is None:
            return None
        text: str = found[0]
        self.outcome.characters += len(text)
        return text

    def put_payload(self, seq: int, kind: int, data: str) -> None:
        """Store it."""
        self.execute(_PUT, (seq * 4 + kind, data))

    def drop_payload(self, seq: int, kind: int) -> None:
        """Forget it."""
        self.execute(_DELETE, (seq * 4 + kind,))

    def end_turn(
        self, row: Row, outcome: str, status: int, *, effects: str | None = None, error: str | None = None
    ) -> None:
        """Write the turn that runs into the history."""
        self.execute(
            _TURN,
            (
                row.seq, row.fence, row.attempt, row.step, row.ticket, row.pid, row.leased_wall_ms, self.wall_ms,
                outcome, status, row.checkpoints, effects, error,
            ),
        )  # fmt: skip

    def finish(
        self, row: Row, status: int, *, revoke: bool, error: dict[str, Any] | None = None,
        told: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Bring a task into a terminal state, release its session, count its parent down.

        Args:
            row: the task as it was.
            status: terminal.
            revoke: somebody else than its turn ends it: the token grows, so that the turn is fenced.
            error: JSON object for callers.
            told: what else the event says.
        """
        text = None if error is None else to_json(error)
        leased = row.status == LEASED
        self.execute(_FINISH, (status, self.wall_ms, int(revoke), int(leased), text, row.seq))
        if row.step:
            self.drop_payload(row.seq, CARRY)
        self.counts.move(row.agent, row.status, -1, -row.is_ready, -row.input_bytes)
        if status == DEAD:
            self.counts.move(row.agent, DEAD, 1)
        if revoke and leased:
            self.end_turn(row, STATUS_NAMES[status], status, error=text)
            self.outcome.revoked.append((row.id, row.fence))
        data = {"error": error} if error else told or {}
        self.event((row.seq, row.id, row.agent), row.events + 1, STATUS_NAMES[status], data)
        if row.session is not None:
            self.execute(_STATE_USED, (self.now_ms, row.agent, row.session))
            if not row.held:
                self._release_session(row.agent, row.session)
        if row.awaited and row.parent is not None:
            self._count_parent_down(row.parent, row.awaited)

    def _release_session(self, agent: str, session: str) -> None:
        for (due_ms,) in self.execute(_RELEASE, (agent, session)).fetchall():
            if due_ms == 0:
                self.counts.move(agent, QUEUED, 0, 1)

    def _count_parent_down(self, parent: int, turn: int) -> None:
        for name, agent, status, events in self.execute(_PARENT, (parent, turn)).fetchall():
            if status == QUEUED:
                self.counts.move(agent, WAITING, -1)
                self.counts.move(agent, QUEUED, 1, 1)
                self.event((parent, name, agent), events, "queued", {"why": "children are terminal"})

    def cancel_descendants(self, row: Row, reason: str) -> None:
        """Cancel all open tasks below one that was ended by others."""
        stack = [row.seq]
        while stack:
            above = stack.pop()
            for (seq,) in self.execute(_CHILDREN, (above,)).fetchall():
                child = Row(self.execute(_BY_SEQ, (seq,)).fetchone())
                self.finish(child, CANCELLED, revoke=True, error={"code": "cancelled", "message": reason})
            stack += [seq for (seq,) in self.execute(_CHILDREN_ALL, (above,)).fetchall()]

    def requeue(self, row: Row, *, pause_ms: int, fence_add: int, error: dict[str, Any], own: bool = True) -> int:
        """Put a leased task back after a pause; without one, or when it was not its own failure, with its attempt.

        Returns:
            When it is due, 0 for at once.
        """
        own = own and pause_ms > 0
        due_ms = self.now_ms + pause_ms if pause_ms > 0 else 0
        self.execute(
            _REQUEUE,
            {
                "seq": row.seq, "due_ms": due_ms, "attempt": row.attempt - (not own),
                "losses": row.losses + (not own), "fence_add": fence_add,
                "error": to_json(error),
            },
        )  # fmt: skip
        self.counts.move(row.agent, LEASED, -1)
        self.counts.move(row.agent, QUEUED, 1, int(due_ms == 0))
        self.note_due(due_ms)
        data = {"error": error, "attempt": row.attempt, "in_ms": max(0, due_ms - self.now_ms) if due_ms else 0}
        self.event((row.seq, row.id, row.agent), row.events + 1, "retry", data)
        return due_ms

    def note_due(self, due_ms: int) -> None:
        """Remember the earliest time that a timer must look at."""
        if due_ms and (not self.outcome.due_ms or due_ms < self.outcome.due_ms):
            self.outcome.due_ms = due_ms

    def note_deadline(self, deadline_ms: int) -> None:
        """Remember the earliest deadline that a timer must look at."""
        if not self.outcome.deadline_ms or deadline_ms < self.outcome.deadline_ms:
            self.outcome.deadline_ms = deadline_ms
