package authority

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// renewedOf finds the generation whose CA was renewed with its key: the first
// certificate of the chain, or one of its issuers, is a later one for the same
// name and key. What was signed before is accepted with either, so that nothing
// has to be made anew and the generation stays.
func renewedOf(have pki.Authority, chain []*x509.Certificate) (pki.Generation, bool, error) {
	for _, g := range have.Generations {
		old, err := g.Certificate()
		if err != nil {
			return g, false, err
		}
		if !bytes.Equal(old.RawSubjectPublicKeyInfo, chain[0].RawSubjectPublicKeyInfo) {
			continue
		}
		if !pki.SameCA(old, chain[0]) {
			return g, false, fmt.Errorf("%q has the key of generation %d, which is %q: what is signed would be looked up by name and not found; have the CA renewed under its name, or with a new key", chain[0].Subject.CommonName, g.Number, old.Subject.CommonName)
		}
		if !bytes.Equal(old.SubjectKeyId, chain[0].SubjectKeyId) {
			return g, false, fmt.Errorf("%q has the key of generation %d and another key identifier: what is signed already would not be found to be its; have the CA renewed with its identifier, or with a new key", chain[0].Subject.CommonName, g.Number)
		}
		parents := make([][]byte, 0, len(chain)-1)
		for _, c := range chain[1:] {
			parents = append(parents, c.Raw)
		}
		switch same := old.Equal(chain[0]); {
		case same && equalDER(g.Parents, parents):
			return g, false, fmt.Errorf("%w: it is generation %d", ErrExists, g.Number)
		case !g.Phase.Trusted():
			return g, false, fmt.Errorf("its generation %d is %s and is not trusted any more", g.Number, g.Phase)
		case chain[0].NotAfter.Before(old.NotAfter):
			return g, false, fmt.Errorf("%q ends %s, before the certificate of generation %d that is here (%s)", chain[0].Subject.CommonName, chain[0].NotAfter.UTC().Format(time.DateOnly), g.Number, old.NotAfter.UTC().Format(time.DateOnly))
		}
		return g, true, nil
	}
	return pki.Generation{}, false, nil
}

func equalDER(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// exchange puts a renewed certificate in the place of the one before.
func exchange(ctx context.Context, p ImportParams, g pki.Generation, chain []*x509.Certificate, l *ledger.Ledger) (pki.Authority, error) {
	path := filepath.Join(p.Dir, certName(g.Number))
	before, err := readRegular(path, maxCertFile)
	if err != nil {
		return pki.Authority{}, err
	}
	if err := replaceFile(path, pki.RenderCerts(chain...), 0o644); err != nil {
		return pki.Authority{}, err
	}
	a, err := Read(p.Name, p.Dir)
	if err == nil {
		g.Cert = chain[0].Raw
		err = l.AddGeneration(ctx, p.Run, p.Name, g)
	}
	if err != nil {
		return pki.Authority{}, errors.Join(err, replaceFile(path, before, 0o644))
	}
	return a, nil
}
