"""Why it exists: callers see a task as one JSON object, the same for every door; this is where it is made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from sutazai.errors import InvalidInputError, NotFoundError
from sutazai.limits import RESULTS_BYTES_MAX, TASK_RESULT_BYTES_MAX
from sutazai.store.model import (
    STATUS_NAMES,
    STATUS_NUMBERS,
    SUCCEEDED,
    TERMINAL_FIRST,
    Event,
    Events,
    Get,
    List,
    ReadState,
    Ready,
    Tree,
)
from sutazai.store.queries import sql

if TYPE_CHECKING:
    from sutazai.store.txn import Txn

_FULL = sql("task_full")
_FULL_BY_SEQ = sql("task_full_by_seq")
_TREE = sql("tree_seqs")
_TURNS = sql("turns_of")
_EVENTS = sql("events_of")
_STATE = sql("state_get")
_NEWEST = sql("list_newest")
_OPEN = sql("list_open")
_SUCCEEDED = sql("list_succeeded")
_UNSUCCESSFUL = sql("list_unsuccessful")
_READY = sql("ready_ids")


def _as_json(txn: Txn, values: tuple[Any, ...], *, payloads: bool = True) -> dict[str, Any]:
    now_ms = txn.now_ms
    (_, name, agent, skill, status, priority, session, held, due_ms, deadline_ms, created_wall_ms, finished_wall_ms,
     parent, depth, awaited, children_open, step, attempt, attempts_max, losses, fence, turns, ticket, pid,
     leased_wall_ms, key, label, error, data, result) = values  # fmt: skip
    is_open = status < TERMINAL_FIRST
    found = {
        "id": name, "agent": agent, "skill": skill, "status": STATUS_NAMES[status], "priority": priority,
        "session": session, "behind_session": bool(held), "due_in_ms": max(0, due_ms - now_ms) if due_ms else 0,
        "deadline_left_ms": max(0, deadline_ms - now_ms) if is_open else None,
        "created_wall_ms": created_wall_ms, "finished_wall_ms": finished_wall_ms, "parent": parent, "depth": depth,
        "awaited": bool(awaited), "children_open": children_open, "step": step, "attempt": attempt,
        "attempts_max": attempts_max, "losses": losses, "fence": fence, "turns_ended": turns, "ticket": ticket,
        "pid": pid, "leased_wall_ms": leased_wall_ms, "idempotency_key": key, "label": label,
        "error": json.loads(error) if error and status != SUCCEEDED else None,
    }  # fmt: skip
    if payloads:
        txn.outcome.characters += len(data or "") + len(result or "")
        found["input"] = Raw(data if data is not None else "null")
        found["result"] = Raw(result if result is not None else "null")
    return found


def full(txn: Txn, task: str) -> dict[str, Any]:
    """Read a task.

    Raises:
        NotFoundError: there is no such task, or it is long over and was forgotten.
    """
    values = txn.execute(_FULL, (task,)).fetchone()
    if values is None:
        raise NotFoundError(f"there is no task {task!r}")
    return _as_json(txn, values)


def get(txn: Txn, operation: Get) -> dict[str, Any]:
    """Read one task."""
    return full(txn, operation.task)


def events(txn: Txn, operation: Events) -> list[Event]:
    """Read what happened to a task, oldest first."""
    row = txn.row(operation.task)
    if row is None:
        raise NotFoundError(f"there is no task {operation.task!r}")
    return [
        Event(row.id, row.agent, seq, kind, at_wall_ms, json.loads(data) if data else {})
        for seq, kind, at_wall_ms, data in txn.execute(_EVENTS, (row.seq,)).fetchall()
    ]


def tree(txn: Txn, operation: Tree) -> list[dict[str, Any]]:
    """Read a task and its descendants, parents before children, each with its turns.

    Inputs and results are given until they fill a frame; the later tasks come without.
    """
    found = []
    for (seq,) in txn.execute(_TREE, (operation.task, operation.limit)).fetchall():
        values = txn.execute(_FULL_BY_SEQ, (seq,)).fetchone()
        task = _as_json(txn, values, payloads=_has_room(txn, operation))
        task["turns"] = _turns(txn, seq, task)
        found.append(task)
    if not found:
        raise NotFoundError(f"there is no task {operation.task!r}")
    return found


def _has_room(txn: Txn, operation: Tree) -> bool:
    return operation.payloads and txn.outcome.characters < RESULTS_BYTES_MAX - TASK_RESULT_BYTES_MAX


def _turns(txn: Txn, seq: int, task: dict[str, Any]) -> list[dict[str, Any]]:
    turns = [
        {
            "fence": fence, "attempt": attempt, "step": step, "ticket": ticket, "pid": pid,
            "started_wall_ms": started, "ended_wall_ms": ended, "outcome": outcome, "checkpoints": checkpoints,
            "effects": Raw(effects) if effects else None, "error": json.loads(error) if error else None,
        }
        for fence, attempt, step, ticket, pid, started, ended, outcome, checkpoints, effects, error in txn.execute(
            _TURNS, (seq,)
        ).fetchall()
    ]  # fmt: skip
    if task["status"] == "leased":
        turns.append(
            {
                "fence": task["fence"], "attempt": task["attempt"], "step": task["step"], "ticket": task["ticket"],
                "pid": task["pid"], "started_wall_ms": task["leased_wall_ms"], "ended_wall_ms": None,
                "outcome": None, "checkpoints": 0, "effects": None, "error": None,
            }
        )  # fmt: skip
    return turns


def list_tasks(txn: Txn, operation: List) -> list[dict[str, Any]]:
    """Read tasks, newest first, without their payloads.

    Raises:
        InvalidInputError: there is no such status.
    """
    query, number = _NEWEST, None
    if operation.status is not None:
        number = STATUS_NUMBERS.get(operation.status)
        if number is None:
            raise InvalidInputError(f"{operation.status!r} is no status: {', '.join(STATUS_NAMES)}")
        query = _SUCCEEDED if number == SUCCEEDED else _OPEN if number < TERMINAL_FIRST else _UNSUCCESSFUL
    values = {"status": number, "agent": operation.agent, "limit": operation.limit}
    if query in {_NEWEST, _SUCCEEDED}:
        del values["status"]
    return [
        _as_json(txn, txn.execute(_FULL_BY_SEQ, (seq,)).fetchone(), payloads=False)
        for (seq,) in txn.execute(query, values).fetchall()
    ]


def read_state(txn: Txn, operation: ReadState) -> tuple[int, str] | None:
    """Read a session's state."""
    found: tuple[int, str] | None = txn.execute(_STATE, (operation.agent, operation.session)).fetchone()
    return found


def ready(txn: Txn, operation: Ready) -> list[str]:
    """Read identifiers of tasks that an agent may claim now."""
    return [name for (name,) in txn.execute(_READY, (operation.agent, operation.limit)).fetchall()]
