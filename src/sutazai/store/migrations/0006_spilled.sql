-- Results that are too large for a row lie in files of the fleet's state folder; a row says which file.

CREATE TABLE spilled (
    task INTEGER NOT NULL,            -- seq
    file TEXT NOT NULL,               -- name in the folder of payloads, of this task alone
    bytes INTEGER NOT NULL,
    digest TEXT NOT NULL,             -- sha256:<hexadecimal> of the bytes
    media TEXT NOT NULL,
    PRIMARY KEY (task)
) STRICT;

CREATE UNIQUE INDEX spilled_file ON spilled (file);
