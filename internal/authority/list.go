package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// listValidity is from the signing of a revocation list to its nextUpdate.
// libvirt and QEMU go on using a list after that; others may not.
const listValidity = 30 * 24 * time.Hour

// maxNumberGap bounds how far a ledger's count of lists may be behind the files.
const maxNumberGap = 1000

// OpenGeneration is Open for one generation, which may have stopped signing
// certificates: it still signs the list of those that it made.
func OpenGeneration(ctx context.Context, name string, number int, dir, keyDir string, l *ledger.Ledger, now func() time.Time) (*Local, error) {
	return open(ctx, name, number, dir, keyDir, l, now)
}

// SignList signs a new revocation list of the authority's open generation, with
// everything that the ledger or the list before has as revoked and that has not
// ended, and puts it in place of gN.crl. Its number is larger than that of any
// list before; it is taken in the ledger first.
func (a *Local) SignList(ctx context.Context, run string) (*x509.RevocationList, error) {
	fail := func(err error) (*x509.RevocationList, error) {
		return nil, fmt.Errorf("authority %s: signing a revocation list of generation %d: %w", a.name, a.generation.Number, err)
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.key == nil {
		return fail(ErrLocked)
	}
	now, number := a.now(), a.generation.Number
	path := filepath.Join(a.dir, crlName(number))
	before, err := a.listBefore(path)
	if err != nil {
		return fail(err)
	}
	entries, err := a.entries(ctx, before, now)
	if err != nil {
		return fail(err)
	}
	var n uint64
	for range maxNumberGap {
		if n, err = a.ledger.BeginCRL(ctx, run, a.name, number); err != nil {
			return fail(err)
		}
		if before == nil || before.Number.Uint64() < n {
			break
		}
	}
	if before != nil && before.Number.Uint64() >= n {
		return fail(fmt.Errorf("the list in %s has number %d, which the ledger, at %d, does not know: use the ledger that it was made with", path, before.Number, n))
	}
	list, err := pki.NewCRL(now, a.cert, a.key, n, entries, listValidity)
	if err == nil {
		err = pki.CheckCRL(list, a.cert, n)
	}
	if err != nil {
		return fail(err)
	}
	if err := replaceFile(path, pki.RenderCRLs(list.Raw), 0o644); err != nil {
		return fail(err)
	}
	// From here the ledger must learn of it, even in a cancelled run.
	if err := a.ledger.FinishCRL(context.WithoutCancel(ctx), run, a.name, number, list.Raw); err != nil {
		return fail(err)
	}
	return list, nil
}

// listBefore reads the list that lies at path now; nil where there is none.
func (a *Local) listBefore(path string) (*x509.RevocationList, error) {
	var g pki.Generation
	g.Cert = a.cert.Raw
	err := readCRL(&g, path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g.List()
}

// entries are the revocations of a new list. An entry stays until its
// certificate has ended and a list has had it since.
func (a *Local) entries(ctx context.Context, before *x509.RevocationList, now time.Time) ([]pki.Revocation, error) {
	var out []pki.Revocation
	listed := map[string]bool{}
	add := func(serial string, at time.Time, again bool) error {
		n, err := pki.ParseSerial(serial)
		if err != nil {
			return err
		}
		i, err := a.ledger.IssuanceBySerial(ctx, a.name, serial)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		}
		if again && len(i.Cert) > 0 {
			if c, err := x509.ParseCertificate(i.Cert); err == nil && c.NotAfter.Before(now) {
				return nil
			}
		}
		out = append(out, pki.Revocation{Serial: n, At: at})
		return nil
	}
	if before != nil {
		for _, e := range before.RevokedCertificateEntries {
			s := pki.SerialText(e.SerialNumber)
			listed[s] = true
			if err := add(s, e.RevocationTime, true); err != nil {
				return nil, err
			}
		}
	}
	revoked, err := a.ledger.Revocations(ctx, a.name, a.generation.Number)
	if err != nil {
		return nil, err
	}
	for _, r := range revoked {
		if !listed[r.Serial] {
			had := before != nil && !before.ThisUpdate.Add(pki.CRLBackdate).Before(r.At)
			if err := add(r.Serial, r.At, had); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
