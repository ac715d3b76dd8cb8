-- name: fallback_put
-- What a new task does in the place of a bad end.
INSERT INTO fallbacks (task, data) VALUES (?, ?);

-- name: fallback_get
-- The same, as long as it was not taken.
SELECT data FROM fallbacks WHERE task = ? AND used IS NULL;

-- name: fallback_used
-- It is taken, once.
UPDATE fallbacks SET used = ? WHERE task = ? AND used IS NULL;

-- name: fallbacks_next
-- Tasks that have one which was not taken, in the order of acceptance.
SELECT task FROM fallbacks WHERE task > ? AND used IS NULL ORDER BY task LIMIT ?;

-- name: purge_fallback
-- Forget it.
DELETE FROM fallbacks WHERE task = ?;

-- name: task_retarget
-- Give a task to another agent, from its beginning, due at once and bound to no session.
UPDATE tasks SET agent = :agent, skill = :skill, status = 0, held = 0, due_ms = 0, deadline_ms = :deadline_ms, step = '',
       wait_for = NULL, children_open = 0, attempt = 0, attempts_max = :attempts_max, losses = 0, fence = fence + 1,
       turns = turns + :turns_add, events = events + 2, input_bytes = :input_bytes, error = :error
WHERE seq = :seq AND status < 3;
