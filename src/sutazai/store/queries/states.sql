-- name: state_get
-- State of a session.
SELECT version, data FROM states WHERE agent = ? AND session = ?;

-- name: state_version
-- How many commits have written the state of a session.
SELECT version FROM states WHERE agent = ? AND session = ?;

-- name: state_put
-- Replace it, counting the version up.
INSERT INTO states (agent, session, version, data, updated_wall_ms) VALUES (:agent, :session, 1, :data, :wall_ms)
ON CONFLICT (agent, session) DO UPDATE SET version = version + 1, data = excluded.data, updated_wall_ms = :wall_ms;
