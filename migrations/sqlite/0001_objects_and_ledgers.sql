-- Times are milliseconds since 1970; they only serve to drop old rows. What people and
-- controllers read stands in the JSON of `body`, in full.

CREATE TABLE installation (
    id TEXT NOT NULL
) STRICT;

CREATE TABLE objects (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    owner TEXT,                        -- uid of the controlling owner
    body TEXT NOT NULL,
    UNIQUE (kind, name),
    UNIQUE (kind, uid)
) STRICT;
CREATE INDEX objects_by_owner ON objects (kind, owner, name) WHERE owner IS NOT NULL;

-- Each change of an object. Without holes; the oldest rows go in order.
CREATE TABLE history (
    revision INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    change TEXT NOT NULL,              -- Added, Modified, Deleted
    desired INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE receipts (
    key TEXT PRIMARY KEY,
    effect TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_age ON receipts (at);

-- Each row holds a stretch of a run's events.
CREATE TABLE output (
    id INTEGER PRIMARY KEY,
    sprite_uid TEXT NOT NULL,
    run INTEGER NOT NULL,
    last INTEGER NOT NULL,             -- the last sequence number that the stretch covers
    finished INTEGER NOT NULL,         -- whether it ends with the run's exit event
    body TEXT NOT NULL,                -- the events, one JSON text a line
    UNIQUE (sprite_uid, run, last)
) STRICT;

CREATE TABLE inbox (
    sprite_uid TEXT NOT NULL,
    n INTEGER NOT NULL,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (sprite_uid, n),
    UNIQUE (sprite_uid, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox_acks (
    sprite_uid TEXT PRIMARY KEY,
    acked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE turns (
    id TEXT PRIMARY KEY,
    agent_uid TEXT NOT NULL,
    n INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (agent_uid, n)
) STRICT;

CREATE TABLE approvals (
    sprite_uid TEXT NOT NULL,
    run INTEGER NOT NULL,
    request TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (sprite_uid, run, request)
) STRICT;

CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    made INTEGER NOT NULL,             -- the order in which they were made
    done INTEGER NOT NULL,
    touched INTEGER NOT NULL,          -- when it was last written
    body TEXT NOT NULL
) STRICT;
CREATE INDEX deliveries_open ON deliveries (made) WHERE done = 0;
CREATE INDEX deliveries_done ON deliveries (touched) WHERE done = 1;
CREATE INDEX deliveries_made ON deliveries (made);

CREATE TABLE events (
    uid TEXT NOT NULL,
    reason TEXT NOT NULL,
    note TEXT NOT NULL,
    made INTEGER NOT NULL,             -- the order in which they were made
    last INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (uid, reason, note)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_by_age ON events (last);
CREATE INDEX events_made ON events (made);

CREATE TABLE backoffs (
    controller TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (controller, name)
) STRICT, WITHOUT ROWID;

-- When Agents and Sprites went; their ledgers follow.
CREATE TABLE gone (
    uid TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
