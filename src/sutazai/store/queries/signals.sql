-- name: signal_put
-- Write down a signal.
INSERT INTO signals (task, number, name, key, said_by, comment, data, at_wall_ms, until_ms, given)
VALUES (:task, :number, :name, :key, :said_by, :comment, :data, :wall_ms, :until_ms, :given);

-- name: signal_newest
-- Number of the newest signal that was sent to a task.
SELECT COALESCE(MAX(number), 0) FROM signals WHERE task = ?;

-- name: signals_kept
-- How many signals of a task are kept for somebody who waits later, and how many bytes they hold.
SELECT COUNT(*), COALESCE(SUM(LENGTH(data)), 0) FROM signals WHERE task = ? AND given = 0;

-- name: signal_by_key
-- The signal that was sent to a task under a key: its name, and who got it.
SELECT name, given FROM signals WHERE task = ? AND key = ? ORDER BY number DESC LIMIT 1;

-- name: signal_oldest
-- The oldest signal of a name that nobody got yet.
SELECT number, key, said_by, comment, data, at_wall_ms FROM signals
WHERE task = :task AND name = :name AND given = 0 AND until_ms > :now_ms ORDER BY number LIMIT 1;

-- name: signal_give
-- Somebody gets it; what it said stands in the result of that one from now on.
UPDATE signals SET given = :given, data = 'null' WHERE task = :task AND number = :number;

-- name: signals_trim
-- Forget signals that nobody waited for in time, and the oldest of those that somebody got.
DELETE FROM signals WHERE task = :task AND ((given = 0 AND until_ms <= :now_ms) OR (given > 0 AND number <= :oldest));

-- name: purge_signals
-- Forget what was sent to a task.
DELETE FROM signals WHERE task = ?;
