-- Waiting for people and signals, and for the first of several children; values that a task keeps for its later turns.
--
-- label: what a task is called in a history, for people; a workflow's step writes its name here.
-- awaited: 0, or the fence of that turn of the parent that waits for it: an end counts for that wait alone.

ALTER TABLE tasks ADD COLUMN label TEXT;

UPDATE tasks SET awaited = COALESCE((SELECT p.fence FROM tasks AS p WHERE p.seq = tasks.parent), 1)
WHERE awaited = 1;

CREATE TABLE kept (
    task INTEGER NOT NULL,            -- seq
    name TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (task, name)
) STRICT, WITHOUT ROWID;
