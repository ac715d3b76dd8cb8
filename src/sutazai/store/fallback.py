"""Why it exists: a task that ends badly may have something better than an error: a value, or another agent.

It keeps its identifier and its place, so whoever waits for it waits for the same thing. The history says what failed,
and what was done instead.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sutazai.store.model import EXPIRED, FAILED, LEASED, QUEUED, STATUS_NAMES, SUCCEEDED
from sutazai.store.queries import sql
from sutazai.store.txn import CARRY, INPUT, RESULT, Row, Txn

if TYPE_CHECKING:
    from sutazai.store.failure import Failure, FallBack, Fallback

_PUT = sql("fallback_put")
_GET = sql("fallback_get")
_USED = sql("fallback_used")
_NEXT = sql("fallbacks_next")
_DROP = sql("purge_fallback")
_KEPT = sql("purge_kept")
_RETARGET = sql("task_retarget")
_BY_SEQ = sql("task_by_seq")


def put(txn: Txn, seq: int, fallback: Fallback) -> None:
    """Store what a new task has."""
    if fallback.value is not None:
        text = f'{{"value":{fallback.value}}}'
    else:
        other = {"agent": fallback.agent, "skill": fallback.skill, "input": fallback.input,
                 "deadline_ms": fallback.deadline_ms, "attempts_max": fallback.attempts_max}  # fmt: skip
        text = json.dumps(other, separators=(",", ":"))
    txn.execute(_PUT, (seq, text))


def chosen(txn: Txn, row: Row, status: int) -> tuple[int, dict[str, Any]] | None:
    """Say what a task that would end so does instead: its next status, and its fallback; None when it has none left."""
    found = txn.execute(_GET, (row.seq,)).fetchone()
    if found is None:
        return None
    data = json.loads(found[0])
    if "value" in data:
        return SUCCEEDED, data
    data["until_ms"] = _deadline_ms(txn, row, status, data["deadline_ms"])
    return (QUEUED, data) if data["until_ms"] > txn.now_ms else None


def _deadline_ms(txn: Txn, row: Row, status: int, own_ms: int) -> int:
    """When the other agent's time ends: its own, or the task's when that is later; never past the parent's."""
    until_ms = txn.now_ms + own_ms
    if status != EXPIRED:
        until_ms = max(until_ms, row.deadline_ms)
    if row.awaited and row.parent is not None:
        above = txn.execute(_BY_SEQ, (row.parent,)).fetchone()
        until_ms = min(until_ms, Row(above).deadline_ms) if above is not None else until_ms
    return until_ms


def end(txn: Txn, row: Row, status: int, error: dict[str, Any], *, revoke: bool) -> int:
    """End a task badly, or do what is to be done instead.

    Args:
        row: the task as it was.
        status: ``FAILED``, ``DEAD`` or ``EXPIRED``.
        error: JSON object for callers.
        revoke: as of ``Txn.finish``.

    Returns:
        Its status now.
    """
    instead = chosen(txn, row, status)
    if instead is None:
        txn.finish(row, status, revoke=revoke, error=error)
        return status
    use(txn, row, status, error, instead, revoke=revoke)
    return instead[0]


def use(
    txn: Txn, row: Row, status: int, error: dict[str, Any], instead: tuple[int, dict[str, Any]], *, revoke: bool
) -> None:
    """Do what is to be done in the place of a bad end."""
    after, data = instead
    told = {"status": STATUS_NAMES[status], "error": error, "instead_of": f"{row.agent}.{row.skill}"}
    if after == SUCCEEDED:
        told["by"] = "value"
        txn.put_payload(row.seq, RESULT, json.dumps(data["value"], separators=(",", ":")))
        txn.execute(_USED, (json.dumps(told, separators=(",", ":")), row.seq))
        txn.finish(row, SUCCEEDED, revoke=revoke, told={"fallback": told})
        return
    told["by"] = f"{data['agent']}.{data['skill']}"
    txn.execute(_USED, (json.dumps(told, separators=(",", ":")), row.seq))
    _retarget(txn, row, data, told, revoke=revoke)


def _retarget(txn: Txn, row: Row, data: dict[str, Any], told: dict[str, Any], *, revoke: bool) -> None:
    """Give a task to another agent: same identifier, same parent, from its beginning."""
    leased = row.status == LEASED
    text = data["input"]
    size = row.input_bytes if text is None else len(text.encode())
    if revoke and leased:
        txn.end_turn(row, told["status"], QUEUED, error=json.dumps(told["error"], separators=(",", ":")))
        txn.outcome.revoked.append((row.id, row.fence))
    txn.execute(
        _RETARGET,
        {
            "seq": row.seq, "agent": data["agent"], "skill": data["skill"], "deadline_ms": data["until_ms"],
            "attempts_max": data["attempts_max"], "turns_add": int(leased), "input_bytes": size,
            "error": json.dumps(told["error"], separators=(",", ":")),
        },
    )  # fmt: skip
    if row.step:
        txn.drop_payload(row.seq, CARRY)
    if text is not None:
        txn.put_payload(row.seq, INPUT, text)
    txn.execute(_KEPT, (row.seq,))
    txn.counts.move(row.agent, row.status, -1, -row.is_ready, -row.input_bytes)
    txn.counts.move(data["agent"], QUEUED, 1, 1, size)
    txn.note_deadline(data["until_ms"])
    txn.event((row.seq, row.id, row.agent), row.events + 1, "fallback", told)
    txn.event((row.seq, row.id, data["agent"]), row.events + 2, "queued", {"instead_of": told["instead_of"]})


def refuse(txn: Txn, seq: int, failure: Failure) -> None:
    """End a task that was stored just now and is not to be tried at all."""
    end(txn, Row(txn.execute(_BY_SEQ, (seq,)).fetchone()), FAILED, failure.as_json(), revoke=False)


def fall_back(txn: Txn, operation: FallBack) -> int:
    """Let queued tasks of an agent take their fallbacks; forgets fallbacks of tasks that did not need them."""
    rows = txn.execute(_NEXT, (operation.after, operation.limit)).fetchall()
    for (seq,) in rows:
        values = txn.execute(_BY_SEQ, (seq,)).fetchone()
        row = None if values is None else Row(values)
        if row is None or not row.is_open:
            txn.execute(_DROP, (seq,))
        elif row.agent == operation.agent and row.status == QUEUED:
            instead = chosen(txn, row, FAILED)
            if instead is not None:
                use(txn, row, FAILED, operation.error.as_json(), instead, revoke=False)
    return rows[-1][0] if len(rows) >= operation.limit else 0
