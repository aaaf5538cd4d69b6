package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A Look is the last time that a host was seen to have all that the
// configuration wants.
type Look struct {
	Host  string
	Trust string // digest of its authorities' generations and lists then
	At    time.Time
}

// RecordLook records a look at this moment.
func (l *Ledger) RecordLook(ctx context.Context, host, trust string) error {
	return l.write(ctx, "recording a look at "+host, func(tx *sql.Tx, now time.Time) error {
		if host == "" {
			return errors.New("a look has a host")
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO look (host, trust, at) VALUES (?, ?, ?) ON CONFLICT (host) DO UPDATE SET trust = excluded.trust, at = excluded.at", host, trust, stamp(now))
		return err
	})
}

// Looks returns the last look at each host, by its name.
func (l *Ledger) Looks(ctx context.Context) (map[string]Look, error) {
	all := map[string]Look{}
	err := query(ctx, l.db, func(rows *sql.Rows) error {
		var k Look
		err := rows.Scan(&k.Host, &k.Trust, instant{&k.At})
		all[k.Host] = k
		return err
	}, "SELECT host, trust, at FROM look")
	if err != nil {
		return nil, fmt.Errorf("ledger %s: reading looks: %w", l.path, err)
	}
	return all, nil
}

// Forget drops what is known of a host as a machine: its proofs and its last
// look no longer count, its failures are past, and the leaves that it had are
// superseded. What was issued and revoked stays on record. It tells how many
// leaves it had.
func (l *Ledger) Forget(ctx context.Context, run, host string) (leaves int, err error) {
	err = l.write(ctx, "forgetting host "+host, func(tx *sql.Tx, now time.Time) error {
		for _, q := range []string{"DELETE FROM proof WHERE host = ?", "DELETE FROM look WHERE host = ?", "UPDATE failure SET past = 1 WHERE host = ? AND past = 0"} {
			if _, err := tx.ExecContext(ctx, q, host); err != nil {
				return err
			}
		}
		done, err := tx.ExecContext(ctx, "UPDATE issuance SET state = 'superseded', changed = ? WHERE host = ? AND state IN ('signed', 'installed')", stamp(now), host)
		if err != nil {
			return err
		}
		n, err := done.RowsAffected()
		if err != nil {
			return err
		}
		leaves = int(n)
		return l.audit(ctx, tx, now, run, "host.forgotten", host, fmt.Sprintf("%d leaves superseded", n))
	})
	return leaves, err
}
