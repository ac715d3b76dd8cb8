"""Why it exists: callers see a task as one JSON object, the same for every door; this is where it is made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from sutazai.errors import InvalidInputError, NotFoundError, RefusedError
from sutazai.limits import RESULTS_BYTES_MAX, TASK_RESULT_BYTES_MAX
from sutazai.store import spill
from sutazai.store.ends import Ended, Outcomes
from sutazai.store.model import (
    DEAD,
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
from sutazai.store.txn import RESULT

if TYPE_CHECKING:
    from sutazai.store.letters import DeadLetters
    from sutazai.store.txn import Txn

_FULL = sql("task_full")
_FULL_BY_SEQ = sql("task_full_by_seq")
_TREE = sql("tree_seqs")
_TURNS = sql("turns_of")
_EVENTS = sql("events_of")
_STATE = sql("state_get")
_RESULTS = sql("results_of")
#: By whether an agent is named.
_NEWEST = {False: sql("list_newest"), True: sql("list_newest_of")}
_SUCCEEDED = {False: sql("list_succeeded"), True: sql("list_succeeded_of")}
_UNSUCCESSFUL = {False: sql("list_unsuccessful"), True: sql("list_unsuccessful_of")}
_OPEN = sql("list_open")
_READY = sql("ready_ids")
_DEAD_OPEN = sql("dead_open")
_DEAD_OPEN_OF = sql("dead_open_of")
#: Newest turns that a dead letter is shown with: its last attempts.
TURNS_SHOWN_MAX = 10


def _as_json(txn: Txn, values: tuple[Any, ...], *, payloads: bool = True) -> dict[str, Any]:
    now_ms = txn.now_ms
    (seq, name, agent, skill, status, priority, session, held, due_ms, deadline_ms, created_wall_ms, finished_wall_ms,
     parent, depth, awaited, children_open, step, attempt, attempts_max, losses, fence, turns, ticket, pid,
     leased_wall_ms, key, label, error, handled, handled_by, handled_wall_ms, replay_of, replayed_by, fallback, data,
     result) = values  # fmt: skip
    is_open = status < TERMINAL_FIRST
    found = {
        "id": name, "agent": agent, "skill": skill, "status": STATUS_NAMES[status], "priority": priority,
        "session": session, "behind_session": bool(held), "due_in_ms": max(0, due_ms - now_ms) if due_ms else 0,
        "deadline_left_ms": max(0, deadline_ms - now_ms) if is_open else None,
        "created_wall_ms": created_wall_ms, "finished_wall_ms": finished_wall_ms, "parent": parent, "depth": depth,
        "awaited": bool(awaited), "children_open": children_open, "step": step, "attempt": attempt,
        "attempts_max": attempts_max, "losses": losses, "fence": fence, "turns_ended": turns, "ticket": ticket,
        "pid": pid, "leased_wall_ms": leased_wall_ms, "idempotency_key": key, "label": label, "handled": handled,
        "handled_by": handled_by, "handled_wall_ms": handled_wall_ms, "replay_of": replay_of,
        "replayed_by": replayed_by, "fallback": json.loads(fallback) if fallback else None,
        "error": json.loads(error) if error and status != SUCCEEDED else None,
    }  # fmt: skip
    if payloads:
        txn.outcome.characters += len(data or "") + len(result or "")
        found["input"] = Raw(data if data is not None else "null")
        found["result"] = Raw(result if result is not None else "null")
        spilled = spill.of(txn, seq) if status == SUCCEEDED and result is None else None
        found["result_ref"] = spilled and spilled.as_json()
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


def outcomes(txn: Txn, operation: Outcomes) -> Ended:
    """Read how tasks ended; of those that are open there is nothing to say yet.

    Raises:
        NotFoundError: there is no task of a name.
    """
    rows = txn.execute(_RESULTS, (json.dumps(operation.tasks),)).fetchall()
    if len(rows) != len(operation.tasks):
        known = {name for _, name, *_ in rows}
        raise NotFoundError(f"there is no task {next(name for name in operation.tasks if name not in known)!r}")
    found: list[dict[str, Any]] = []
    for number, (seq, name, agent, skill, status, error, fallback) in enumerate(rows):
        if status < TERMINAL_FIRST:
            continue
        if txn.outcome.characters > operation.room:
            return Ended(found, tuple(name for _, name, *_ in rows[number:]))
        result = txn.payload(seq, RESULT) if status == SUCCEEDED else None
        spilled = spill.of(txn, seq) if status == SUCCEEDED and result is None else None
        found.append(
            {"task": name, "agent": agent, "skill": skill, "status": STATUS_NAMES[status],
             "result": Raw(result if result is not None else "null"), "result_ref": spilled and spilled.as_json(),
             "error": json.loads(error) if error and status != SUCCEEDED else None,
             "fallback": json.loads(fallback) if fallback else None}
        )  # fmt: skip
    return Ended(found)


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


def dead_letters(txn: Txn, operation: DeadLetters) -> list[dict[str, Any]]:
    """Read dead letters with their evidence, newest first.

    Raises:
        NotFoundError: there is no task of this name.
        RefusedError: it is not dead.
    """
    values: dict[str, Any] = {"limit": operation.limit}
    if operation.task is not None:
        row = txn.row(operation.task)
        if row is None:
            raise NotFoundError(f"there is no task {operation.task!r}")
        if row.status != DEAD:
            raise not_dead(row.id, row.status)
        seqs = [(row.seq,)]
    elif operation.handled:
        seqs = _listed(txn, DEAD, operation.agent, operation.limit)
    elif operation.agent is not None:
        seqs = txn.execute(_DEAD_OPEN_OF, values | {"agent": operation.agent}).fetchall()
    else:
        seqs = txn.execute(_DEAD_OPEN, values).fetchall()
    found = []
    for (seq,) in seqs:
        task = _as_json(txn, txn.execute(_FULL_BY_SEQ, (seq,)).fetchone(), payloads=False)
        task["turns"] = _turns(txn, seq, task)[-TURNS_SHOWN_MAX:]
        found.append(task)
    return found


def not_dead(task: str, status: int) -> RefusedError:
    """Say that a task is no dead letter."""
    return RefusedError(f"{task} is {STATUS_NAMES[status]}, not dead: only dead letters are replayed or discarded")


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
    number = None
    if operation.status is not None:
        number = STATUS_NUMBERS.get(operation.status)
        if number is None:
            raise InvalidInputError(f"{operation.status!r} is no status: {', '.join(STATUS_NAMES)}")
    return [
        _as_json(txn, txn.execute(_FULL_BY_SEQ, (seq,)).fetchone(), payloads=False)
        for (seq,) in _listed(txn, number, operation.agent, operation.limit)
    ]


def _listed(txn: Txn, status: int | None, agent: str | None, limit: int) -> list[tuple[int]]:
    """Places of the newest tasks of a status and an agent, each None for any."""
    values: dict[str, Any] = {"limit": limit}
    if status is not None and status < TERMINAL_FIRST:
        values |= {"status": status, "agent": agent}
        return txn.execute(_OPEN, values).fetchall()
    if agent is not None:
        values["agent"] = agent
    query = _NEWEST if status is None else _SUCCEEDED if status == SUCCEEDED else _UNSUCCESSFUL
    if query is _UNSUCCESSFUL:
        values["status"] = status
    return txn.execute(query[agent is not None], values).fetchall()


def read_state(txn: Txn, operation: ReadState) -> tuple[int, str] | None:
    """Read a session's state."""
    found: tuple[int, str] | None = txn.execute(_STATE, (operation.agent, operation.session)).fetchone()
    return found


def ready(txn: Txn, operation: Ready) -> list[str]:
    """Read identifiers of tasks that an agent may claim now."""
    return [name for (name,) in txn.execute(_READY, (operation.agent, operation.limit)).fetchall()]
