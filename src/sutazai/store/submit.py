"""Why it exists: taking a task is one rule for callers and for turns: bounds, doubles, its place in a session."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sutazai.errors import InvalidInputError, QueueFullError
from sutazai.limits import PRIORITY_AGING_MS, QUEUE_BYTES_MAX, QUEUE_TASKS_MAX
from sutazai.store import fallback
from sutazai.store.model import QUEUED, STATUS_NAMES, Accepted, NewTask, Submit
from sutazai.store.queries import sql
from sutazai.store.times import Bound
from sutazai.store.txn import INPUT, Row, Txn

if TYPE_CHECKING:
    from collections.abc import Sequence

_INSERT = sql("task_insert")
_SAME_ID = sql("task_same_id")
_SAME_KEY = sql("task_same_key")
_SESSION_OPEN = sql("session_is_open")
_KEY_RELEASE = sql("key_release")

#: Accepted work must be able to finish, so what turns emit may fill the queue beyond the bound of callers.
EMITTED_TASKS_MAX = 2 * QUEUE_TASKS_MAX
EMITTED_BYTES_MAX = 2 * QUEUE_BYTES_MAX


def submit(txn: Txn, operation: Submit) -> list[Accepted]:
    """Store tasks, all or none.

    Raises:
        QueueFullError: the store holds as many open tasks as it may.
        InvalidInputError: an identifier or key was used for another task.
    """
    check_room(txn, operation.tasks)
    return [_submit_one(txn, task) for task in operation.tasks]


def check_room(txn: Txn, tasks: Sequence[NewTask]) -> None:
    """See that callers may give these tasks too: the queue of all is bounded, and that of an agent may be.

    Raises:
        QueueFullError: a bound in tasks or in bytes would be passed.
    """
    counts = txn.counts
    _check_all(txn, tasks, QUEUE_TASKS_MAX, QUEUE_BYTES_MAX)
    bounded = [task for task in tasks if task.queue is not None]
    for agent in {task.agent for task in bounded}:
        own = [task for task in bounded if task.agent == agent]
        bound, entry = own[0].queue or Bound(), counts.of(agent)
        if bound.tasks_max and entry.open + len(own) > bound.tasks_max:
            detail = f"{entry.open} tasks of {agent} are open, its bound is {bound.tasks_max}"
            raise QueueFullError(detail, 5, agent)
        more_bytes = sum(map(size_of, own))
        if bound.bytes_max and entry.bytes + more_bytes > bound.bytes_max:
            held = f"the open tasks of {agent} hold {entry.bytes} bytes of input"
            raise QueueFullError(f"{held}, {more_bytes} more pass its bound of {bound.bytes_max}", 5, agent)


def _check_all(txn: Txn, tasks: Sequence[NewTask], tasks_max: int, bytes_max: int) -> None:
    counts, more_bytes = txn.counts, sum(map(size_of, tasks))
    if counts.open + len(tasks) > tasks_max:
        raise QueueFullError(f"{counts.open} tasks are open, the bound is {tasks_max}", 5)
    if counts.bytes + more_bytes > bytes_max:
        held = f"the open tasks hold {counts.bytes} bytes of input"
        raise QueueFullError(f"{held}, {more_bytes} more pass the bound of {bytes_max}", 5)


def size_of(task: NewTask) -> int:
    """Bytes of a task's input."""
    return len(task.input) if task.input.isascii() else len(task.input.encode())


def _submit_one(txn: Txn, task: NewTask) -> Accepted:
    if task.idempotency_key is not None:
        older = txn.execute(_SAME_KEY, _key(txn, task)).fetchone()
        if older is not None:
            return _duplicate(txn, task, older, f"the idempotency key {task.idempotency_key!r}")
    if task.named:
        older = txn.execute(_SAME_ID, (task.id,)).fetchone()
        if older is not None:
            return _duplicate(txn, task, older, f"the identifier {task.id!r}")
    insert(txn, task, parent=None)
    return Accepted(task.id, STATUS_NAMES[QUEUED], duplicate=False)


def _key(txn: Txn, task: NewTask) -> dict[str, Any]:
    return {"agent": task.agent, "key": task.idempotency_key, "now_ms": txn.now_ms}


def _duplicate(txn: Txn, task: NewTask, older: tuple[Any, ...], what: str) -> Accepted:
    seq, name, agent, skill, status, _ = older
    stored = txn.payload(seq, INPUT)
    if (agent, skill) != (task.agent, task.skill) or not same_json(stored, task.input):
        raise InvalidInputError(f"{what} was used for task {name} with another skill or input: choose a new one")
    return Accepted(name, STATUS_NAMES[status], duplicate=True)


def same_json(stored: str | None, given: str) -> bool:
    """Whether two JSON texts mean the same value."""
    return stored is not None and (stored == given or json.loads(stored) == json.loads(given))


def insert(txn: Txn, task: NewTask, parent: Row | None) -> None:
    """Store one new task."""
    held = 0
    if task.session is not None:
        held = int(txn.execute(_SESSION_OPEN, (task.agent, task.session)).fetchone() is not None)
    key_until_ms = 0
    if task.idempotency_key is not None:
        txn.execute(_KEY_RELEASE, _key(txn, task))
        key_until_ms = txn.now_ms + task.key_window_ms if task.key_window_ms else 0
    due_ms = txn.now_ms + task.delay_ms if task.delay_ms > 0 else 0
    deadline_ms = txn.now_ms + task.delay_ms + task.deadline_ms
    seq, size = txn.counts.take_seq(), size_of(task)
    txn.execute(
        _INSERT,
        (
            seq, task.id, task.agent, task.skill, task.priority, txn.now_ms + task.priority * PRIORITY_AGING_MS,
            task.session, held, due_ms, deadline_ms, txn.wall_ms, parent.seq if parent else None,
            parent.depth + 1 if parent else 0, task.attempts_max, task.idempotency_key, task.label, key_until_ms,
            task.replay_of, size,
        ),
    )  # fmt: skip
    txn.put_payload(seq, INPUT, task.input)
    txn.counts.move(task.agent, QUEUED, 1, int(not held and due_ms == 0), size)
    txn.event((seq, task.id, task.agent), 1, "queued", _origin(task))
    txn.note_due(due_ms)
    txn.note_deadline(deadline_ms)
    if task.fallback is not None:
        fallback.put(txn, seq, task.fallback)
    if task.refused is not None:
        fallback.refuse(txn, seq, task.refused)


def _origin(task: NewTask) -> dict[str, Any]:
    """Where a task comes from that neither a caller nor a turn gave."""
    if task.replay_of is not None:
        return {"replay_of": task.replay_of}
    return {} if task.schedule is None else {"schedule": task.schedule}


def new_emits(txn: Txn, parent: Row, tasks: tuple[NewTask, ...]) -> list[NewTask]:
    """Choose of a turn's emitted tasks those that are to be stored; writes nothing.

    A child that exists (an earlier part of the same task emitted it) is left alone, and so is one whose idempotency
    key was used.

    Raises:
        InvalidInputError: an identifier belongs to somebody else's task.
        QueueFullError: even the room for emitted tasks is used up.
    """
    if tasks:
        _check_all(txn, tasks, EMITTED_TASKS_MAX, EMITTED_BYTES_MAX)
    new: dict[str, NewTask] = {}
    keys = set()
    for task in tasks:
        older = txn.execute(_SAME_ID, (task.id,)).fetchone()
        if older is not None:
            if older[5] != parent.seq:
                raise InvalidInputError(f"the emitted identifier {task.id!r} is another task's")
            continue
        if task.idempotency_key is not None:
            key = (task.agent, task.idempotency_key)
            if key in keys or txn.execute(_SAME_KEY, _key(txn, task)).fetchone() is not None:
                continue
            keys.add(key)
        new.setdefault(task.id, task)
    return list(new.values())
