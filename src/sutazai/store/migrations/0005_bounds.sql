-- How large the input of a task is, so that what waits can be bounded in bytes and counted at a start without reading it.

ALTER TABLE tasks ADD COLUMN input_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE tasks SET input_bytes = COALESCE((SELECT LENGTH(data) FROM payloads WHERE key = tasks.seq * 4), 0)
WHERE status < 3;
