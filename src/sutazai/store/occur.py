"""Why it exists: a time of a schedule becomes a task exactly once, whatever restarts and whatever the wall clock does.

The task's identifier is a hash of agent, schedule and time, and the newest time that was decided on is written in the
same transaction. A wall clock that is set back by less than an hour brings no time again; by more, the schedule begins
anew at the new time, and only what is still stored is known to have been done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.limits import SCHEDULE_BACK_MS
from sutazai.store.model import QUEUED, STATUS_NAMES, Accepted
from sutazai.store.queries import sql
from sutazai.store.submit import check_room, insert
from sutazai.store.times import Occur, Schedules, Seen

if TYPE_CHECKING:
    from sutazai.store.txn import Txn

_GET = sql("schedule_get")
_PUT = sql("schedule_put")
_ALL = sql("schedules_all")
_SAME_ID = sql("task_same_id")


def occur(txn: Txn, operation: Occur) -> Accepted | None:
    """Make the task of one time, unless that time was decided on before.

    Raises:
        QueueFullError: the store holds as many open tasks as it may; nothing is decided.
    """
    task, at_wall_ms = operation.task, operation.at_wall_ms
    found = txn.execute(_GET, (operation.agent, operation.schedule)).fetchone()
    if task is not None and found is not None and 0 <= found[0] - at_wall_ms <= SCHEDULE_BACK_MS:
        return None
    values = {"agent": operation.agent, "name": operation.schedule, "seen_wall_ms": at_wall_ms}
    if task is None:
        txn.execute(_PUT, values | {"last_wall_ms": None, "last_task": None})
        return None
    older = txn.execute(_SAME_ID, (task.id,)).fetchone()
    if older is None:
        check_room(txn, (task,))
        insert(txn, task, parent=None)
    txn.execute(_PUT, values | {"last_wall_ms": at_wall_ms, "last_task": task.id})
    status = QUEUED if older is None else older[4]
    return Accepted(task.id, STATUS_NAMES[status], duplicate=older is not None)


def schedules(txn: Txn, _: Schedules) -> list[Seen]:
    """Read what was decided on of all schedules."""
    return [
        Seen(agent, name, seen_wall_ms, last_wall_ms or 0, last_task or "")
        for agent, name, seen_wall_ms, last_wall_ms, last_task in txn.execute(_ALL).fetchall()
    ]
