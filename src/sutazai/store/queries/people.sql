-- name: kept_put
-- Keep a value of a task under a name.
INSERT INTO kept (task, name, data) VALUES (?, ?, ?) ON CONFLICT (task, name) DO UPDATE SET data = excluded.data;

-- name: kept_get
-- One kept value.
SELECT data FROM kept WHERE task = ? AND name = ?;

-- name: purge_kept
-- Forget what a task kept.
DELETE FROM kept WHERE task = ?;

-- name: child_end
-- What became of a task, and whose turn had made it.
SELECT t.seq, t.agent, t.skill, t.status, t.error, p.agent, (SELECT used FROM fallbacks WHERE task = t.seq) AS fallback
FROM tasks AS t LEFT JOIN tasks AS p ON p.seq = t.parent WHERE t.id = ?;

-- name: resolved_by
-- Who ended a task from outside, and by which word.
SELECT outcome, effects, ended_wall_ms FROM turns WHERE task = ? AND outcome IN ('approve', 'deny', 'signal');

-- name: waiting_of
-- Tasks that wait for somebody outside, the oldest first.
SELECT seq FROM tasks WHERE agent = ? AND status = 0 AND held = 0 AND due_ms = 0 ORDER BY order_key, seq LIMIT ?;
