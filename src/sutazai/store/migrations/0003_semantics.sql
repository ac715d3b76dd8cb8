-- What becomes of dead letters, how long an idempotency key is taken, which times of a schedule were seen, and the rates
-- of agents.

ALTER TABLE tasks ADD COLUMN handled TEXT;             -- of a dead letter: replayed, discarded
ALTER TABLE tasks ADD COLUMN handled_by TEXT;
ALTER TABLE tasks ADD COLUMN handled_wall_ms INTEGER;
ALTER TABLE tasks ADD COLUMN replay_of TEXT;           -- identifier of the dead letter that this task does again
ALTER TABLE tasks ADD COLUMN replayed_by TEXT;         -- identifier of the task that does this one again
CREATE INDEX tasks_dead ON tasks (agent, handled, seq) WHERE status = 5 AND handled IS NULL;

ALTER TABLE tasks ADD COLUMN key_until_ms INTEGER NOT NULL DEFAULT 0; -- 0: the key is taken while the task is kept
ALTER TABLE tasks ADD COLUMN key_free INTEGER NOT NULL DEFAULT 0;     -- 1: a newer task has the key
DROP INDEX tasks_idempotency;
CREATE UNIQUE INDEX tasks_idempotency ON tasks (agent, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND key_free = 0;

-- What an agent was given, newest first, without looking at what others were.
CREATE INDEX tasks_agent ON tasks (agent, seq);

CREATE TABLE schedules (
    agent TEXT NOT NULL,
    name TEXT NOT NULL,
    seen_wall_ms INTEGER NOT NULL,    -- the newest time that was decided on: a task was made, or it was left out
    last_wall_ms INTEGER,             -- the newest time that became a task
    last_task TEXT,
    PRIMARY KEY (agent, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE limits (
    agent TEXT PRIMARY KEY,
    next_us INTEGER NOT NULL          -- when an agent that never paused would start its next turn, broker's microseconds
) STRICT;
