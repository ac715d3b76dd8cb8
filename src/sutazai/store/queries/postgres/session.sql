-- name: group_newest
-- Which group of which writer was committed last: after a lost answer this says whether the commit was done.
SELECT writer, group_number FROM clock WHERE id = 1;

-- name: writer_lock
-- Become the only writer; the lock ends with the session, after its last transaction has ended.
SELECT CAST(PG_TRY_ADVISORY_LOCK(?) AS INTEGER);

-- name: writer_holder
-- Which session holds the writer's lock, and who that is.
SELECT pg_locks.pid, COALESCE(pg_stat_activity.application_name, '')
FROM pg_locks LEFT JOIN pg_stat_activity ON pg_stat_activity.pid = pg_locks.pid
WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND database = (SELECT oid FROM pg_database WHERE datname = CURRENT_DATABASE())
  AND CAST(classid AS BIGINT) * 4294967296 + CAST(objid AS BIGINT) = ?;

-- name: session_end
-- End a session of this broker that was left behind.
SELECT CAST(PG_TERMINATE_BACKEND(?) AS INTEGER);

-- name: setting
-- One setting of the server as this session has it.
SELECT CURRENT_SETTING(CAST(? AS TEXT));

-- name: database_bytes
-- Size of the database on the server's disk.
SELECT PG_DATABASE_SIZE(CURRENT_DATABASE());
