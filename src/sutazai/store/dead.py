"""Why it exists: a dead letter is a promise to a person: it is kept, shown, and done again or put aside, once.

A terminal state is never left. So doing it again is a new task with the same input, whose identifier follows from the
old one: asking twice makes one task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sutazai.errors import NotFoundError, RefusedError
from sutazai.ids import replay_task_id
from sutazai.limits import DELAY_MS_MAX, PRIORITY_AGING_MS
from sutazai.store.model import DEAD, QUEUED, STATUS_NAMES, Accepted, NewTask
from sutazai.store.queries import sql
from sutazai.store.read import not_dead
from sutazai.store.submit import check_room, insert
from sutazai.store.txn import INPUT, Txn

if TYPE_CHECKING:
    from sutazai.store.letters import Discard, Replay

_DEAD = sql("dead_by_id")
_HANDLE = sql("dead_handle")
_SAME_ID = sql("task_same_id")
REPLAYED, DISCARDED = "replayed", "discarded"


class _Letter:
    """A dead letter. The columns of ``dead_by_id``."""

    __slots__ = (
        "agent", "attempts_max", "deadline_ms", "handled", "handled_by", "id", "order_key", "priority", "replayed_by",
        "seq", "session", "skill", "status",
    )  # fmt: skip

    def __init__(self, values: tuple[Any, ...]) -> None:
        (self.seq, self.id, self.agent, self.skill, self.status, self.session, self.priority, self.attempts_max,
         self.deadline_ms, self.order_key, self.handled, self.handled_by, self.replayed_by) = values  # fmt: skip


def _letter(txn: Txn, task: str) -> _Letter:
    values = txn.execute(_DEAD, (task,)).fetchone()
    if values is None:
        raise NotFoundError(f"there is no task {task!r}")
    letter = _Letter(values)
    if letter.status != DEAD:
        raise not_dead(letter.id, letter.status)
    return letter


def replay(txn: Txn, operation: Replay) -> Accepted:
    """Do a dead letter again as a new task; the second time names the same one.

    The new task begins at its first step, has the same input, session and priority, no parent and no idempotency key,
    and stands at the end of its session.

    Raises:
        NotFoundError: there is no such task, or its replay is long over and was forgotten.
        RefusedError: it is not dead, or it was discarded.
        QueueFullError: the store holds as many open tasks as it may.
    """
    letter = _letter(txn, operation.task)
    if letter.handled == DISCARDED:
        raise RefusedError(f"{letter.id} was discarded by {letter.handled_by}: give its input as a new task")
    name = replay_task_id(letter.id)
    if letter.handled == REPLAYED:
        older = txn.execute(_SAME_ID, (name,)).fetchone()
        if older is None:
            raise NotFoundError(f"{letter.id} was replayed as {name}, which is long over and was forgotten")
        return Accepted(name, STATUS_NAMES[older[4]], duplicate=True)
    had_ms = letter.deadline_ms - (letter.order_key - letter.priority * PRIORITY_AGING_MS)
    task = NewTask(
        id=name, agent=letter.agent, skill=letter.skill, input=txn.payload(letter.seq, INPUT) or "null",
        priority=letter.priority, deadline_ms=min(DELAY_MS_MAX, max(had_ms, operation.deadline_ms)),
        attempts_max=letter.attempts_max, session=letter.session, replay_of=letter.id, queue=operation.queue,
    )  # fmt: skip
    check_room(txn, (task,))
    insert(txn, task, parent=None)
    _handle(txn, letter, REPLAYED, operation.by, name)
    return Accepted(name, STATUS_NAMES[QUEUED], duplicate=False)


def discard(txn: Txn, operation: Discard) -> bool:
    """Put a dead letter aside: it counts no more, its evidence stays until it is old.

    Returns:
        Whether it had been discarded before.

    Raises:
        NotFoundError: there is no such task.
        RefusedError: it is not dead, or it was replayed.
    """
    letter = _letter(txn, operation.task)
    if letter.handled == REPLAYED:
        raise RefusedError(f"{letter.id} was replayed as {letter.replayed_by}: there is nothing left to discard")
    if letter.handled == DISCARDED:
        return True
    _handle(txn, letter, DISCARDED, operation.by, None)
    return False


def _handle(txn: Txn, letter: _Letter, how: str, by: str, replayed_by: str | None) -> None:
    values = {"seq": letter.seq, "handled": how, "by": by, "wall_ms": txn.wall_ms, "replayed_by": replayed_by}
    txn.execute(_HANDLE, values)
    txn.counts.move(letter.agent, DEAD, -1)
