-- name: state_get
-- State of a session.
SELECT version, data FROM states WHERE agent = ? AND session = ?;

-- name: state_version
-- How many commits have written the state of a session.
SELECT version FROM states WHERE agent = ? AND session = ?;

-- name: state_put
-- Replace it, counting the version up.
INSERT INTO states (agent, session, version, data, updated_wall_ms, used_ms)
VALUES (:agent, :session, 1, :data, :wall_ms, :now_ms)
ON CONFLICT (agent, session)
DO UPDATE SET version = states.version + 1, data = excluded.data, updated_wall_ms = :wall_ms, used_ms = :now_ms;

-- name: state_used
-- A task of the session has ended: its state is kept from now on.
UPDATE states SET used_ms = ? WHERE agent = ? AND session = ?;

-- name: purge_states
-- Forget states of an agent that nobody used for long, the longest first; not those whose session has an open task.
DELETE FROM states WHERE id IN (
    SELECT id FROM states AS s
    WHERE agent = :agent AND used_ms <= :before_ms
      AND NOT EXISTS (SELECT 1 FROM tasks WHERE agent = s.agent AND session = s.session AND status < 3)
    ORDER BY used_ms LIMIT :limit
)
RETURNING id;
