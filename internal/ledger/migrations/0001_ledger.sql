-- Times are UTC text of one width, so that they sort as text.
-- Serials, digests and key ids are lower-case hex.

CREATE TABLE ledger (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    id      TEXT NOT NULL,
    created TEXT NOT NULL
) STRICT;

CREATE TABLE run (
    id          TEXT PRIMARY KEY,
    command     TEXT NOT NULL,
    operator    TEXT NOT NULL,            -- user@machine
    version     TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    process     TEXT NOT NULL,            -- JSON: which process it is, to see whether it is gone
    started     TEXT NOT NULL,
    ended       TEXT,
    result      TEXT,
    CHECK ((ended IS NULL) = (result IS NULL))
) STRICT;
CREATE INDEX run_open ON run (started) WHERE ended IS NULL;

CREATE TABLE generation (
    authority      TEXT NOT NULL,
    number         INTEGER NOT NULL CHECK (number > 0),
    subject_key_id TEXT NOT NULL UNIQUE,
    spki_sha256    TEXT NOT NULL UNIQUE,
    cert           BLOB NOT NULL,
    not_before     TEXT NOT NULL,
    not_after      TEXT NOT NULL,
    phase          TEXT NOT NULL CHECK (phase IN ('prepared', 'trusting', 'issuing', 'draining', 'retired', 'destroyed')),
    created        TEXT NOT NULL,
    PRIMARY KEY (authority, number)
) STRICT;
CREATE UNIQUE INDEX generation_issuing ON generation (authority) WHERE phase = 'issuing';

CREATE TABLE issuance (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    authority   TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    serial      TEXT NOT NULL,
    host        TEXT NOT NULL,
    certificate TEXT NOT NULL,
    profile     TEXT NOT NULL,            -- JSON
    spki_sha256 TEXT NOT NULL,            -- of the key in the certificate request
    state       TEXT NOT NULL CHECK (state IN ('intent', 'signed', 'installed', 'superseded', 'orphan', 'revoked')),
    cert        BLOB,
    leaf_sha256 TEXT UNIQUE,
    run         TEXT NOT NULL REFERENCES run (id),
    begun       TEXT NOT NULL,
    changed     TEXT NOT NULL,
    UNIQUE (authority, serial),
    FOREIGN KEY (authority, generation) REFERENCES generation (authority, number),
    CHECK ((cert IS NULL) = (leaf_sha256 IS NULL)),
    CHECK (state IN ('intent', 'orphan', 'revoked') OR cert IS NOT NULL)
) STRICT;
CREATE INDEX issuance_host ON issuance (host, certificate, id);
CREATE INDEX issuance_run ON issuance (run);
CREATE INDEX issuance_intent ON issuance (run) WHERE state = 'intent';

CREATE TABLE revocation (
    authority  TEXT NOT NULL,
    generation INTEGER NOT NULL,
    serial     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    at         TEXT NOT NULL,
    run        TEXT NOT NULL REFERENCES run (id),
    PRIMARY KEY (authority, serial),
    FOREIGN KEY (authority, generation) REFERENCES generation (authority, number)
) STRICT;

CREATE TABLE crl (
    authority   TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    number      INTEGER NOT NULL CHECK (number > 0),
    der         BLOB,                     -- NULL: the number was taken, no list was finished
    at          TEXT NOT NULL,
    PRIMARY KEY (authority, generation, number),
    FOREIGN KEY (authority, generation) REFERENCES generation (authority, number)
) STRICT;

CREATE TABLE proof (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    host          TEXT NOT NULL,
    certificate   TEXT NOT NULL,
    leaf_sha256   TEXT NOT NULL,
    bundle_digest TEXT NOT NULL,
    peers         TEXT NOT NULL,          -- JSON list of hosts; empty: seen by the controller alone
    loaded        TEXT NOT NULL,          -- JSON list of subject key ids
    detail        TEXT NOT NULL,
    run           TEXT NOT NULL REFERENCES run (id),
    at            TEXT NOT NULL
) STRICT;
CREATE INDEX proof_host ON proof (host, certificate, id);

CREATE TABLE failure (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    host        TEXT NOT NULL,
    certificate TEXT NOT NULL,
    class       TEXT NOT NULL,
    text        TEXT NOT NULL,
    run         TEXT NOT NULL REFERENCES run (id),
    at          TEXT NOT NULL,
    past        INTEGER NOT NULL DEFAULT 0 CHECK (past IN (0, 1))   -- 1: a success came after it
) STRICT;
CREATE INDEX failure_open ON failure (host, certificate, id) WHERE past = 0;

CREATE TABLE audit (
    seq       INTEGER PRIMARY KEY,
    at        TEXT NOT NULL,
    run       TEXT NOT NULL,
    action    TEXT NOT NULL,
    subject   TEXT NOT NULL,
    detail    TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash      TEXT NOT NULL UNIQUE
) STRICT;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'audit rows are never changed');
END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'audit rows are never deleted');
END;
CREATE TRIGGER audit_in_order BEFORE INSERT ON audit
WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM audit)
  OR (NEW.seq > 1 AND NEW.prev_hash IS NOT (SELECT hash FROM audit WHERE seq = NEW.seq - 1))
BEGIN
    SELECT RAISE(ABORT, 'audit rows are only appended');
END;
