-- name: schedule_get
-- The newest time of a schedule that was decided on.
SELECT seen_wall_ms FROM schedules WHERE agent = ? AND name = ?;

-- name: schedule_put
-- A time was decided on; one that became a task is remembered as the last.
INSERT INTO schedules (agent, name, seen_wall_ms, last_wall_ms, last_task)
VALUES (:agent, :name, :seen_wall_ms, :last_wall_ms, :last_task)
ON CONFLICT (agent, name) DO UPDATE SET
    seen_wall_ms = excluded.seen_wall_ms,
    last_wall_ms = COALESCE(excluded.last_wall_ms, schedules.last_wall_ms),
    last_task = COALESCE(excluded.last_task, schedules.last_task);

-- name: schedules_all
-- All schedules that were ever seen.
SELECT agent, name, seen_wall_ms, last_wall_ms, last_task FROM schedules ORDER BY agent, name;
