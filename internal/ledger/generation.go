package ledger

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// A Generation is one generation of an authority as the ledger knows it.
type Generation struct {
	Authority    string    `json:"authority"`
	Number       int       `json:"number"`         // from 1
	SubjectKeyID string    `json:"subject_key_id"` // lower-case hex
	SPKISHA256   string    `json:"spki_sha256"`    // lower-case hex
	Cert         []byte    `json:"cert"`           // DER
	NotBefore    time.Time `json:"not_before"`
	NotAfter     time.Time `json:"not_after"`
	Phase        pki.Phase `json:"phase"`
	Created      time.Time `json:"created"`
}

var phases = []pki.Phase{pki.PhasePrepared, pki.PhaseTrusting, pki.PhaseIssuing, pki.PhaseDraining, pki.PhaseRetired, pki.PhaseDestroyed}

// AddGeneration records a generation of an authority and, if there is one, its
// newest revocation list; run may be empty. It is how a new generation begins,
// and how a ledger is rebuilt from public files. Recording the same generation
// again changes nothing, but that a later certificate for the same key takes the
// place of the one before. ErrForeign means that the ledger has another key under
// this name and number, or this key under another name.
func (l *Ledger) AddGeneration(ctx context.Context, run, authority string, g pki.Generation) error {
	cert, err := x509.ParseCertificate(g.Cert)
	if err != nil {
		return fmt.Errorf("ledger %s: generation %d of authority %s: %w", l.path, g.Number, authority, err)
	}
	spki, keyID := digest(cert.RawSubjectPublicKeyInfo), hex.EncodeToString(cert.SubjectKeyId)
	return l.write(ctx, fmt.Sprintf("recording generation %d of authority %s", g.Number, authority), func(tx *sql.Tx, now time.Time) error {
		if authority == "" || keyID == "" || !slices.Contains(phases, g.Phase) {
			return fmt.Errorf("a generation has a name, a subject key id and a phase; got %q, %q, %q", authority, keyID, g.Phase)
		}
		var name, known string
		var number int
		err := tx.QueryRowContext(ctx, "SELECT authority, number, spki_sha256 FROM generation WHERE (authority = ? AND number = ?) OR spki_sha256 = ? OR subject_key_id = ?",
			authority, g.Number, spki, keyID).Scan(&name, &number, &known)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case name == authority && number == g.Number && known == spki:
			done, err := tx.ExecContext(ctx, "UPDATE generation SET cert = ?, not_before = ?, not_after = ? WHERE authority = ? AND number = ? AND not_after < ?",
				g.Cert, stamp(cert.NotBefore), stamp(cert.NotAfter), authority, g.Number, stamp(cert.NotAfter))
			if err != nil {
				return err
			}
			if n, err := done.RowsAffected(); err != nil || n == 0 {
				return err
			}
			return l.audit(ctx, tx, now, run, "generation.renewed", fmt.Sprintf("%s g%d", authority, g.Number), "until "+stamp(cert.NotAfter))
		default:
			return fmt.Errorf("%w: it already has generation %d of authority %s with key %.16s…", ErrForeign, number, name, known)
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO generation (authority, number, subject_key_id, spki_sha256, cert, not_before, not_after, phase, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			authority, g.Number, keyID, spki, g.Cert, stamp(cert.NotBefore), stamp(cert.NotAfter), string(g.Phase), stamp(now))
		if err != nil {
			return err
		}
		if len(g.CRL) > 0 {
			list, err := x509.ParseRevocationList(g.CRL)
			if err != nil {
				return fmt.Errorf("its revocation list: %w", err)
			}
			if list.Number == nil || !list.Number.IsInt64() {
				return errors.New("its revocation list has no usable number")
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO crl (authority, generation, number, der, at) VALUES (?, ?, ?, ?, ?)",
				authority, g.Number, list.Number.Int64(), g.CRL, stamp(now)); err != nil {
				return err
			}
		}
		return l.audit(ctx, tx, now, run, "generation.added", fmt.Sprintf("%s g%d", authority, g.Number), "key "+spki)
	})
}

// Generations returns the generations of an authority in their order, none if
// the ledger does not know it; for an empty name those of all authorities.
func (l *Ledger) Generations(ctx context.Context, authority string) ([]Generation, error) {
	all, err := generations(ctx, l.db, authority)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: reading generations: %w", l.path, err)
	}
	return all, nil
}

func generations(ctx context.Context, q querier, authority string) ([]Generation, error) {
	var all []Generation
	err := query(ctx, q, func(rows *sql.Rows) error {
		var g Generation
		err := rows.Scan(&g.Authority, &g.Number, &g.SubjectKeyID, &g.SPKISHA256, &g.Cert, instant{&g.NotBefore}, instant{&g.NotAfter}, &g.Phase, instant{&g.Created})
		all = append(all, g)
		return err
	}, `SELECT authority, number, subject_key_id, spki_sha256, cert, not_before, not_after, phase, created
		FROM generation WHERE ?1 = '' OR authority = ?1 ORDER BY authority, number`, authority)
	return all, err
}

// SetPhase moves a generation to another phase. Of an authority one generation
// at most is issuing.
func (l *Ledger) SetPhase(ctx context.Context, run, authority string, number int, phase pki.Phase) error {
	return l.write(ctx, fmt.Sprintf("moving generation %d of authority %s to %s", number, authority, phase), func(tx *sql.Tx, now time.Time) error {
		done, err := tx.ExecContext(ctx, "UPDATE generation SET phase = ? WHERE authority = ? AND number = ?", string(phase), authority, number)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return ErrNotFound
		}
		return l.audit(ctx, tx, now, run, "generation.phase", fmt.Sprintf("%s g%d", authority, number), string(phase))
	})
}

// Check reports whether the ledger belongs to an authority, as its public files
// show it: every generation of the files is in the ledger with the same key, and
// the files lack none that is in use. Anything else is ErrForeign, with what to
// do. An authority without files belongs to any ledger that does not know it.
func (l *Ledger) Check(ctx context.Context, a pki.Authority) error {
	known, err := l.Generations(ctx, a.Name)
	if err != nil {
		return err
	}
	if err := belongs(a, known); err != nil {
		return fmt.Errorf("ledger %s: %w", l.path, err)
	}
	return nil
}

func belongs(a pki.Authority, known []Generation) error {
	for _, g := range a.Generations {
		i := slices.IndexFunc(known, func(k Generation) bool { return k.Number == g.Number })
		if i < 0 {
			return fmt.Errorf("%w %s: it does not know generation %d; use the ledger that this authority was made with, or rebuild it from the authority's files", ErrForeign, a.Name, g.Number)
		}
		cert, err := x509.ParseCertificate(g.Cert)
		if err != nil {
			return fmt.Errorf("generation %d of authority %s: %w", g.Number, a.Name, err)
		}
		if known[i].SPKISHA256 != digest(cert.RawSubjectPublicKeyInfo) {
			return fmt.Errorf("%w %s: its generation %d has another key; this is the ledger of another fleet, or the authority's files are another fleet's", ErrForeign, a.Name, g.Number)
		}
	}
	for _, k := range known {
		if k.Phase == pki.PhaseRetired || k.Phase == pki.PhaseDestroyed {
			continue
		}
		if !slices.ContainsFunc(a.Generations, func(g pki.Generation) bool { return g.Number == k.Number }) {
			return fmt.Errorf("%w %s: it knows generation %d (%s), which the authority's files lack; bring the files up to date", ErrForeign, a.Name, k.Number, k.Phase)
		}
	}
	return nil
}
