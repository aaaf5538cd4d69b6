package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// A Proof is what was seen of a certificate of a host when it was proved.
type Proof struct {
	pki.Proof           // Peers is empty if the controller alone saw it
	BundleDigest string // of the CA file then, hex; empty if not known
	Detail       string // bounded; may hold what a host said
	Run          string // id of a run in the ledger
}

// RecordProof records a proof; a zero At is now. The failures of that host and
// certificate are past then.
func (l *Ledger) RecordProof(ctx context.Context, p Proof) error {
	return l.write(ctx, fmt.Sprintf("recording a proof of %s of %s", p.Certificate, p.Host), func(tx *sql.Tx, now time.Time) error {
		if p.Host == "" || p.Certificate == "" || p.LeafSHA256 == "" {
			return errors.New("a proof has a host, a certificate and a leaf")
		}
		if p.At.IsZero() {
			p.At = now
		}
		peers, err := json.Marshal(append([]string{}, p.Peers...))
		if err != nil {
			return err
		}
		loaded, err := json.Marshal(append([]string{}, p.Loaded...))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO proof (host, certificate, leaf_sha256, bundle_digest, peers, loaded, detail, run, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			p.Host, p.Certificate, p.LeafSHA256, p.BundleDigest, string(peers), string(loaded), bounded(p.Detail), p.Run, stamp(p.At))
		if err != nil {
			return err
		}
		return clearFailures(ctx, tx, p.Host, p.Certificate)
	})
}

// Proofs returns the last proof that was recorded of each host and certificate,
// in order of their names.
func (l *Ledger) Proofs(ctx context.Context) ([]Proof, error) {
	all, err := proofs(ctx, l.db)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: reading proofs: %w", l.path, err)
	}
	return all, nil
}

func proofs(ctx context.Context, q querier) ([]Proof, error) {
	var all []Proof
	err := query(ctx, q, func(rows *sql.Rows) error {
		var p Proof
		var peers, loaded string
		err := rows.Scan(&p.Host, &p.Certificate, &p.LeafSHA256, &p.BundleDigest, &peers, &loaded, &p.Detail, &p.Run, instant{&p.At})
		if err != nil {
			return err
		}
		all = append(all, p)
		last := &all[len(all)-1]
		return errors.Join(json.Unmarshal([]byte(peers), &last.Peers), json.Unmarshal([]byte(loaded), &last.Loaded))
	}, `SELECT host, certificate, leaf_sha256, bundle_digest, peers, loaded, detail, run, at FROM proof
		WHERE id IN (SELECT MAX(id) FROM proof GROUP BY host, certificate) ORDER BY host, certificate`)
	return all, err
}

// A Failure is an attempt to change or prove a certificate of a host that did
// not succeed.
type Failure struct {
	Host        string
	Certificate string
	Class       string // one word, such as "unreachable" or "refused"
	Text        string // bounded; may hold what a host said
	Wish        string // digest of what was wanted; failures of an earlier wish are past
	Run         string // id of a run in the ledger
}

// RecordFailure records a failure at this moment.
func (l *Ledger) RecordFailure(ctx context.Context, f Failure) error {
	return l.write(ctx, fmt.Sprintf("recording a failure of %s of %s", f.Certificate, f.Host), func(tx *sql.Tx, now time.Time) error {
		if f.Host == "" || f.Certificate == "" || f.Class == "" {
			return errors.New("a failure has a host, a certificate and a class")
		}
		// Another wish begins to count anew.
		_, err := tx.ExecContext(ctx, "UPDATE failure SET past = 1 WHERE host = ? AND certificate = ? AND past = 0 AND wish <> ?", f.Host, f.Certificate, f.Wish)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO failure (host, certificate, class, text, wish, run, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
			f.Host, f.Certificate, bounded(f.Class), bounded(f.Text), f.Wish, f.Run, stamp(now))
		return err
	})
}

// Failures returns for each host and certificate the last failure since its last
// success, with the number of failures since then, in order of their names.
func (l *Ledger) Failures(ctx context.Context) ([]pki.Failure, error) {
	all, err := failures(ctx, l.db)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: reading failures: %w", l.path, err)
	}
	return all, nil
}

func failures(ctx context.Context, q querier) ([]pki.Failure, error) {
	var all []pki.Failure
	err := query(ctx, q, func(rows *sql.Rows) error {
		var f pki.Failure
		var class string
		err := rows.Scan(&f.Host, &f.Certificate, &f.Attempts, &class, &f.Text, &f.Wish, instant{&f.At})
		if f.Text == "" {
			f.Text = class
		} else {
			f.Text = class + ": " + f.Text
		}
		all = append(all, f)
		return err
	}, `SELECT f.host, f.certificate, open.attempts, f.class, f.text, f.wish, f.at FROM failure f
		JOIN (SELECT MAX(id) AS last, count(*) AS attempts FROM failure WHERE past = 0 GROUP BY host, certificate) open ON f.id = open.last
		ORDER BY f.host, f.certificate`)
	return all, err
}

func clearFailures(ctx context.Context, q querier, host, certificate string) error {
	_, err := q.ExecContext(ctx, "UPDATE failure SET past = 1 WHERE host = ? AND certificate = ? AND past = 0", host, certificate)
	return err
}
