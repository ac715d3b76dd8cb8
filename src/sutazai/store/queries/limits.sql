-- name: limit_get
-- When an agent that never paused would start its next turn, broker's microseconds.
SELECT next_us FROM limits WHERE agent = ?;

-- name: limit_put
-- Move it on; part of the claim's transaction.
INSERT INTO limits (agent, next_us) VALUES (:agent, :next_us)
ON CONFLICT (agent) DO UPDATE SET next_us = excluded.next_us;
