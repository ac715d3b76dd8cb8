-- What is done in the place of a task that ends badly: a value, or another agent. Few tasks have one, so it stands apart.
--
-- data: JSON, {"value"} or {"agent", "skill", "input", "deadline_ms", "attempts_max"}.
-- used: JSON of what happened when it was taken: {"status", "error", "instead_of", "by"}.

CREATE TABLE fallbacks (
    task INTEGER NOT NULL,            -- seq
    data TEXT NOT NULL,
    used TEXT,
    PRIMARY KEY (task)
) STRICT, WITHOUT ROWID;
