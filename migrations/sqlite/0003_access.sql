-- Who may do what, beside the admins that the configuration names.
CREATE TABLE access (
    principal TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Strangers that wait to be let in: a short list, which is always read and written whole.
CREATE TABLE pairings (
    code TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Who asked for what, and whether they got it. Without holes; the oldest rows go in order.
CREATE TABLE audit (
    n INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_age ON audit (at);
