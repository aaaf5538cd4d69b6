package ledger

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// ErrSerialTaken means that the authority has already used the serial.
var ErrSerialTaken = errors.New("the serial is already taken")

// State is where an issuance stands.
type State string

// The states of an issuance. An orphan is an intent whose run ended before its
// certificate was recorded: the signer hands no certificate out before that.
const (
	StateIntent     State = "intent"     // recorded, not yet signed
	StateSigned     State = "signed"     // signed, not yet known to be on its host
	StateInstalled  State = "installed"  // its host was confirmed with it
	StateSuperseded State = "superseded" // a later one was installed in its place
	StateOrphan     State = "orphan"     // never handed out
	StateRevoked    State = "revoked"
)

// An Intent is what is recorded before a certificate is signed.
type Intent struct {
	Run         string
	Authority   string
	Generation  int
	Serial      string // as pki.SerialText
	Host        string
	Certificate string // the certificate's name in policy
	Profile     pki.Profile
	SPKISHA256  string // of the public key in the request, lower-case hex
}

// An Issuance is a certificate that was signed or was to be signed.
type Issuance struct {
	ID int64
	Intent
	State      State
	Cert       []byte // DER; nil before it was signed
	LeafSHA256 string // of Cert, lower-case hex
	Begun      time.Time
	Changed    time.Time // of State
}

// BeginIssuance records the intent to sign a certificate. When it returns, the
// serial is taken for good: no other process gets it, and it survives a crash. A
// serial that was used before is ErrSerialTaken. The run must be
// open and the generation issuing, else it is ErrState.
func (l *Ledger) BeginIssuance(ctx context.Context, i Intent) (id int64, err error) {
	err = l.write(ctx, fmt.Sprintf("recording the intent to sign %s for %s", i.Certificate, i.Host), func(tx *sql.Tx, now time.Time) error {
		if _, err := pki.ParseSerial(i.Serial); err != nil {
			return err
		}
		if i.Host == "" || i.Certificate == "" || len(i.SPKISHA256) != 64 {
			return errors.New("an intent has a host, a certificate and the digest of a key")
		}
		profile, err := json.Marshal(i.Profile)
		if err != nil {
			return err
		}
		var open bool
		err = tx.QueryRowContext(ctx, "SELECT ended IS NULL FROM run WHERE id = ?", i.Run).Scan(&open)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("run %q: %w", i.Run, ErrNotFound)
		} else if err != nil {
			return err
		} else if !open {
			return fmt.Errorf("run %s: %w: it has ended", i.Run, ErrState)
		}
		var phase pki.Phase
		err = tx.QueryRowContext(ctx, "SELECT phase FROM generation WHERE authority = ? AND number = ?", i.Authority, i.Generation).Scan(&phase)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("generation %d of authority %s: %w", i.Generation, i.Authority, ErrNotFound)
		} else if err != nil {
			return err
		} else if phase != pki.PhaseIssuing {
			return fmt.Errorf("generation %d of authority %s: %w: it is %s and signs no new certificates", i.Generation, i.Authority, ErrState, phase)
		}
		var taken bool
		if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM issuance WHERE authority = ?1 AND serial = ?2)
			OR EXISTS (SELECT 1 FROM revocation WHERE authority = ?1 AND serial = ?2)`, i.Authority, i.Serial).Scan(&taken); err != nil {
			return err
		}
		if taken {
			return ErrSerialTaken
		}
		done, err := tx.ExecContext(ctx, `INSERT INTO issuance (authority, generation, serial, host, certificate, profile, spki_sha256, state, run, begun, changed)
			VALUES (?, ?, ?, ?, ?, ?, ?, 'intent', ?, ?, ?)`,
			i.Authority, i.Generation, i.Serial, i.Host, i.Certificate, string(profile), i.SPKISHA256, i.Run, stamp(now), stamp(now))
		if err != nil {
			return err
		}
		if id, err = done.LastInsertId(); err != nil {
			return err
		}
		return l.audit(ctx, tx, now, i.Run, "issuance.intent", i.Host+" "+i.Certificate, fmt.Sprintf("%s g%d serial %s", i.Authority, i.Generation, i.Serial))
	})
	return id, err
}

// FinishIssuance records the certificate, DER, that was signed for an intent.
// Its serial and key must be those of the intent. An intent that is no longer
// one, such as an orphan, is ErrState.
func (l *Ledger) FinishIssuance(ctx context.Context, id int64, der []byte) error {
	return l.write(ctx, fmt.Sprintf("recording certificate of issuance %d", id), func(tx *sql.Tx, now time.Time) error {
		i, err := issuance(ctx, tx, "id = ?", id)
		if err != nil {
			return err
		}
		if i.State != StateIntent {
			return fmt.Errorf("%w: the issuance is %s", ErrState, i.State)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if pki.SerialText(cert.SerialNumber) != i.Serial || digest(cert.RawSubjectPublicKeyInfo) != i.SPKISHA256 {
			return errors.New("the certificate has another serial or key than its intent")
		}
		if _, err := tx.ExecContext(ctx, "UPDATE issuance SET state = 'signed', cert = ?, leaf_sha256 = ?, changed = ? WHERE id = ?", der, digest(der), stamp(now), id); err != nil {
			return err
		}
		return l.audit(ctx, tx, now, i.Run, "issuance.signed", i.Host+" "+i.Certificate, "leaf "+digest(der))
	})
}

// AbandonIssuance records that an intent came to nothing, and why. The intent
// becomes an orphan.
func (l *Ledger) AbandonIssuance(ctx context.Context, id int64, reason string) error {
	return l.write(ctx, fmt.Sprintf("abandoning issuance %d", id), func(tx *sql.Tx, now time.Time) error {
		i, err := issuance(ctx, tx, "id = ?", id)
		if err != nil {
			return err
		}
		if i.State != StateIntent {
			return fmt.Errorf("%w: the issuance is %s", ErrState, i.State)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE issuance SET state = 'orphan', changed = ? WHERE id = ?", stamp(now), id); err != nil {
			return err
		}
		return l.audit(ctx, tx, now, i.Run, "issuance.orphan", i.Host+" "+i.Certificate, reason)
	})
}

// MarkInstalled records that a host was confirmed with a leaf, by the SHA-256 of
// its DER in hex. It is called once the host's transaction is over, not when the
// file is written. Other leaves of that host and certificate are superseded, and
// its failures are past. A rollback makes a superseded leaf installed again. A
// leaf that was not issued through this ledger is ErrNotFound, a revoked one
// ErrState.
func (l *Ledger) MarkInstalled(ctx context.Context, run, host, certificate, leafSHA256 string) error {
	return l.write(ctx, fmt.Sprintf("recording %s of %s as installed", certificate, host), func(tx *sql.Tx, now time.Time) error {
		i, err := issuance(ctx, tx, "leaf_sha256 = ?", leafSHA256)
		if err != nil {
			return err
		}
		if i.Host != host || i.Certificate != certificate {
			return fmt.Errorf("%w: the leaf was issued as %s of %s", ErrState, i.Certificate, i.Host)
		}
		switch i.State {
		case StateSigned, StateInstalled, StateSuperseded:
		default:
			return fmt.Errorf("%w: the leaf is %s", ErrState, i.State)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE issuance SET state = 'superseded', changed = ?
			WHERE host = ? AND certificate = ? AND id <> ? AND state IN ('signed', 'installed')`, stamp(now), host, certificate, i.ID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE issuance SET state = 'installed', changed = ? WHERE id = ? AND state <> 'installed'", stamp(now), i.ID); err != nil {
			return err
		}
		if err := clearFailures(ctx, tx, host, certificate); err != nil {
			return err
		}
		return l.audit(ctx, tx, now, run, "issuance.installed", host+" "+certificate, "leaf "+leafSHA256)
	})
}

// A Filter selects issuances; empty fields select all.
type Filter struct {
	Authority   string
	Host        string
	Certificate string
	Run         string
	State       State
	Limit       int // of the newest; 0 means all
}

// Issuances returns the issuances that a filter selects, newest first.
func (l *Ledger) Issuances(ctx context.Context, f Filter) ([]Issuance, error) {
	if f.Limit <= 0 {
		f.Limit = -1
	}
	all, err := issuances(ctx, l.db, `(?1 = '' OR authority = ?1) AND (?2 = '' OR host = ?2) AND (?3 = '' OR certificate = ?3)
		AND (?4 = '' OR run = ?4) AND (?5 = '' OR state = ?5) ORDER BY id DESC LIMIT ?6`,
		f.Authority, f.Host, f.Certificate, f.Run, string(f.State), f.Limit)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: reading issuances: %w", l.path, err)
	}
	return all, nil
}

// IssuanceByLeaf finds the issuance of a leaf by the SHA-256 of its DER in hex;
// ErrNotFound if it was not issued through this ledger.
func (l *Ledger) IssuanceByLeaf(ctx context.Context, leafSHA256 string) (Issuance, error) {
	i, err := issuance(ctx, l.db, "leaf_sha256 = ?", leafSHA256)
	if err != nil {
		return i, fmt.Errorf("ledger %s: leaf %.16s…: %w", l.path, leafSHA256, err)
	}
	return i, nil
}

func issuance(ctx context.Context, q querier, where string, args ...any) (Issuance, error) {
	all, err := issuances(ctx, q, where, args...)
	if err != nil {
		return Issuance{}, err
	}
	if len(all) == 0 {
		return Issuance{}, ErrNotFound
	}
	return all[0], nil
}

func issuances(ctx context.Context, q querier, where string, args ...any) ([]Issuance, error) {
	var all []Issuance
	err := query(ctx, q, func(rows *sql.Rows) error {
		var i Issuance
		var profile string
		err := rows.Scan(&i.ID, &i.Authority, &i.Generation, &i.Serial, &i.Host, &i.Certificate, &profile, &i.SPKISHA256,
			&i.State, &i.Cert, &i.LeafSHA256, &i.Run, instant{&i.Begun}, instant{&i.Changed})
		if err != nil {
			return err
		}
		all = append(all, i)
		return json.Unmarshal([]byte(profile), &all[len(all)-1].Profile)
	}, `SELECT id, authority, generation, serial, host, certificate, profile, spki_sha256, state, cert, COALESCE(leaf_sha256, ''), run, begun, changed
		FROM issuance WHERE `+where, args...)
	return all, err
}
