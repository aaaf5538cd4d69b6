package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// Advance moves generations of an authority to other phases, all or none, and
// records why. Afterwards one generation at most is issuing, else nothing is
// changed and the error is ErrState.
func (l *Ledger) Advance(ctx context.Context, run, authority string, to map[int]pki.Phase, why string) error {
	return l.write(ctx, fmt.Sprintf("moving generations of authority %s", authority), func(tx *sql.Tx, now time.Time) error {
		for _, number := range sortedKeys(to) {
			phase := to[number]
			if !slices.Contains(phases, phase) {
				return fmt.Errorf("%w: there is no phase %q", ErrState, phase)
			}
			var before pki.Phase
			err := tx.QueryRowContext(ctx, "SELECT phase FROM generation WHERE authority = ? AND number = ?", authority, number).Scan(&before)
			if errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("generation %d: %w", number, ErrNotFound)
			} else if err != nil {
				return err
			}
			if before == phase {
				continue
			}
			if before == pki.PhaseDestroyed {
				return fmt.Errorf("%w: the key of generation %d is destroyed", ErrState, number)
			}
			if _, err := tx.ExecContext(ctx, "UPDATE generation SET phase = ? WHERE authority = ? AND number = ?", string(phase), authority, number); err != nil {
				return err
			}
			if err := l.audit(ctx, tx, now, run, "generation.phase", fmt.Sprintf("%s g%d", authority, number), fmt.Sprintf("%s to %s: %s", before, phase, why)); err != nil {
				return err
			}
		}
		var issuing int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM generation WHERE authority = ? AND phase = 'issuing'", authority).Scan(&issuing); err != nil {
			return err
		}
		if issuing > 1 {
			return fmt.Errorf("%w: %d generations would be issuing", ErrState, issuing)
		}
		return nil
	})
}

func sortedKeys(m map[int]pki.Phase) []int {
	var out []int
	for n := range m {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
