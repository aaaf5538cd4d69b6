package ledger

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// An Event is one row of the audit log.
type Event struct {
	Seq     int64     `json:"seq"` // from 1 without a gap
	At      time.Time `json:"at"`
	Run     string    `json:"run,omitempty"`
	Action  string    `json:"action"`           // such as "issuance.signed"
	Subject string    `json:"subject"`          // what it was done to, such as a host and certificate
	Detail  string    `json:"detail,omitempty"` // bounded; may hold what a host said
	// PrevHash is the Hash of the row before, of the first row the digest of
	// the ledger's id. Hash covers all other fields.
	PrevHash string `json:"prev_hash"`
	Hash     string `json:"hash"`
}

// hash is the SHA-256 digest, in hex, of the event's fields as a JSON list. A
// list of strings and one number has one form in JSON.
func (e Event) hash() string {
	text, err := json.Marshal([]any{e.Seq, stamp(e.At), e.Run, e.Action, e.Subject, e.Detail, e.PrevHash})
	if err != nil {
		panic(err) // strings and a number cannot fail to marshal
	}
	return digest(text)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Audit appends an event to the audit log; of e it takes Run, Action, Subject
// and Detail. The methods that change a run, a generation, an issuance, a
// revocation or a CRL append theirs themselves, in the same transaction.
func (l *Ledger) Audit(ctx context.Context, e Event) error {
	return l.write(ctx, "auditing "+e.Action, func(tx *sql.Tx, now time.Time) error {
		if e.Action == "" {
			return errors.New("the event has no action")
		}
		return l.audit(ctx, tx, now, e.Run, e.Action, e.Subject, e.Detail)
	})
}

func (l *Ledger) audit(ctx context.Context, tx querier, now time.Time, run, action, subject, detail string) error {
	e := Event{Seq: 1, At: now, Run: bounded(run), Action: bounded(action), Subject: bounded(subject), Detail: bounded(detail), PrevHash: digest([]byte(l.id))}
	var last int64
	var hash string
	err := tx.QueryRowContext(ctx, "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").Scan(&last, &hash)
	if err == nil {
		e.Seq, e.PrevHash = last+1, hash
	} else if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO audit (seq, at, run, action, subject, detail, prev_hash, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		e.Seq, stamp(e.At), e.Run, e.Action, e.Subject, e.Detail, e.PrevHash, e.hash())
	return err
}

// Events returns up to limit rows of the audit log after the row with number
// after, in their order. A limit of 0 means all.
func (l *Ledger) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	if limit <= 0 {
		limit = -1
	}
	var all []Event
	err := query(ctx, l.db, func(rows *sql.Rows) error {
		var e Event
		err := rows.Scan(&e.Seq, instant{&e.At}, &e.Run, &e.Action, &e.Subject, &e.Detail, &e.PrevHash, &e.Hash)
		all = append(all, e)
		return err
	}, "SELECT seq, at, run, action, subject, detail, prev_hash, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: reading the audit log: %w", l.path, err)
	}
	return all, nil
}

// Verify checks the database's own structure, its references, and the audit
// log's chain of hashes. It reads the whole ledger. It shows damage and careless
// edits; who may write the file can also write a new chain.
func (l *Ledger) Verify(ctx context.Context) error {
	wrap := func(err error) error { return fmt.Errorf("ledger %s: %w", l.path, err) }
	var verdict string
	if err := l.db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return wrap(err)
	}
	if verdict != "ok" {
		return wrap(fmt.Errorf("the database is damaged: %s; restore it from a copy", bounded(verdict)))
	}
	dangling := 0
	if err := query(ctx, l.db, func(*sql.Rows) error { dangling++; return nil }, "PRAGMA foreign_key_check"); err != nil {
		return wrap(err)
	}
	if dangling > 0 {
		return wrap(fmt.Errorf("%d records refer to records that are missing; restore it from a copy", dangling))
	}
	prev, seq := digest([]byte(l.id)), int64(0)
	for {
		page, err := l.Events(ctx, seq, 1000)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for _, e := range page {
			if e.Seq != seq+1 || e.PrevHash != prev || e.Hash != e.hash() {
				return wrap(fmt.Errorf("the audit log was changed at or before row %d", e.Seq))
			}
			prev, seq = e.Hash, e.Seq
		}
	}
}
