-- name: event_insert
-- Write one thing that happened to a task.
INSERT INTO task_events (task, seq, kind, at_wall_ms, data) VALUES (?, ?, ?, ?, ?);

-- name: events_trim
-- Keep the newest events of a task.
DELETE FROM task_events WHERE task = ? AND seq <= ?;

-- name: events_of
-- What happened to a task, oldest first.
SELECT seq, kind, at_wall_ms, data FROM task_events WHERE task = ? ORDER BY seq;

-- name: task_full
-- A task as a caller sees it.
SELECT seq, id, agent, skill, status, priority, session, held, due_ms, deadline_ms, created_wall_ms, finished_wall_ms,
       (SELECT p.id FROM tasks AS p WHERE p.seq = tasks.parent) AS parent, depth, awaited, children_open, step, attempt,
       attempts_max, losses, fence, turns, ticket, pid, leased_wall_ms, idempotency_key, label, error,
       handled, handled_by, handled_wall_ms, replay_of, replayed_by,
       (SELECT used FROM fallbacks WHERE task = tasks.seq) AS fallback,
       (SELECT data FROM payloads WHERE key = tasks.seq * 4) AS input,
       (SELECT data FROM payloads WHERE key = tasks.seq * 4 + 2) AS result
FROM tasks WHERE id = ?;

-- name: task_full_by_seq
-- The same by the place in the order of acceptance.
SELECT seq, id, agent, skill, status, priority, session, held, due_ms, deadline_ms, created_wall_ms, finished_wall_ms,
       (SELECT p.id FROM tasks AS p WHERE p.seq = tasks.parent) AS parent, depth, awaited, children_open, step, attempt,
       attempts_max, losses, fence, turns, ticket, pid, leased_wall_ms, idempotency_key, label, error,
       handled, handled_by, handled_wall_ms, replay_of, replayed_by,
       (SELECT used FROM fallbacks WHERE task = tasks.seq) AS fallback,
       (SELECT data FROM payloads WHERE key = tasks.seq * 4) AS input,
       (SELECT data FROM payloads WHERE key = tasks.seq * 4 + 2) AS result
FROM tasks WHERE seq = ?;

-- name: tree_seqs
-- A task and all that descends from it, parents before children.
WITH RECURSIVE tree (seq) AS (
    SELECT seq FROM tasks WHERE id = ?
    UNION ALL SELECT tasks.seq FROM tasks JOIN tree ON tasks.parent = tree.seq
)
SELECT seq FROM tree LIMIT ?;

-- name: turns_of
-- History of a task, oldest turn first.
SELECT fence, attempt, step, ticket, pid, started_wall_ms, ended_wall_ms, outcome, checkpoints, effects, error
FROM turns WHERE task = ? ORDER BY fence;

-- name: list_newest
-- Tasks, newest first, of any status.
SELECT seq FROM tasks ORDER BY seq DESC LIMIT :limit;

-- name: list_newest_of
-- The same of one agent.
SELECT seq FROM tasks WHERE agent = :agent ORDER BY seq DESC LIMIT :limit;

-- name: list_open
-- Tasks of one open status, newest first. The plus keeps SQLite from walking through all that is over, newest first.
SELECT seq FROM tasks WHERE status < 3 AND status = :status AND (CAST(:agent AS TEXT) IS NULL OR agent = :agent)
ORDER BY +seq DESC LIMIT :limit;

-- name: list_succeeded
-- Tasks that succeeded, newest first.
SELECT seq FROM tasks WHERE status = 3 ORDER BY seq DESC LIMIT :limit;

-- name: list_succeeded_of
-- The same of one agent.
SELECT seq FROM tasks WHERE status = 3 AND agent = :agent ORDER BY seq DESC LIMIT :limit;

-- name: list_unsuccessful
-- Tasks of one terminal status other than success, newest first: dead letters among them.
SELECT seq FROM tasks WHERE status > 3 AND status = :status ORDER BY seq DESC LIMIT :limit;

-- name: list_unsuccessful_of
-- The same of one agent.
SELECT seq FROM tasks WHERE status > 3 AND status = :status AND agent = :agent ORDER BY seq DESC LIMIT :limit;

-- name: ready_ids
-- Tasks that an agent may claim now; those that it would claim last come first.
SELECT id FROM tasks WHERE agent = ? AND status = 0 AND held = 0 AND due_ms = 0
ORDER BY order_key DESC, seq DESC LIMIT ?;
