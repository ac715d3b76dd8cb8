-- name: results_of
-- What became of awaited children, without their results, in any order.
SELECT seq, id, agent, skill, status, error, (SELECT used FROM fallbacks WHERE task = tasks.seq) AS fallback
FROM tasks WHERE id = ANY (ARRAY(SELECT json_array_elements_text(CAST(? AS JSON))));

-- name: children_await
-- Mark open children whose end the parent waits for; they need not live longer than it.
UPDATE tasks SET awaited = :turn, deadline_ms = LEAST(deadline_ms, :deadline_ms)
WHERE +parent = :parent AND status < 3 AND id = ANY (ARRAY(SELECT json_array_elements_text(CAST(:ids AS JSON))))
RETURNING deadline_ms;

-- name: children_named
-- How many of these identifiers are children of the task.
SELECT COUNT(*) FROM tasks
WHERE +parent = ? AND id = ANY (ARRAY(SELECT json_array_elements_text(CAST(? AS JSON))));

-- name: children_sessions
-- Sessions that open awaited children belong to, to see whether an ancestor holds one of them.
SELECT agent, session FROM tasks
WHERE id = ANY (ARRAY(SELECT json_array_elements_text(CAST(? AS JSON)))) AND session IS NOT NULL AND status < 3;

-- name: spilled_named
-- Which of these files a task needs.
SELECT file FROM spilled WHERE file = ANY (ARRAY(SELECT json_array_elements_text(CAST(? AS JSON))));

-- name: bytes_used
-- Size of what the tables hold. A file never shrinks here, so what large payloads hold is estimated from one page in
-- a hundred.
SELECT others.size + CASE
    WHEN payloads.size < 268435456 THEN payloads.size
    ELSE LEAST(payloads.size, (SELECT COALESCE(SUM(PG_COLUMN_SIZE(data) + 48), 0) * 100 FROM payloads TABLESAMPLE SYSTEM (1)))
END
FROM (SELECT PG_TOTAL_RELATION_SIZE('payloads') AS size) AS payloads,
     (SELECT PG_TOTAL_RELATION_SIZE('tasks') + PG_TOTAL_RELATION_SIZE('turns') + PG_TOTAL_RELATION_SIZE('task_events')
             + PG_TOTAL_RELATION_SIZE('states') + PG_TOTAL_RELATION_SIZE('kept')
             + PG_TOTAL_RELATION_SIZE('fallbacks') + PG_TOTAL_RELATION_SIZE('signals') AS size) AS others;

-- name: clock_put
-- Keep a reading, and which group of which writer it was; part of every transaction that writes.
INSERT INTO clock (id, broker_ms, monotonic_ms, wall_ms, boot, writer, group_number) VALUES (1, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET broker_ms = excluded.broker_ms, monotonic_ms = excluded.monotonic_ms,
                               wall_ms = excluded.wall_ms, boot = excluded.boot, writer = excluded.writer,
                               group_number = excluded.group_number;
