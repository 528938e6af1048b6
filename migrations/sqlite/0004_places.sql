-- What a platform needs to know of a channel before it can say something there.
CREATE TABLE places (
    platform TEXT NOT NULL,
    channel TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (platform, channel)
) STRICT, WITHOUT ROWID;
