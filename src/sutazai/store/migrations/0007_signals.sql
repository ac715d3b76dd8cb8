-- Signals that came before anybody waited for them, and which waiting task got which signal.
--
-- A signal is sent to a task; the next one below it that waits for its name gets it, once. A word that was said to a task
-- above the waiting one under a key stands here too, so that it may be said again.

CREATE TABLE signals (
    task INTEGER NOT NULL,            -- seq of the task that it was sent to
    number INTEGER NOT NULL,          -- 1, 2, … in the order in which they came
    name TEXT NOT NULL,
    key TEXT NOT NULL,                -- the sender's, so that it may say it again; empty for none
    said_by TEXT NOT NULL,
    comment TEXT NOT NULL,
    data TEXT NOT NULL,
    at_wall_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,        -- broker's time; afterwards it is not handed over any more
    given INTEGER NOT NULL,           -- seq of the waiting task that got it, 0 while there is none
    PRIMARY KEY (task, number)
) STRICT, WITHOUT ROWID;
