-- What a failed attempt wanted: failures of another wish no longer count.
ALTER TABLE failure ADD COLUMN wish TEXT NOT NULL DEFAULT '';

-- When a host was last seen to have all that the configuration wants.
CREATE TABLE look (
    host  TEXT PRIMARY KEY,
    trust TEXT NOT NULL,                  -- digest of its authorities' generations and lists then
    at    TEXT NOT NULL
) STRICT;
