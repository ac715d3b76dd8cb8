-- When a session's state was last used, by the broker's clock: from then on it is kept for as long as its agent's
-- states are. States that are older than this column are kept from now on.

ALTER TABLE states ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0;
UPDATE states SET used_ms = COALESCE((SELECT broker_ms FROM clock WHERE id = 1), 0);
CREATE INDEX states_used ON states (agent, used_ms);
