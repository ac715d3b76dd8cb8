-- name: spilled_put
-- A result lies in a file.
INSERT INTO spilled (task, file, bytes, digest, media) VALUES (:task, :file, :bytes, :digest, :media);

-- name: spilled_get
-- Where the result of a task lies.
SELECT file, bytes, digest, media FROM spilled WHERE task = ?;

-- name: spilled_named
-- Which of these files a task needs.
SELECT file FROM spilled WHERE file IN (SELECT value FROM json_each(?));

-- name: spilled_size
-- How many results lie in files, and their bytes.
SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM spilled;

-- name: spilled_oldest
-- The oldest terminal tasks whose results lie in files, none of them a child of an open task.
SELECT tasks.seq, tasks.agent, tasks.status, tasks.handled, spilled.file, spilled.bytes
FROM spilled JOIN tasks ON tasks.seq = spilled.task
WHERE tasks.status >= 3
  AND NOT EXISTS (SELECT 1 FROM tasks AS p WHERE p.seq = tasks.parent AND p.status < 3)
ORDER BY tasks.seq LIMIT ?;

-- name: purge_spilled
-- Forget where its result lies.
DELETE FROM spilled WHERE task = ?;
