package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

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
