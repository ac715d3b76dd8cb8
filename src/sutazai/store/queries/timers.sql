-- name: due_next
-- When the next delayed task becomes due.
SELECT MIN(due_ms) FROM tasks WHERE status = 0 AND due_ms > 0;

-- name: due_promote
-- Tasks whose time has come may be claimed.
UPDATE tasks SET due_ms = 0
WHERE seq IN (SELECT seq FROM tasks WHERE status = 0 AND due_ms > 0 AND due_ms <= ? ORDER BY due_ms LIMIT ?)
RETURNING agent, held;

-- name: deadline_next
-- When the next deadline passes.
SELECT MIN(deadline_ms) FROM tasks WHERE status < 3;

-- name: deadline_passed
-- Open tasks whose deadline has passed.
SELECT seq FROM tasks WHERE status < 3 AND deadline_ms <= ? ORDER BY deadline_ms LIMIT ?;

-- name: leases
-- Turns that were running when the broker stopped.
SELECT id, agent, fence, ticket, pid FROM tasks WHERE status = 1 AND status < 3 AND deadline_ms > 0;

-- name: calls_open
-- Open tasks that turns made, and whose turns. Every open task has a deadline: saying so leads to their index.
SELECT c.id, p.agent, c.agent FROM tasks AS c JOIN tasks AS p ON p.seq = c.parent
WHERE c.status < 3 AND c.deadline_ms > 0 AND c.parent IS NOT NULL;

-- name: counts
-- Tasks by agent and status, and how many of the queued may be claimed now; of the dead ones, those nobody has handled.
-- Every open task has a deadline: saying so leads SQLite to their index, past all that is over.
SELECT agent, status, COUNT(*), SUM(CASE WHEN status = 0 AND held = 0 AND due_ms = 0 THEN 1 ELSE 0 END),
       CAST(SUM(input_bytes) AS BIGINT)
FROM tasks WHERE status < 3 AND deadline_ms > 0 GROUP BY agent, status
UNION ALL
SELECT agent, status, COUNT(*), 0, 0 FROM tasks WHERE status = 5 AND handled IS NULL GROUP BY agent, status;

-- name: bytes_used
-- Size of what the database holds, without its free pages.
SELECT (pages.page_count - free.freelist_count) * size.page_size
FROM pragma_page_count AS pages, pragma_freelist_count AS free, pragma_page_size AS size;

-- name: purgeable
-- The oldest terminal tasks beyond what is kept, none of them a child of an open task.
SELECT seq, agent, status, handled, (SELECT file FROM spilled WHERE task = tasks.seq) AS file FROM tasks
WHERE seq <= (SELECT MAX(seq) FROM tasks) - :kept AND status >= 3
  AND NOT EXISTS (SELECT 1 FROM tasks AS p WHERE p.seq = tasks.parent AND p.status < 3)
ORDER BY seq LIMIT :limit;

-- name: purge_task
-- Forget a task.
DELETE FROM tasks WHERE seq = ?;

-- name: purge_payloads
-- Forget its payloads.
DELETE FROM payloads WHERE key BETWEEN CAST(?1 AS BIGINT) * 4 AND CAST(?1 AS BIGINT) * 4 + 3;

-- name: purge_turns
-- Forget its turns.
DELETE FROM turns WHERE task = ?;

-- name: purge_events
-- Forget its events.
DELETE FROM task_events WHERE task = ?;

-- name: clock_get
-- The last reading of the broker's clock.
SELECT broker_ms, monotonic_ms, wall_ms, boot FROM clock WHERE id = 1;

-- name: clock_put
-- Keep a reading; part of every transaction that writes.
INSERT INTO clock (id, broker_ms, monotonic_ms, wall_ms, boot) VALUES (1, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET broker_ms = excluded.broker_ms, monotonic_ms = excluded.monotonic_ms,
                               wall_ms = excluded.wall_ms, boot = excluded.boot;
