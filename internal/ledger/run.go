package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A Run is one execution of a command.
type Run struct {
	ID         string    `json:"id"`
	Command    string    `json:"command"`  // such as "apply --limit kvm1"; holds references to secrets at most
	Operator   string    `json:"operator"` // user@machine
	Version    string    `json:"version"`  // of virtrust
	PlanDigest string    `json:"plan_digest,omitempty"`
	Started    time.Time `json:"started"`
	Ended      time.Time `json:"ended,omitzero"` // zero while it runs
	Result     string    `json:"result,omitempty"`
}

// ResultLost is the result of a run whose process went away without EndRun.
const ResultLost = "lost"

// lostAfter is when a run counts as lost that this machine cannot look at.
const lostAfter = 24 * time.Hour

// NewRunID makes a name for a run: its start in UTC and 32 random bits, of
// [a-z0-9-] alone. Names sort by time.
func NewRunID(now time.Time) string {
	b := make([]byte, 4)
	rand.Read(b)
	return now.UTC().Format("20060102t150405z-") + hex.EncodeToString(b)
}

// StartRun records that a command starts and returns its id: r.ID, or a new one
// if that is empty. The run belongs to the calling process until EndRun.
func (l *Ledger) StartRun(ctx context.Context, r Run) (id string, err error) {
	err = l.write(ctx, "starting a run", func(tx *sql.Tx, now time.Time) error {
		if r.ID == "" {
			r.ID = NewRunID(now)
		}
		owner, err := json.Marshal(thisProcess())
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO run (id, command, operator, version, plan_digest, process, started) VALUES (?, ?, ?, ?, ?, ?, ?)",
			r.ID, bounded(r.Command), bounded(r.Operator), bounded(r.Version), r.PlanDigest, string(owner), stamp(now))
		if err != nil {
			return err
		}
		return l.audit(ctx, tx, now, r.ID, "run.started", r.Operator, r.Command)
	})
	return r.ID, err
}

// EndRun records that a run is over, with its result in one word. Intents that
// it left become orphans. Ending a run twice, or one that was already taken for
// lost, is ErrState.
func (l *Ledger) EndRun(ctx context.Context, id, result string) error {
	return l.write(ctx, "ending run "+id, func(tx *sql.Tx, now time.Time) error {
		if result == "" {
			return errors.New("a run ends with a result")
		}
		return l.endRun(ctx, tx, now, id, result)
	})
}

func (l *Ledger) endRun(ctx context.Context, tx *sql.Tx, now time.Time, id, result string) error {
	done, err := tx.ExecContext(ctx, "UPDATE run SET ended = ?, result = ? WHERE id = ? AND ended IS NULL", stamp(now), bounded(result), id)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		var before string
		err := tx.QueryRowContext(ctx, "SELECT result FROM run WHERE id = ?", id).Scan(&before)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		} else if err != nil {
			return err
		}
		return fmt.Errorf("%w: the run has ended with %q", ErrState, before)
	}
	type left struct {
		id      int64
		subject string
	}
	var intents []left
	err = query(ctx, tx, func(rows *sql.Rows) error {
		var i left
		var host, certificate string
		err := rows.Scan(&i.id, &host, &certificate)
		i.subject = host + " " + certificate
		intents = append(intents, i)
		return err
	}, "SELECT id, host, certificate FROM issuance WHERE run = ? AND state = 'intent' ORDER BY id", id)
	if err != nil {
		return err
	}
	for _, i := range intents {
		if _, err := tx.ExecContext(ctx, "UPDATE issuance SET state = 'orphan', changed = ? WHERE id = ?", stamp(now), i.id); err != nil {
			return err
		}
		if err := l.audit(ctx, tx, now, id, "issuance.orphan", i.subject, "the run ended between intent and signature"); err != nil {
			return err
		}
	}
	return l.audit(ctx, tx, now, id, "run.ended", result, "")
}

// recoverRuns ends the runs whose process is gone. A run of this machine is
// looked up among its processes; one of another machine or container counts as
// lost after lostAfter.
func (l *Ledger) recoverRuns(ctx context.Context) error {
	lost, err := l.lostRuns(ctx, l.db)
	if err != nil || len(lost) == 0 {
		return err
	}
	return l.write(ctx, "ending lost runs", func(tx *sql.Tx, now time.Time) error {
		// Another process may have done it since.
		lost, err := l.lostRuns(ctx, tx)
		if err != nil {
			return err
		}
		for _, id := range lost {
			if err := l.endRun(ctx, tx, now, id, ResultLost); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *Ledger) lostRuns(ctx context.Context, q querier) ([]string, error) {
	self, now := thisProcess(), l.now()
	var lost []string
	err := query(ctx, q, func(rows *sql.Rows) error {
		var id, owner string
		var started time.Time
		if err := rows.Scan(&id, &owner, instant{&started}); err != nil {
			return err
		}
		var p process
		if err := json.Unmarshal([]byte(owner), &p); err != nil {
			return fmt.Errorf("run %s: its process: %w", id, err)
		}
		gone, known := p.gone(self)
		if gone && known || !known && now.Sub(started) > lostAfter {
			lost = append(lost, id)
		}
		return nil
	}, "SELECT id, process, started FROM run WHERE ended IS NULL ORDER BY started, id")
	return lost, err
}

// Runs returns the last runs, newest first. A limit of 0 means all.
func (l *Ledger) Runs(ctx context.Context, limit int) ([]Run, error) {
	if limit <= 0 {
		limit = -1
	}
	var all []Run
	err := query(ctx, l.db, func(rows *sql.Rows) error {
		var r Run
		err := rows.Scan(&r.ID, &r.Command, &r.Operator, &r.Version, &r.PlanDigest, instant{&r.Started}, instant{&r.Ended}, &r.Result)
		all = append(all, r)
		return err
	}, "SELECT id, command, operator, version, plan_digest, started, ended, COALESCE(result, '') FROM run ORDER BY started DESC, id DESC LIMIT ?", limit)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: reading runs: %w", l.path, err)
	}
	return all, nil
}
