"""Why it exists: what an operation costs in a store with a year of work can be seen without working for a year."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_NUMBERS = "WITH RECURSIVE n (i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)"
#: Of 100 tasks 95 have succeeded, 3 have failed, one was cancelled and one is a dead letter that was handled.
_TASKS = f"""
INSERT INTO tasks (seq, id, agent, skill, status, priority, order_key, session, deadline_ms, created_wall_ms,
                   finished_wall_ms, attempt, attempts_max, fence, turns, ticket, pid, leased_wall_ms, events,
                   idempotency_key, handled)
{_NUMBERS}
SELECT i, 't_old' || i, 'agent-' || (i % 24), 'do',
       CASE i % 100 WHEN 0 THEN 5 WHEN 1 THEN 6 WHEN 2 THEN 4 WHEN 3 THEN 4 WHEN 4 THEN 4 ELSE 3 END,
       5, i, CASE WHEN i % 10 = 0 THEN 'session-' || (i % 1000) END, i + 600000, i, i + 5, 1, 4, 1, 1, 'k' || i, 7, i,
       3,
       CASE WHEN i % 4 = 0 THEN 'key-' || i END, CASE WHEN i % 100 = 0 THEN 'discarded' END
FROM n
"""  # noqa: S608 a constant
_PAYLOADS = f"""
INSERT INTO payloads (key, data) {_NUMBERS} SELECT i * 4, '{{"text": "some input of a task", "n": ' || i || '}}' FROM n
UNION ALL SELECT i * 4 + 2, '{{"text": "some result of a task", "n": ' || i || '}}' FROM n
"""  # noqa: S608 a constant
_TURNS = f"""
INSERT INTO turns (task, fence, attempt, step, ticket, pid, started_wall_ms, ended_wall_ms, outcome, status,
                   checkpoints)
{_NUMBERS} SELECT i, 1, 1, '', 'k' || i, 7, i, i + 5, 'result', 3, 0 FROM n
"""  # noqa: S608 a constant
_EVENTS = f"""
INSERT INTO task_events (task, seq, kind, at_wall_ms) {_NUMBERS}
SELECT i, 1, 'queued', i FROM n UNION ALL SELECT i, 2, 'leased', i FROM n UNION ALL SELECT i, 3, 'succeeded', i FROM n
"""  # noqa: S608 a constant


def fill(connection: sqlite3.Connection, first: int, last: int) -> None:
    """Write terminal tasks with their payloads, turns and events, as the operations would have left them.

    Args:
        connection: to a store that was brought up to date, outside of a transaction; opened anew afterwards.
        first: place of the first task.
        last: place of the last task.
    """
    connection.execute("BEGIN")
    for statement in (_TASKS, _PAYLOADS, _TURNS, _EVENTS):
        connection.execute(statement, {"first": first, "last": last})
    connection.execute("COMMIT")
