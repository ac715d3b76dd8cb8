-- name: task_insert
-- Take a task. A child carries its parent's seq and one more of depth.
INSERT INTO tasks (seq, id, agent, skill, status, priority, order_key, session, held, due_ms, deadline_ms,
                   created_wall_ms, parent, depth, attempts_max, idempotency_key, label, key_until_ms, replay_of,
                   input_bytes, events)
VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1);

-- name: seq_newest
-- The place of the task that was taken last; 0 in an empty store.
SELECT COALESCE(MAX(seq), 0) FROM tasks;

-- name: task_by_id
-- All facts of a task that an operation decides on.
SELECT seq, id, agent, skill, status, session, held, due_ms, deadline_ms, parent, depth, awaited, step, attempt,
       attempts_max, losses, fence, turns, checkpoints, ticket, pid, leased_wall_ms, events, priority, input_bytes
FROM tasks WHERE id = ?;

-- name: task_by_seq
-- The same by the place in the order of acceptance.
SELECT seq, id, agent, skill, status, session, held, due_ms, deadline_ms, parent, depth, awaited, step, attempt,
       attempts_max, losses, fence, turns, checkpoints, ticket, pid, leased_wall_ms, events, priority, input_bytes
FROM tasks WHERE seq = ?;

-- name: task_same_id
-- A task that already has this identifier, with what must be equal for a repeated submission.
SELECT seq, id, agent, skill, status, parent FROM tasks WHERE id = ?;

-- name: task_same_key
-- A task of this agent that was submitted under the same idempotency key, while the key is still taken.
SELECT seq, id, agent, skill, status, parent FROM tasks
WHERE agent = :agent AND idempotency_key = :key AND key_free = 0 AND (key_until_ms = 0 OR key_until_ms > :now_ms);

-- name: key_release
-- The window of a key is over: a new task may have it.
UPDATE tasks SET key_free = 1
WHERE agent = :agent AND idempotency_key = :key AND key_free = 0 AND key_until_ms > 0 AND key_until_ms <= :now_ms;

-- name: session_is_open
-- Whether an older task of the session is not terminal: the new one is held behind it.
SELECT 1 FROM tasks WHERE agent = ? AND session = ? AND status < 3 LIMIT 1;

-- name: session_release_next
-- The head of a session has ended: its next task may be claimed.
UPDATE tasks SET held = 0
WHERE seq = (SELECT MIN(seq) FROM tasks WHERE agent = ? AND session = ? AND status < 3) AND held = 1
RETURNING due_ms;

-- name: ancestor_of
-- One step up, to see whether a child would wait for the session that its own ancestor holds.
SELECT seq, agent, session, status, parent FROM tasks WHERE seq = ?;

-- name: task_finish
-- Leave the open states for ever. The lease's holder stays as evidence.
UPDATE tasks SET status = ?, finished_wall_ms = ?, held = 0, due_ms = 0, children_open = 0, fence = fence + ?,
       events = events + 1, turns = turns + ?, error = ?, wait_for = NULL
WHERE seq = ? AND status < 3;

-- name: task_requeue
-- Give a leased task back to its queue, later or at once.
UPDATE tasks SET status = 0, due_ms = :due_ms, attempt = :attempt, losses = :losses, fence = fence + :fence_add,
       events = events + 1, turns = turns + 1, error = :error
WHERE seq = :seq AND status = 1;

-- name: parent_child_ended
-- An awaited child is terminal: count down, and put the parent back to its queue with the last one. Only the wait of
-- the turn that named the child counts.
UPDATE tasks SET children_open = children_open - 1, status = CASE WHEN children_open <= 1 THEN 0 ELSE 2 END,
       events = events + CASE WHEN children_open <= 1 THEN 1 ELSE 0 END
WHERE seq = ? AND fence = ? AND status = 2
RETURNING id, agent, status, events;

-- name: children_open
-- Children of a task that are not terminal.
SELECT seq FROM tasks WHERE parent = ? AND status < 3;

-- name: children_all
-- Children of a task, also terminal ones: open tasks may descend from them.
SELECT seq FROM tasks WHERE parent = ?;
