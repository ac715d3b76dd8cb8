"""Why it exists: giving a task to an instance counts the attempt and gathers all that the turn needs, in one step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sutazai.limits import RESULTS_BYTES_MAX
from sutazai.store import limit, spill
from sutazai.store.model import LEASED, QUEUED, STATUS_NAMES, SUCCEEDED, TERMINAL_FIRST, Claim, Turn
from sutazai.store.queries import sql
from sutazai.store.txn import CARRY, RESULT, Txn

if TYPE_CHECKING:
    from sutazai.store.times import Claimable

_CLAIM = sql("claim_next")
_CLAIM_ABOVE = sql("claim_next_above")
_ABOVE = sql("ready_above")
_STATE = sql("state_get")
_RESULTS = sql("results_of")
_NAME = sql("task_id_by_seq")


def claim(txn: Txn, operation: Claim) -> Turn | None:
    """Lease the agent's first due task; None when there is none, or when the agent's rate says later."""
    if operation.rate is not None and limit.wait(txn, operation.agent, operation.rate):
        return None
    values: dict[str, Any] = {"priority_max": operation.priority_max} if operation.priority_max is not None else {}
    rows = txn.execute(
        _CLAIM_ABOVE if values else _CLAIM,
        {
            **values,
            "agent": operation.agent, "ticket": operation.ticket, "pid": operation.pid,
            "wall_ms": txn.wall_ms, "now_ms": txn.now_ms,
        },
    ).fetchall()  # fmt: skip
    if not rows:
        return None
    (seq, name, skill, session, priority, fence, attempt, step, deadline_ms, created_wall_ms, wait_for, events,
     data, parent) = rows[0]  # fmt: skip
    agent = operation.agent
    if operation.rate is not None:
        limit.start(txn, operation.agent, operation.rate)
    txn.outcome.characters += len(data)
    txn.counts.move(agent, QUEUED, -1, -1)
    txn.counts.move(agent, LEASED, 1)
    txn.event(
        (seq, name, agent), events, "leased", {"fence": fence, "attempt": attempt, "ticket": operation.ticket,
                                               "pid": operation.pid, "step": step}
    )  # fmt: skip
    version, state = 0, None
    if session is not None:
        version, state = txn.execute(_STATE, (agent, session)).fetchone() or (0, None)
    if parent is not None:
        parent = (txn.execute(_NAME, (parent,)).fetchone() or (None,))[0]
    return Turn(
        task=name, agent=agent, skill=skill, input=data, session=session, priority=priority, attempt=attempt,
        parent=parent, step=step, carry=txn.payload(seq, CARRY) if step else None,
        results=_results(txn, wait_for) if wait_for else [], created_wall_ms=created_wall_ms, fence=fence,
        deadline_ms=deadline_ms, state=state, state_version=version,
    )  # fmt: skip


def claimable(txn: Txn, operation: Claimable) -> list[str]:
    """Read which agents have a due task of this priority or a better one."""
    return [
        agent
        for agent in operation.agents
        if txn.execute(_ABOVE, (agent, operation.priority_max)).fetchone() is not None
    ]


def _results(txn: Txn, wait_for: str) -> list[dict[str, Any]]:
    """Results of awaited children in the order given; ``result`` is JSON text.

    What would make the turn larger than a frame is replaced by an error, so that the step can decide.
    """
    by_id = {row[1]: row for row in txn.execute(_RESULTS, (wait_for,)).fetchall()}
    found = []
    room = RESULTS_BYTES_MAX
    for name in json.loads(wait_for):
        seq, _, agent, skill, status, error, fallback = by_id[name]
        result = txn.payload(seq, RESULT) if status == SUCCEEDED else None
        spilled = spill.of(txn, seq) if status == SUCCEEDED and result is None else None
        failure = json.loads(error) if error and status >= TERMINAL_FIRST and status != SUCCEEDED else None
        size = len(result.encode()) if result else 0
        if size > room:
            result, size = None, 0
            failure = {
                "code": "results-too-large",
                "message": f"the results of the awaited tasks are above {RESULTS_BYTES_MAX} bytes together",
                "retryable": False,
            }
        room -= size
        found.append(
            {"task": name, "agent": agent, "skill": skill, "status": STATUS_NAMES[status], "result": result,
             "result_ref": spilled and spilled.as_json(), "error": failure,
             "fallback": json.loads(fallback) if fallback else None}
        )  # fmt: skip
    return found
