package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// ImportParams say what Import brings in.
type ImportParams struct {
	Name  string
	Dir   string // of the public files
	Chain []byte // PEM: the issuing certificate, then its issuers up to a self-signed root
	Run   string // id of the run, for the audit log; may be empty
	Now   time.Time

	// Of an authority whose key is here, see ImportSigned and ImportKey.
	KeyDir     string // of the encrypted key; empty means Dir
	Passphrase Secret // stays the caller's to wipe

	workFactor int // of scrypt, for tests
}

// Import brings the certificate of a CA in whose key is elsewhere: as the
// authority's first generation, which issues, or as the next one, prepared. The
// chain must reach a self-signed certificate: QEMU from 11.0 on accepts nothing
// else. The certificate of a CA that was renewed with its key takes the place of
// the one before, and its generation stays; otherwise nothing is overwritten, and
// a certificate that is there is ErrExists.
func Import(ctx context.Context, p ImportParams, l *ledger.Ledger) (pki.Authority, error) {
	fail := func(err error) (pki.Authority, error) {
		return pki.Authority{}, fmt.Errorf("importing authority %s: %w", p.Name, err)
	}
	if err := pki.CheckLabel(p.Name); err != nil {
		return fail(err)
	}
	if l == nil {
		return fail(ledger.ErrMissing)
	}
	if p.Now.IsZero() {
		p.Now = time.Now()
	}
	chain, err := checkImport(p.Chain, p.Now)
	if err != nil {
		return fail(err)
	}
	have, err := Read(p.Name, p.Dir)
	if err != nil {
		return pki.Authority{}, err
	}
	if g, ok, err := renewedOf(have, chain); err != nil {
		return fail(err)
	} else if ok {
		a, err := exchange(ctx, p, g, chain, l)
		if err != nil {
			return fail(err)
		}
		return a, nil
	}
	if err := stillWaits(p.Dir); err != nil {
		return fail(err)
	}
	number, phase := 1, pki.PhaseIssuing
	for _, g := range have.Generations {
		number, phase = max(number, g.Number+1), pki.PhasePrepared
	}
	if err := os.MkdirAll(p.Dir, 0o755); err != nil { //nolint:gosec // G301: public files, committed with the configuration
		return fail(err)
	}
	path := filepath.Join(p.Dir, certName(number))
	if err := writeNew(path, pki.RenderCerts(chain...), 0o644); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fail(fmt.Errorf("%w: %s", ErrExists, path))
		}
		return fail(err)
	}
	a, err := Read(p.Name, p.Dir)
	if err == nil {
		g := &a.Generations[len(a.Generations)-1]
		g.Phase = phase
		err = l.AddGeneration(ctx, p.Run, p.Name, *g)
	}
	if err == nil {
		err = WritePhases(ctx, p.Name, p.Dir, l)
	}
	if err != nil {
		return fail(errors.Join(err, os.Remove(path)))
	}
	return a, nil
}

// checkImport reads a chain and puts it in order.
func checkImport(data []byte, now time.Time) ([]*x509.Certificate, error) {
	certs, err := parseChain(data)
	if err != nil {
		return nil, err
	}
	chain := certs[:1:1]
	for {
		last := chain[len(chain)-1]
		if !last.IsCA || !last.BasicConstraintsValid {
			return nil, fmt.Errorf("%q is no CA: the first certificate of the file is the one that signs, followed by its issuers", last.Subject.CommonName)
		}
		if last.KeyUsage != 0 && last.KeyUsage&x509.KeyUsageCertSign == 0 {
			return nil, fmt.Errorf("%q may not sign certificates", last.Subject.CommonName)
		}
		if now.Before(last.NotBefore) || now.After(last.NotAfter) {
			return nil, fmt.Errorf("%q is valid from %s to %s only: one CA outside its validity in a file keeps libvirtd from starting", last.Subject.CommonName, last.NotBefore.UTC().Format(time.DateOnly), last.NotAfter.UTC().Format(time.DateOnly))
		}
		if last.CheckSignatureFrom(last) == nil {
			return chain, nil
		}
		next := issuerIn(certs, last)
		if next == nil {
			return nil, fmt.Errorf("the issuer of %q, %q, is not in the file: QEMU wants the chain up to a self-signed certificate", last.Subject.CommonName, last.Issuer.CommonName)
		}
		if chain = append(chain, next); len(chain) > len(certs) {
			return nil, errors.New("the certificates of the file sign each other in a circle")
		}
	}
}

func issuerIn(certs []*x509.Certificate, c *x509.Certificate) *x509.Certificate {
	for _, x := range certs {
		if x != c && c.CheckSignatureFrom(x) == nil {
			return x
		}
	}
	return nil
}
