package ledger

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// A Revocation is a certificate that is no longer to be accepted.
type Revocation struct {
	Authority  string    `json:"authority"`
	Generation int       `json:"generation"`
	Serial     string    `json:"serial"` // as pki.SerialText
	Reason     string    `json:"reason"`
	At         time.Time `json:"at"`
}

// Revoke records a revocation; of r it takes all but At. The serial need not
// have been issued through this ledger. Revoking twice changes nothing. Hosts
// refuse the certificate only when they have a CRL that lists it.
func (l *Ledger) Revoke(ctx context.Context, run string, r Revocation) error {
	return l.write(ctx, fmt.Sprintf("revoking %s of authority %s", r.Serial, r.Authority), func(tx *sql.Tx, now time.Time) error {
		if _, err := pki.ParseSerial(r.Serial); err != nil {
			return err
		}
		i, err := issuance(ctx, tx, "authority = ? AND serial = ?", r.Authority, r.Serial)
		known := err == nil
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if known && i.Generation != r.Generation {
			return fmt.Errorf("%w: the serial is of generation %d, not %d", ErrState, i.Generation, r.Generation)
		}
		done, err := tx.ExecContext(ctx, "INSERT INTO revocation (authority, generation, serial, reason, at, run) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (authority, serial) DO NOTHING",
			r.Authority, r.Generation, r.Serial, bounded(r.Reason), stamp(now), run)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err
		}
		if known {
			if _, err := tx.ExecContext(ctx, "UPDATE issuance SET state = 'revoked', changed = ? WHERE id = ?", stamp(now), i.ID); err != nil {
				return err
			}
		}
		return l.audit(ctx, tx, now, run, "certificate.revoked", fmt.Sprintf("%s g%d serial %s", r.Authority, r.Generation, r.Serial), r.Reason)
	})
}

// Revocations returns what was revoked of one generation, in order of time.
func (l *Ledger) Revocations(ctx context.Context, authority string, generation int) ([]Revocation, error) {
	all, err := revocations(ctx, l.db, authority, generation)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: reading revocations: %w", l.path, err)
	}
	return all, nil
}

func revocations(ctx context.Context, q querier, authority string, generation int) ([]Revocation, error) {
	var all []Revocation
	err := query(ctx, q, func(rows *sql.Rows) error {
		var r Revocation
		err := rows.Scan(&r.Authority, &r.Generation, &r.Serial, &r.Reason, instant{&r.At})
		all = append(all, r)
		return err
	}, "SELECT authority, generation, serial, reason, at FROM revocation WHERE authority = ? AND generation = ? ORDER BY at, serial", authority, generation)
	return all, err
}

// BeginCRL takes the next CRL number of a generation, larger than any before. A
// number whose list is never finished stays unused.
func (l *Ledger) BeginCRL(ctx context.Context, run, authority string, generation int) (number uint64, err error) {
	err = l.write(ctx, fmt.Sprintf("taking a CRL number of authority %s", authority), func(tx *sql.Tx, now time.Time) error {
		var n int64
		err := tx.QueryRowContext(ctx, `INSERT INTO crl (authority, generation, number, at)
			SELECT ?1, ?2, COALESCE(MAX(number), 0) + 1, ?3 FROM crl WHERE authority = ?1 AND generation = ?2 RETURNING number`,
			authority, generation, stamp(now)).Scan(&n)
		if err != nil {
			return err
		}
		number = uint64(n)
		return l.audit(ctx, tx, now, run, "crl.intent", fmt.Sprintf("%s g%d", authority, generation), fmt.Sprintf("number %d", n))
	})
	return number, err
}

// FinishCRL records the list, DER, that was signed with a number from BeginCRL.
func (l *Ledger) FinishCRL(ctx context.Context, run, authority string, generation int, der []byte) error {
	return l.write(ctx, fmt.Sprintf("recording a CRL of authority %s", authority), func(tx *sql.Tx, now time.Time) error {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		if list.Number == nil || !list.Number.IsInt64() {
			return errors.New("the list has no usable number")
		}
		done, err := tx.ExecContext(ctx, "UPDATE crl SET der = ?, at = ? WHERE authority = ? AND generation = ? AND number = ? AND der IS NULL",
			der, stamp(now), authority, generation, list.Number.Int64())
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return fmt.Errorf("%w: CRL number %d was not taken, or its list is recorded already", ErrState, list.Number)
		}
		return l.audit(ctx, tx, now, run, "crl.signed", fmt.Sprintf("%s g%d", authority, generation), fmt.Sprintf("number %d, digest %s", list.Number, digest(der)))
	})
}
