-- Deliveries that show no message yet, by conversation: whoever comes behind one waits for it.
CREATE INDEX deliveries_bare ON deliveries (
    body ->> '$.conversation.platform',
    body ->> '$.conversation.channel',
    coalesce(body ->> '$.conversation.thread', ''),
    made
) WHERE done = 0 AND body ->> '$.messages[0]' IS NULL;
