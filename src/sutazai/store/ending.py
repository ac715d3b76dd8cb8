"""Why it exists: leases, deadlines, cancellation and age end tasks from outside of their turns."""

from __future__ import annotations

import json
from typing import Any

from sutazai.errors import NotFoundError
from sutazai.limits import INFRA_LOSSES_MAX_DEFAULT, SPILLED_KEPT_LEAST, TASKS_KEPT_WHEN_LARGE, TURNS_PER_TASK_MAX
from sutazai.store import fallback
from sutazai.store.model import (
    CANCELLED,
    DEAD,
    EXPIRED,
    LEASED,
    QUEUED,
    STATUS_NAMES,
    Cancel,
    Expire,
    Lose,
    Promote,
    Purge,
    PurgeStates,
)
from sutazai.store.queries import sql
from sutazai.store.read import full
from sutazai.store.txn import Row, Txn

_PROMOTE = sql("due_promote")
_DUE_NEXT = sql("due_next")
_PASSED = sql("deadline_passed")
_DEADLINE_NEXT = sql("deadline_next")
_BY_SEQ = sql("task_by_seq")
_PURGEABLE = sql("purgeable")
_USED = sql("bytes_used")
_PURGE_STATES = sql("purge_states")
_SPILLED = sql("spilled_size")
_SPILLED_OLDEST = sql("spilled_oldest")
_PURGED = (
    "purge_payloads",
    "purge_turns",
    "purge_events",
    "purge_kept",
    "purge_fallback",
    "purge_spilled",
    "purge_signals",
    "purge_task",
)
_PURGES = tuple(sql(name) for name in _PURGED)


def lose(txn: Txn, operation: Lose) -> str | None:
    """End a lease without a commit: again, or dead when attempts or losses are used up."""
    row = txn.row(operation.task)
    if row is None or row.status != LEASED or row.fence != operation.fence:
        return None
    code = "lost" if operation.own else "interrupted"
    error = {"code": code, "message": operation.reason, "retryable": True}
    text = json.dumps(error, separators=(",", ":"))
    is_attempt = operation.own and not operation.probe_ms
    used_up = row.attempt >= row.attempts_max if is_attempt else row.losses + 1 >= INFRA_LOSSES_MAX_DEFAULT
    if used_up or row.turns + 1 >= TURNS_PER_TASK_MAX:
        instead = fallback.chosen(txn, row, DEAD)
        after = DEAD if instead is None else instead[0]
        txn.end_turn(row, "lost", after, error=text)
        if instead is None:
            txn.finish(row, DEAD, revoke=False, error=error)
        else:
            fallback.use(txn, row, DEAD, error, instead, revoke=False)
        return STATUS_NAMES[after]
    txn.end_turn(row, "lost", QUEUED, error=text)
    pause_ms = 0
    if operation.own:
        pause_ms = operation.retry.pause_ms(row.attempt, operation.jitter)
        pause_ms = operation.retry.held_ms(
            pause_ms, operation.hold_ms + operation.probe_ms, row.deadline_ms - txn.now_ms
        )
    txn.requeue(row, pause_ms=pause_ms, fence_add=1, error=error, own=is_attempt)
    return STATUS_NAMES[QUEUED]


def cancel(txn: Txn, operation: Cancel) -> dict[str, Any]:
    """Cancel a task and its open descendants; a terminal task stays as it is.

    Raises:
        NotFoundError: there is no such task.
    """
    row = txn.row(operation.task)
    if row is None:
        raise NotFoundError(f"there is no task {operation.task!r}")
    if row.is_open:
        txn.finish(row, CANCELLED, revoke=True, error={"code": "cancelled", "message": operation.reason})
        txn.cancel_descendants(row, f"its ancestor {row.id} was cancelled")
    return full(txn, operation.task)


def expire(txn: Txn, operation: Expire) -> int:
    """End open tasks whose deadline has passed, and their open descendants."""
    passed = txn.execute(_PASSED, (txn.now_ms, operation.limit)).fetchall()
    for (seq,) in passed:
        row = Row(txn.execute(_BY_SEQ, (seq,)).fetchone())
        if not row.is_open:
            continue
        error = {"code": "expired", "message": "its deadline passed before a turn committed"}
        fallback.end(txn, row, EXPIRED, error, revoke=True)
        txn.cancel_descendants(row, f"its ancestor {row.id} expired")
    following = txn.execute(_DEADLINE_NEXT).fetchone()[0]
    if following is not None:
        txn.note_deadline(following)
    return len(passed)


def promote(txn: Txn, operation: Promote) -> int:
    """Let delayed tasks be claimed whose time has come."""
    rows = txn.execute(_PROMOTE, (txn.now_ms, operation.limit)).fetchall()
    for agent, held in rows:
        if not held:
            txn.counts.move(agent, QUEUED, 0, 1)
    following = txn.execute(_DUE_NEXT).fetchone()[0]
    if following is not None:
        txn.note_due(following)
    return len(rows)


def purge(txn: Txn, operation: Purge) -> int:
    """Forget the oldest terminal tasks beyond what is kept; names the files that nobody needs then."""
    kept = operation.kept
    if txn.execute(_USED).fetchone()[0] > operation.bytes_max:
        kept = min(kept, TASKS_KEPT_WHEN_LARGE)
    rows = txn.execute(_PURGEABLE, {"kept": kept, "limit": operation.limit}).fetchall()
    _forget(txn, rows)
    if len(rows) < operation.limit:
        _forget(txn, _with_too_large_results(txn, operation))
    return len(rows)


def _forget(txn: Txn, rows: list[tuple[Any, ...]]) -> None:
    for seq, agent, status, handled, file in rows:
        for statement in _PURGES:
            txn.execute(statement, (seq,))
        if status == DEAD and handled is None:
            txn.counts.move(agent, DEAD, -1)
        if file is not None:
            txn.outcome.files.append(file)


def _with_too_large_results(txn: Txn, operation: Purge) -> list[tuple[Any, ...]]:
    """Read the oldest tasks whose results make the files larger than they may be together; the newest stay."""
    count, size = txn.execute(_SPILLED).fetchone()
    over = size - operation.files_bytes_max
    if over <= 0 or count <= SPILLED_KEPT_LEAST:
        return []
    found = []
    most = min(operation.limit, count - SPILLED_KEPT_LEAST)
    for *row, size in txn.execute(_SPILLED_OLDEST, (most,)).fetchall():
        if over <= 0:
            break
        over -= size
        found.append(tuple(row))
    return found


def purge_states(txn: Txn, operation: PurgeStates) -> int:
    """Forget states whose session has no open task and had none for as long as its agent's states are kept.

    Time is the broker's clock, which a wall clock that jumps does not move: nothing is forgotten early.
    """
    left = operation.limit
    for agent, keep_ms in operation.keep:
        if left <= 0:
            break
        values = {"agent": agent, "before_ms": txn.now_ms - keep_ms, "limit": left}
        left -= len(txn.execute(_PURGE_STATES, values).fetchall())
    return operation.limit - left
