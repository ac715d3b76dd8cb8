-- name: claim_next
-- Lease the agent's first due task: one search in the index of ready tasks, whatever the size of the store.
UPDATE tasks SET status = 1, fence = fence + 1, attempt = attempt + 1, checkpoints = 0, ticket = :ticket, pid = :pid,
       leased_wall_ms = :wall_ms, events = events + 1
WHERE seq = (SELECT seq FROM tasks
             WHERE agent = :agent AND status = 0 AND held = 0 AND due_ms = 0 AND deadline_ms > :now_ms
             ORDER BY order_key, seq LIMIT 1)
RETURNING seq, id, skill, session, priority, fence, attempt, step, deadline_ms, created_wall_ms, wait_for, events,
          (SELECT data FROM payloads WHERE key = tasks.seq * 4) AS input, parent;

-- name: claim_next_above
-- The same under pressure: tasks of a later priority are passed over.
UPDATE tasks SET status = 1, fence = fence + 1, attempt = attempt + 1, checkpoints = 0, ticket = :ticket, pid = :pid,
       leased_wall_ms = :wall_ms, events = events + 1
WHERE seq = (SELECT seq FROM tasks
             WHERE agent = :agent AND status = 0 AND held = 0 AND due_ms = 0 AND deadline_ms > :now_ms
                   AND priority <= :priority_max
             ORDER BY order_key, seq LIMIT 1)
RETURNING seq, id, skill, session, priority, fence, attempt, step, deadline_ms, created_wall_ms, wait_for, events,
          (SELECT data FROM payloads WHERE key = tasks.seq * 4) AS input, parent;

-- name: ready_above
-- Whether an agent has a due task of this priority or a better one.
SELECT 1 FROM tasks WHERE agent = ? AND status = 0 AND held = 0 AND due_ms = 0 AND priority <= ? LIMIT 1;

-- name: task_id_by_seq
-- Identifier of a task.
SELECT id FROM tasks WHERE seq = ?;

-- name: payload_get
-- Input, carry or result of a task.
SELECT data FROM payloads WHERE key = ?;

-- name: payload_put
-- Store one of them.
INSERT INTO payloads (key, data) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET data = excluded.data;

-- name: payload_delete
-- Drop one of them.
DELETE FROM payloads WHERE key = ?;

-- name: results_of
-- What became of awaited children, without their results, in any order.
SELECT seq, id, agent, skill, status, error, (SELECT used FROM fallbacks WHERE task = tasks.seq) AS fallback
FROM tasks WHERE id IN (SELECT value FROM json_each(?));

-- name: turn_insert
-- Write a turn that ended into the history.
INSERT INTO turns (task, fence, attempt, step, ticket, pid, started_wall_ms, ended_wall_ms, outcome, status,
                   checkpoints, effects, error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: turn_committed
-- Whether this turn was committed before: the same commit again gets the same answer.
SELECT status FROM turns WHERE task = ? AND fence = ? AND ticket = ? AND outcome IN ('result', 'wait', 'failed');

-- name: task_wait
-- The turn asked to go on when its children, or so many of them, are terminal (at once when they are). Attempts and losses count per step.
UPDATE tasks SET status = :status, step = :step, wait_for = :wait_for, children_open = :children_open, attempt = 0,
       losses = 0, events = events + 1, turns = turns + 1, error = NULL
WHERE seq = :seq AND status = 1;

-- name: children_await
-- Mark open children whose end the parent waits for; they need not live longer than it. Found by
-- identifier, not by parent (the plus): a task with a thousand ended children pays for none of them.
UPDATE tasks SET awaited = :turn,
       deadline_ms = CASE WHEN deadline_ms > :deadline_ms THEN :deadline_ms ELSE deadline_ms END
WHERE +parent = :parent AND status < 3 AND id IN (SELECT value FROM json_each(:ids))
RETURNING deadline_ms;

-- name: children_named
-- How many of these identifiers are children of the task; found by identifier.
SELECT COUNT(*) FROM tasks WHERE +parent = ? AND id IN (SELECT value FROM json_each(?));

-- name: task_checkpoint
-- A turn that runs has committed a part of its work.
UPDATE tasks SET checkpoints = checkpoints + 1 WHERE seq = ? AND status = 1;

-- name: children_sessions
-- Sessions that open awaited children belong to, to see whether an ancestor holds one of them.
SELECT agent, session FROM tasks WHERE id IN (SELECT value FROM json_each(?)) AND session IS NOT NULL AND status < 3;

-- name: task_progress
-- A turn that runs says how far it is.
UPDATE tasks SET events = events + 1 WHERE id = ? AND fence = ? AND status = 1 RETURNING seq, agent, events;
