package authority

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// crlValidity is from thisUpdate to nextUpdate of a revocation list. libvirt and
// QEMU go on using a list after that; others may not.
const crlValidity = 365 * 24 * time.Hour

// Params say what Init makes.
type Params struct {
	Name         string
	Organization string           // of the subject; empty leaves it out
	KeyAlgorithm pki.KeyAlgorithm // pki.ECDSAP256, also if empty, or pki.RSA3072
	Lifetime     time.Duration    // 0 means pki.DefaultCALifetime
	Dir          string           // of the public files
	KeyDir       string           // of the encrypted key; empty means Dir
	Passphrase   Secret           // stays the caller's to wipe
	Run          string           // id of the run, for the audit log; may be empty
	Now          time.Time        // zero means the present

	workFactor int // of scrypt, for tests
}

// Init makes the first generation of a local authority: its key, encrypted, its
// certificate, and an empty revocation list with number 1, and records it in
// the ledger, in this order. Nothing is ever overwritten: an authority that is
// there is ErrExists, and one of which an interrupted init left a part is
// ErrHalfMade, with the files to remove. If Init itself fails, it removes what
// it wrote.
func Init(ctx context.Context, p Params, l *ledger.Ledger) (pki.Authority, error) {
	fail := func(err error) (pki.Authority, error) {
		return pki.Authority{}, fmt.Errorf("making authority %s: %w", p.Name, err)
	}
	if p.KeyDir == "" {
		p.KeyDir = p.Dir
	}
	if p.Now.IsZero() {
		p.Now = time.Now()
	}
	if err := p.check(ctx, l); err != nil {
		return fail(err)
	}
	if _, err := p.generate(ctx, 1, pki.PhaseIssuing, l); err != nil {
		return fail(err)
	}
	return Read(p.Name, p.Dir)
}

// keyDirMode is for a directory that Init makes: that of the public files is
// for all to read, the encrypted key in it is not.
func keyDirMode(p Params) os.FileMode {
	if filepath.Clean(p.KeyDir) == filepath.Clean(p.Dir) {
		return 0o755
	}
	return 0o700
}

// check refuses what cannot be made and what is there already.
func (p Params) check(ctx context.Context, l *ledger.Ledger) error {
	if err := pki.CheckLabel(p.Name); err != nil {
		return err
	}
	if p.Passphrase.Empty() {
		return errors.New("the passphrase is empty")
	}
	if l == nil {
		return ledger.ErrMissing
	}
	if err := stillWaits(p.Dir); err != nil {
		return err
	}
	known, err := l.Generations(ctx, p.Name)
	if err != nil {
		return err
	}
	key, cert, crl := filepath.Join(p.KeyDir, keyName(1)), filepath.Join(p.Dir, certName(1)), filepath.Join(p.Dir, crlName(1))
	var found, missing []string
	for _, path := range []string{key, cert, crl} {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, path)
		} else if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, path)
		} else {
			return err
		}
	}
	switch {
	case len(known) > 0 && len(missing) == 0:
		return fmt.Errorf("%w in %s", ErrExists, p.Dir)
	case len(known) > 0:
		return fmt.Errorf("%w in %s, but files of it are missing: bring back %s", ErrExists, l, strings.Join(missing, ", "))
	case len(found) == 0:
		// Later generations without the first are somebody's, too.
		a, err := Read(p.Name, p.Dir)
		if err == nil && len(a.Generations) > 0 {
			err = fmt.Errorf("%w in %s, and %s does not know it; use the ledger that it was made with, or rebuild it", ErrExists, p.Dir, l)
		}
		return err
	case len(missing) == 0:
		return fmt.Errorf("%w in %s, but %s does not know it; use the ledger that it was made with, or rebuild it. If its making was interrupted and it never signed anything, remove %s and try again",
			ErrExists, p.Dir, l, strings.Join(found, ", "))
	case found[0] != key:
		return fmt.Errorf("%w: there is %s without its key %s; bring the key back, or, if this authority was never used, remove %s and try again",
			ErrHalfMade, strings.Join(found, ", "), key, strings.Join(found, ", "))
	}
	return fmt.Errorf("%w: an earlier init was interrupted before it signed anything; remove %s and try again", ErrHalfMade, strings.Join(found, ", "))
}
