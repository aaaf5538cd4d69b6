package ledger

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// Trust completes authorities, as their public files show them, to a snapshot:
// the phase of each generation, the serials revoked in the ledger beside those
// of the CRL file, and the last proofs and failures. All is read at one moment.
// An authority that the ledger does not belong to is ErrForeign, see Check.
func (l *Ledger) Trust(ctx context.Context, public []pki.Authority) (pki.Trust, error) {
	fail := func(err error) (pki.Trust, error) {
		return pki.Trust{}, fmt.Errorf("ledger %s: %w", l.path, err)
	}
	tx, err := l.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fail(err)
	}
	defer tx.Rollback()
	var t pki.Trust
	for _, a := range public {
		a.Generations = slices.Clone(a.Generations)
		known, err := generations(ctx, tx, a.Name)
		if err != nil {
			return fail(err)
		}
		if err := belongs(a, known); err != nil {
			return fail(err)
		}
		for i := range a.Generations {
			g := &a.Generations[i]
			for _, k := range known {
				if k.Number == g.Number {
					g.Phase = k.Phase
				}
			}
			revoked, err := revocations(ctx, tx, a.Name, g.Number)
			if err != nil {
				return fail(err)
			}
			if err := lists(ctx, tx, a.Name, g, revoked, l.now()); err != nil {
				return fail(err)
			}
			serials := slices.Clone(g.Revoked)
			for _, r := range revoked {
				serials = append(serials, r.Serial)
			}
			slices.Sort(serials)
			g.Revoked = slices.Compact(serials)
		}
		t.Authorities = append(t.Authorities, a)
	}
	seen, err := proofs(ctx, tx)
	if err != nil {
		return fail(err)
	}
	for _, p := range seen {
		t.Proofs = append(t.Proofs, p.Proof)
	}
	if t.Failures, err = failures(ctx, tx); err != nil {
		return fail(err)
	}
	return t, nil
}

// lists compares the list of a generation, as the files have it, with what was
// revoked and signed through the ledger. g.Revoked is what the list has.
func lists(ctx context.Context, q querier, authority string, g *pki.Generation, revoked []Revocation, now time.Time) error {
	for _, r := range revoked {
		if slices.Contains(g.Revoked, r.Serial) {
			continue
		}
		// What has ended leaves the list.
		i, err := issuance(ctx, q, "authority = ? AND serial = ?", authority, r.Serial)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if c, err := x509.ParseCertificate(i.Cert); err == nil && c.NotAfter.Before(now) {
			continue
		}
		g.Unlisted = append(g.Unlisted, r.Serial)
	}
	var signed int64
	err := q.QueryRowContext(ctx, "SELECT COALESCE(MAX(number), 0) FROM crl WHERE authority = ? AND generation = ? AND der IS NOT NULL", authority, g.Number).Scan(&signed)
	if err != nil {
		return err
	}
	g.SignedCRL = uint64(signed)
	for _, serial := range g.Revoked {
		var used bool
		err := q.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM issuance WHERE authority = ? AND serial = ? AND state IN ('signed', 'installed'))", authority, serial).Scan(&used)
		if err != nil {
			return err
		}
		if used && !slices.ContainsFunc(revoked, func(r Revocation) bool { return r.Serial == serial }) {
			g.Unrecorded = append(g.Unrecorded, serial)
		}
	}
	return nil
}
