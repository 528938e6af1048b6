-- Which object is declared by which Source, and what the file says of it.
CREATE TABLE inventory (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    source_uid TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX inventory_by_source ON inventory (source_uid, kind, name);
