-- The broker's tables: tasks with their payloads, history, events, and the agents' states.
--
-- status: 0 queued, 1 leased, 2 waiting, 3 succeeded, 4 failed, 5 dead, 6 cancelled, 7 expired (3 and above: terminal).
-- Times named _ms are readings of the broker's own clock; those named _wall_ms are for people.

CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY,          -- order of acceptance; a session is a queue in this order
    id TEXT NOT NULL UNIQUE,
    agent TEXT NOT NULL,
    skill TEXT NOT NULL,
    status INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    order_key INTEGER NOT NULL,       -- created_ms + priority * PRIORITY_AGING_MS: static, and still ages
    session TEXT,
    held INTEGER NOT NULL DEFAULT 0,  -- 1: an older task of its session is open
    due_ms INTEGER NOT NULL DEFAULT 0,-- 0: due
    deadline_ms INTEGER NOT NULL,
    created_wall_ms INTEGER NOT NULL,
    finished_wall_ms INTEGER,
    parent INTEGER,                   -- seq of the task that emitted it
    depth INTEGER NOT NULL DEFAULT 0,
    awaited INTEGER NOT NULL DEFAULT 0,
    children_open INTEGER NOT NULL DEFAULT 0,
    wait_for TEXT,                    -- JSON: identifiers of the awaited children in the order given
    step TEXT NOT NULL DEFAULT '',
    attempt INTEGER NOT NULL DEFAULT 0,
    attempts_max INTEGER NOT NULL,
    losses INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    turns INTEGER NOT NULL DEFAULT 0,
    checkpoints INTEGER NOT NULL DEFAULT 0, -- of the turn that runs
    ticket TEXT,                      -- who leases it; kept after the end as evidence
    pid INTEGER,
    leased_wall_ms INTEGER,
    events INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT,
    error TEXT                        -- JSON: the last failure
) STRICT;

CREATE INDEX tasks_ready ON tasks (agent, order_key) WHERE status = 0 AND held = 0 AND due_ms = 0;
CREATE INDEX tasks_due ON tasks (due_ms) WHERE status = 0 AND due_ms > 0;
CREATE INDEX tasks_deadline ON tasks (deadline_ms) WHERE status < 3;
CREATE INDEX tasks_session ON tasks (agent, session) WHERE status < 3 AND session IS NOT NULL;
CREATE INDEX tasks_parent ON tasks (parent) WHERE parent IS NOT NULL;
CREATE INDEX tasks_unsuccessful ON tasks (status) WHERE status > 3;
CREATE UNIQUE INDEX tasks_idempotency ON tasks (agent, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- key = seq * 4 + kind; kind: 0 input, 1 carry, 2 result. Apart from tasks, so that a change of status writes no payload.
CREATE TABLE payloads (
    key INTEGER PRIMARY KEY,
    data TEXT NOT NULL
) STRICT;

-- One row for each turn that ended. The turn that runs stands in tasks.
CREATE TABLE turns (
    task INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    step TEXT NOT NULL,
    ticket TEXT,
    pid INTEGER,
    started_wall_ms INTEGER,
    ended_wall_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL,            -- result, wait, failed (asked by the instance); lost, cancelled, expired
    status INTEGER NOT NULL,          -- of the task after it
    checkpoints INTEGER NOT NULL,
    effects TEXT,
    error TEXT,
    PRIMARY KEY (task, fence)
) STRICT, WITHOUT ROWID;

CREATE TABLE task_events (
    task INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at_wall_ms INTEGER NOT NULL,
    data TEXT,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE states (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    version INTEGER NOT NULL,
    data TEXT NOT NULL,
    updated_wall_ms INTEGER NOT NULL,
    UNIQUE (agent, session)
) STRICT;

-- One row: the last reading of the broker's clock. Within one boot it goes on by the monotonic clock, after a boot by
-- the wall clock.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    broker_ms INTEGER NOT NULL,
    monotonic_ms INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    boot TEXT NOT NULL
) STRICT;
