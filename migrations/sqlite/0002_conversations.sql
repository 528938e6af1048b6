-- Which turns have not ended is asked at each look at an Agent; so it has an index of its own.
ALTER TABLE turns ADD COLUMN state TEXT GENERATED ALWAYS AS (body ->> 'state') VIRTUAL;
CREATE INDEX turns_open ON turns (agent_uid, n) WHERE state IN ('Queued', 'Sent', 'Running');

-- Each Agent's turns, summed up; also those that are forgotten.
CREATE TABLE turn_sums (
    agent_uid TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What somebody allowed an Agent once and for all.
CREATE TABLE grants (
    agent_uid TEXT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (agent_uid, id)
) STRICT, WITHOUT ROWID;
