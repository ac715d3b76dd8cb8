"""Why it exists: a task may wait for a person or a signal, and what a task kept or its children gave is read on demand.

A waiting task is queued for an agent that has no instances. ``resolve`` ends it in one transaction: result or refusal,
who said it and why in the history, and the parent goes back to its queue. A signal that comes before anybody waits for
it is kept (``signals``).
"""

from __future__ import annotations

import json
from typing import Any

from sutazai.errors import InternalError, InvalidInputError, NotFoundError, RefusedError
from sutazai.limits import KEPT_BYTES_MAX, RESULTS_BYTES_MAX, TASK_RESULT_BYTES_MAX
from sutazai.outside import DENY, OUTSIDE, SEND, VERDICTS
from sutazai.store import signals, spill
from sutazai.store.model import (
    FAILED,
    QUEUED,
    STATUS_NAMES,
    SUCCEEDED,
    TERMINAL_FIRST,
    Recall,
    Recalled,
    Resolve,
    Waiting,
)
from sutazai.store.queries import sql
from sutazai.store.read import full
from sutazai.store.txn import RESULT, Row, Txn

_BY_SEQ = sql("task_by_seq")
_CHILDREN = sql("children_open")
_RESOLVED = sql("resolved_by")
_KEPT = sql("kept_get")
_END = sql("child_end")
_WAITING = sql("waiting_of")
_NAME = sql("task_id_by_seq")
_SAID = {"approve": "approved", "deny": "denied", "signal": "signalled"}
_NAMED_MAX = 5


def resolve(txn: Txn, operation: Resolve) -> dict[str, Any]:
    """End a task that waits for somebody outside.

    Raises:
        NotFoundError: there is no such task.
        InvalidInputError: it is not waited for this word.
        RefusedError: it is over, or too many signals are kept for it.
    """
    row = txn.row(operation.task)
    if row is None:
        raise NotFoundError(f"there is no task {operation.task!r}")
    top = row
    if row.agent not in OUTSIDE:
        if (given := signals.repeated(txn, top, operation)) is not None:
            return _got(txn, top, given, operation) if given else _kept(txn, top, operation)
        below = _below(txn, top, operation)
        if below is None:
            signals.keep(txn, top, operation)
            return _kept(txn, top, operation)
        row = below
    if not row.is_open:
        return _again(txn, row, operation)
    if VERDICTS[operation.verdict] != row.agent or operation.skill not in {"", row.skill}:
        raise InvalidInputError(f"{row.id} waits for {_wanted(row)}")
    if row.status != QUEUED or row.held:
        raise InvalidInputError(f"{row.id} does not wait yet: an older task of its session is open")
    if len(operation.data.encode()) > KEPT_BYTES_MAX:
        raise InvalidInputError(f"the data is above {KEPT_BYTES_MAX} bytes: put it into a file, send its path")
    signals.note(txn, top, row, operation)
    _end(txn, row, operation, txn.wall_ms)
    return full(txn, row.id)


def hand_over(txn: Txn, name: str, parent: Row) -> None:
    """A task of the agent ``signal`` was stored: end it when its signal came before."""
    row = txn.row(name)
    if row is None:
        raise InternalError(f"the task {name} was stored and is not there")
    if (found := signals.take(txn, parent, row)) is not None:
        _end(txn, row, *found)


def _kept(txn: Txn, top: Row, operation: Resolve) -> dict[str, Any]:
    return {**full(txn, top.id), "signal_kept": operation.skill}


def _got(txn: Txn, top: Row, given: int, operation: Resolve) -> dict[str, Any]:
    """Answer with the task that got the word; when that one is forgotten, with the one that it was said to."""
    found = txn.execute(_BY_SEQ, (given,)).fetchone()
    return full(txn, top.id) if found is None else _again(txn, Row(found), operation)


def _end(txn: Txn, row: Row, operation: Resolve, at_wall_ms: int) -> None:
    said = {"by": operation.by, "comment": operation.comment, "at_wall_ms": at_wall_ms}
    effects = json.dumps({**said, "key": operation.key}, separators=(",", ":"))
    if operation.verdict == DENY:
        why = f": {operation.comment}" if operation.comment else ""
        error = {
            "code": "denied", "message": f"denied by {operation.by}{why}", "retryable": False,
            "detail": {**said, "data": json.loads(operation.data)},
        }  # fmt: skip
        txn.end_turn(row, operation.verdict, FAILED, effects=effects, error=json.dumps(error, separators=(",", ":")))
        txn.finish(row, FAILED, revoke=False, error=error)
        return
    txn.end_turn(row, operation.verdict, SUCCEEDED, effects=effects)
    text = json.dumps({"verdict": operation.verdict, **said}, separators=(",", ":"))
    txn.put_payload(row.seq, RESULT, f'{text[:-1]},"data":{operation.data}}}')
    txn.finish(row, SUCCEEDED, revoke=False)


def _again(txn: Txn, row: Row, operation: Resolve) -> dict[str, Any]:
    """Answer the same resolution like the first time; refuse another one, and say what had been said."""
    found = txn.execute(_RESOLVED, (row.seq,)).fetchone()
    if found is None:
        raise RefusedError(f"{row.id} waits no more: it is {STATUS_NAMES[row.status]}")
    verdict, said = found[0], json.loads(found[1])
    if operation.key and (said["key"], verdict) == (operation.key, operation.verdict):
        return full(txn, row.id)
    raise RefusedError(f"{row.id} was {_SAID[verdict]} by {said['by']} before: that stands")


def _below(txn: Txn, top: Row, operation: Resolve) -> Row | None:
    """Find the only task below that waits for this word; None for a signal by name that nobody waits for yet."""
    wanted = VERDICTS[operation.verdict]
    if not top.is_open:
        raise RefusedError(f"{top.id} is {STATUS_NAMES[top.status]}: nothing below it waits")
    stack = [top.seq]
    found: list[Row] = []
    others: list[Row] = []
    while stack:
        for (seq,) in txn.execute(_CHILDREN, (stack.pop(),)).fetchall():
            row = Row(txn.execute(_BY_SEQ, (seq,)).fetchone())
            if row.agent in OUTSIDE:
                fits = row.agent == wanted and operation.skill in {"", row.skill}
                (found if fits else others).append(row)
            else:
                stack.append(seq)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{row.id} ({row.skill})" for row in found[:_NAMED_MAX])
        raise InvalidInputError(f"{len(found)} tasks below {top.id} wait for this, say which one: {names}")
    if operation.verdict == SEND and operation.skill:
        return None
    also = "; ".join(f"{row.id} waits for {_wanted(row)}" for row in others[:_NAMED_MAX])
    what = "a signal (give its name, then it is kept)" if operation.verdict == SEND else "a person"
    raise InvalidInputError(f"nothing below {top.id} waits for {what} now" + (f"; {also}" if also else ""))


def _wanted(row: Row) -> str:
    if row.agent == VERDICTS[SEND]:
        return f"the signal {row.skill!r}: send it with `sutazai task signal`"
    return "a person: say `sutazai task approve` or `deny`"


def recall(txn: Txn, operation: Recall) -> Recalled:
    """Read kept values and results, as many as fit a frame.

    Raises:
        NotFoundError: there is no such task.
        RefusedError: the task is another agent's, or was emitted by another agent's.
    """
    answer = Recalled({}, [], [])
    row = txn.row(operation.task)
    if row is None:
        raise NotFoundError(f"there is no task {operation.task!r}")
    if row.agent != operation.agent:
        raise RefusedError(f"the task {operation.task!r} is not one of {operation.agent}")
    for name in operation.names:
        found = txn.execute(_KEPT, (row.seq, name)).fetchone()
        if found is None:
            continue
        if txn.outcome.characters > RESULTS_BYTES_MAX - KEPT_BYTES_MAX:
            answer.left.append(name)
            continue
        txn.outcome.characters += len(found[0].encode())
        answer.values[name] = found[0]
    for name in operation.results:
        _result(txn, operation, name, answer)
    return answer


def _result(txn: Txn, operation: Recall, name: str, answer: Recalled) -> None:
    found = txn.execute(_END, (name,)).fetchone()
    if found is None:
        return
    seq, agent, skill, status, error, above, fallback = found
    if operation.agent not in {above, agent}:
        raise RefusedError(f"the task {name!r} was not made by {operation.agent}: its result is others'")
    if txn.outcome.characters > RESULTS_BYTES_MAX - TASK_RESULT_BYTES_MAX:
        answer.left.append(name)
        return
    result = txn.payload(seq, RESULT) if status == SUCCEEDED else None
    spilled = spill.of(txn, seq) if status == SUCCEEDED and result is None else None
    failure = json.loads(error) if error and status >= TERMINAL_FIRST and status != SUCCEEDED else None
    answer.results.append(
        {"task": name, "agent": agent, "skill": skill, "status": STATUS_NAMES[status], "result": result,
         "result_ref": spilled and spilled.as_json(), "error": failure,
         "fallback": json.loads(fallback) if fallback else None}
    )  # fmt: skip


def waiting(txn: Txn, operation: Waiting) -> list[dict[str, Any]]:
    """Read tasks that wait for somebody outside, with what they ask, as many as fit a frame."""
    seqs = [seq for agent in sorted(OUTSIDE) for (seq,) in txn.execute(_WAITING, (agent, operation.limit)).fetchall()]
    found: list[dict[str, Any]] = []
    for seq in sorted(seqs)[: operation.limit]:
        if txn.outcome.characters > RESULTS_BYTES_MAX:
            break
        found.append(full(txn, txn.execute(_NAME, (seq,)).fetchone()[0]))
    return found
