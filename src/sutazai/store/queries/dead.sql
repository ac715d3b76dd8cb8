-- name: dead_by_id
-- What an operation on a dead letter decides on.
SELECT seq, id, agent, skill, status, session, priority, attempts_max, deadline_ms, order_key, handled, handled_by,
       replayed_by
FROM tasks WHERE id = ?;

-- name: dead_handle
-- A dead letter was replayed or discarded; its state and its evidence stay.
UPDATE tasks SET handled = :handled, handled_by = :by, handled_wall_ms = :wall_ms, replayed_by = :replayed_by
WHERE seq = :seq AND status = 5 AND handled IS NULL;

-- name: dead_open
-- Dead letters that nobody has handled, newest first. The plus keeps SQLite from walking through all other tasks.
SELECT seq FROM tasks WHERE status = 5 AND handled IS NULL ORDER BY +seq DESC LIMIT :limit;

-- name: dead_open_of
-- The same of one agent.
SELECT seq FROM tasks WHERE status = 5 AND handled IS NULL AND agent = :agent ORDER BY seq DESC LIMIT :limit;
