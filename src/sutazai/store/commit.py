"""Why it exists: a turn ends as a whole: result or wait, new state, emitted tasks, effects, in one transaction.

What a turn asks and may not have (a child of somebody else, a state that is too large, a wait that could never end)
makes the turn fail for good instead of being refused: a refused commit would be tried for ever.
"""

from __future__ import annotations

import json
from typing import Any

from sutazai.errors import FencedError, InvalidInputError, NotFoundError, QueueFullError
from sutazai.limits import (
    CARRY_BYTES_MAX,
    EFFECTS_BYTES_MAX,
    EMITS_PER_TURN_MAX,
    INFRA_LOSSES_MAX_DEFAULT,
    KEPT_BYTES_MAX,
    STATE_BYTES_MAX,
    TASK_DEPTH_MAX,
    TASK_RESULT_BYTES_MAX,
    TURNS_PER_TASK_MAX,
)
from sutazai.outside import SIGNAL
from sutazai.store import fallback, spill
from sutazai.store.failure import Failure
from sutazai.store.model import (
    DEAD,
    FAILED,
    LEASED,
    QUEUED,
    STATUS_NAMES,
    SUCCEEDED,
    WAITING,
    Commit,
    Committed,
    NewTask,
    Progress,
    Wait,
)
from sutazai.store.people import hand_over
from sutazai.store.queries import sql
from sutazai.store.submit import insert, new_emits
from sutazai.store.txn import CARRY, RESULT, Row, Txn

_COMMITTED = sql("turn_committed")
_STATE_VERSION = sql("state_version")
_STATE_PUT = sql("state_put")
_WAIT = sql("task_wait")
_AWAIT = sql("children_await")
_NAMED = sql("children_named")
_SESSIONS = sql("children_sessions")
_ANCESTOR = sql("ancestor_of")
_CHECKPOINT = sql("task_checkpoint")
_PROGRESS = sql("task_progress")
_KEEP = sql("kept_put")


def commit(txn: Txn, operation: Commit) -> Committed:
    """End a turn, or a part of it.

    Raises:
        NotFoundError: there is no such task.
        FencedError: the lease was given to somebody else, or the task is over.
        UploadMissingError: its result is to be uploaded first.
    """
    row = txn.row(operation.task)
    if row is None:
        raise NotFoundError(f"there is no task {operation.task!r}")
    if row.status != LEASED or row.fence != operation.fence or row.ticket != operation.ticket:
        return _again(txn, row, operation)
    if operation.outcome == "failed":
        return Committed(_fail(txn, row, operation, _failure_of(operation)), duplicate=False, state_version=0)
    try:
        emits = _check(txn, row, operation)
    except InvalidInputError as error:
        return _refuse(txn, row, operation, Failure("invalid-commit", error.detail, retryable=False))
    except QueueFullError as error:
        return _refuse(txn, row, operation, Failure(error.code, error.detail, retryable=True))
    version = _write_state(txn, row, operation)
    _emit(txn, row, emits)
    for name, data in operation.keeps:
        txn.execute(_KEEP, (row.seq, name, data))
    if operation.outcome == "checkpoint":
        txn.execute(_CHECKPOINT, (row.seq,))
        return Committed(STATUS_NAMES[LEASED], duplicate=False, state_version=version)
    if operation.outcome == "wait":
        return Committed(_wait(txn, row, operation), duplicate=False, state_version=version)
    _succeed(txn, row, operation)
    return Committed(STATUS_NAMES[SUCCEEDED], duplicate=False, state_version=version)


def _succeed(txn: Txn, row: Row, operation: Commit) -> None:
    txn.end_turn(row, "result", SUCCEEDED, effects=operation.effects)
    if isinstance(operation.result, spill.Spilled):
        spill.put(txn, row.seq, operation.result)
    else:
        txn.put_payload(row.seq, RESULT, operation.result if operation.result is not None else "null")
    txn.finish(row, SUCCEEDED, revoke=False)


def _emit(txn: Txn, row: Row, tasks: list[NewTask]) -> None:
    for task in tasks:
        insert(txn, task, row)
        if task.agent == SIGNAL:
            hand_over(txn, task.id, row)


def progress(txn: Txn, operation: Progress) -> bool:
    """Write how far a turn is; nothing when it is over."""
    found = txn.execute(_PROGRESS, (operation.task, operation.fence)).fetchall()
    for seq, agent, events in found:
        txn.event((seq, operation.task, agent), events, "progress", operation.data)
    return bool(found)


def _again(txn: Txn, row: Row, operation: Commit) -> Committed:
    """Answer a commit that was stored before like the first time; refuse any other that is too late."""
    found = txn.execute(_COMMITTED, (row.seq, operation.fence, operation.ticket)).fetchone()
    if found is None:
        raise FencedError(f"the turn {operation.fence} of task {row.id} is over: its result is dropped")
    return Committed(STATUS_NAMES[found[0]], duplicate=True, state_version=_state_version(txn, row))


def _failure_of(operation: Commit) -> Failure:
    return operation.failure or Failure("skill-failed", "the turn failed and did not say why")


def _refuse(txn: Txn, row: Row, operation: Commit, failure: Failure) -> Committed:
    return Committed(_fail(txn, row, operation, failure), duplicate=False, state_version=0)


def _fail(txn: Txn, row: Row, operation: Commit, failure: Failure) -> str:
    """A turn failed: again, or dead, or failed for good. Nothing else of it is kept."""
    error = failure.as_json()
    text = json.dumps(error, separators=(",", ":"))
    # Back-pressure is nobody's failure, and a probe is made for all: the attempt is given back.
    is_given_back = failure.code == QueueFullError.code or operation.probe_ms > 0
    used_up = row.losses + 1 >= INFRA_LOSSES_MAX_DEFAULT if is_given_back else row.attempt >= row.attempts_max
    again = QUEUED if not used_up and row.turns + 1 < TURNS_PER_TASK_MAX else DEAD
    status = again if failure.retryable else FAILED
    instead = None if status == QUEUED else fallback.chosen(txn, row, status)
    after = status if instead is None else instead[0]
    txn.end_turn(row, "failed", after, effects=operation.effects, error=text)
    if instead is not None:
        fallback.use(txn, row, status, error, instead, revoke=False)
    elif status == QUEUED:
        pause_ms = operation.retry.pause_ms(row.losses + 1 if is_given_back else row.attempt, operation.jitter)
        pause_ms = operation.retry.held_ms(
            pause_ms, operation.hold_ms + operation.probe_ms, row.deadline_ms - txn.now_ms
        )
        txn.requeue(row, pause_ms=pause_ms, fence_add=0, error=error, own=not is_given_back)
    else:
        txn.finish(row, status, revoke=False, error=error)
    return STATUS_NAMES[after]


def _check(txn: Txn, row: Row, operation: Commit) -> list[NewTask]:
    """Refuse before anything is written; gives the emitted tasks that are new."""
    sizes = (
        ("result", None if isinstance(operation.result, spill.Spilled) else operation.result, TASK_RESULT_BYTES_MAX),
        ("state", operation.state, STATE_BYTES_MAX),
        ("carry", operation.wait.carry if operation.wait else None, CARRY_BYTES_MAX),
        ("effects", operation.effects, EFFECTS_BYTES_MAX),
    )
    for name, text, limit in sizes:
        if text is not None and len(text) > limit // 4 and len(text.encode()) > limit:
            raise InvalidInputError(f"the {name} of the turn is above {limit} bytes")
    if any(len(data) > KEPT_BYTES_MAX // 4 and len(data.encode()) > KEPT_BYTES_MAX for _, data in operation.keeps):
        raise InvalidInputError(f"a value that the turn keeps is above {KEPT_BYTES_MAX} bytes")
    if len(operation.emits) > EMITS_PER_TURN_MAX:
        raise InvalidInputError(f"the turn emits {len(operation.emits)} tasks, the bound is {EMITS_PER_TURN_MAX}")
    if operation.emits and row.depth >= TASK_DEPTH_MAX:
        raise InvalidInputError(f"tasks emit tasks more than {TASK_DEPTH_MAX} deep: is there a loop?")
    if row.turns + 1 >= TURNS_PER_TASK_MAX:
        raise InvalidInputError(f"the task took {TURNS_PER_TASK_MAX} turns: is there a loop?")
    if operation.outcome == "wait" and operation.wait is None:
        raise InvalidInputError("the turn waits and does not say for what")
    _check_state(txn, row, operation)
    emits = new_emits(txn, row, operation.emits)
    if operation.outcome == "wait" and operation.wait is not None:
        _check_wait(txn, row, operation.wait, {task.id: task for task in emits})
    return emits


def _check_state(txn: Txn, row: Row, operation: Commit) -> None:
    if operation.state is None or row.session is None:
        return
    version = _state_version(txn, row)
    repeated = operation.outcome == "checkpoint" and row.checkpoints and operation.state_version == version - 1
    if operation.state_version != version and not repeated:
        raise InvalidInputError(
            f"the state was made from version {operation.state_version}, the session is at version {version}"
        )


def _check_wait(txn: Txn, row: Row, wait: Wait, new: dict[str, NewTask]) -> None:
    older = {name for name in wait.tasks if name not in new}
    names = json.dumps(list(older))
    if older and txn.execute(_NAMED, (row.seq, names)).fetchone()[0] != len(older):
        raise InvalidInputError("the turn waits for a task that it did not emit: it would wait for ever")
    sessions = {(new[name].agent, new[name].session) for name in wait.tasks if name in new and new[name].session}
    if older:
        sessions.update(txn.execute(_SESSIONS, (names,)).fetchall())
    above: tuple[Any, ...] | None = (row.seq, row.agent, row.session, row.status, row.parent)
    while sessions and above is not None:
        if (above[1], above[2]) in sessions:
            raise InvalidInputError(
                f"the turn waits for a task in session {above[2]!r} of {above[1]}, which it or its ancestor holds: "
                "that would never end"
            )
        above = txn.execute(_ANCESTOR, (above[4],)).fetchone() if above[4] is not None else None


def _state_version(txn: Txn, row: Row) -> int:
    if row.session is None:
        return 0
    found = txn.execute(_STATE_VERSION, (row.agent, row.session)).fetchone()
    return found[0] if found else 0


def _write_state(txn: Txn, row: Row, operation: Commit) -> int:
    """Store the new state; a repeated checkpoint and a task without a session write none."""
    version = _state_version(txn, row)
    if operation.state is None or row.session is None or operation.state_version != version:
        return version
    txn.execute(
        _STATE_PUT,
        {
            "agent": row.agent,
            "session": row.session,
            "data": operation.state,
            "wall_ms": txn.wall_ms,
            "now_ms": txn.now_ms,
        },
    )
    return version + 1


def _wait(txn: Txn, row: Row, operation: Commit) -> str:
    wait = operation.wait or Wait((), "")
    names = json.dumps(wait.tasks)
    values = {"parent": row.seq, "ids": names, "deadline_ms": row.deadline_ms, "turn": row.fence}
    opened = txn.execute(_AWAIT, values).fetchall()
    several = len(set(wait.tasks))
    left = min(wait.count or several, several) - (several - len(opened))
    status = WAITING if left > 0 else QUEUED
    txn.end_turn(row, "wait", status, effects=operation.effects)
    txn.execute(
        _WAIT,
        {"seq": row.seq, "status": status, "step": wait.step, "wait_for": names, "children_open": max(0, left)},
    )
    if wait.carry is None:
        txn.drop_payload(row.seq, CARRY)
    else:
        txn.put_payload(row.seq, CARRY, wait.carry)
    txn.counts.move(row.agent, LEASED, -1)
    txn.counts.move(row.agent, status, 1, int(status == QUEUED))
    kind = STATUS_NAMES[status]
    txn.event((row.seq, row.id, row.agent), row.events + 1, kind, {"step": wait.step, "open": max(0, left)})
    return kind
