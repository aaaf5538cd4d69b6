package pki

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// CRLDue is when a revocation list is to be signed anew although nothing was
// revoked: when a third of its time is left.
func CRLDue(l *x509.RevocationList) time.Time {
	return l.NextUpdate.Add(-l.NextUpdate.Sub(l.ThisUpdate) / 3)
}

// List parses CRL. It is nil where the generation has no list.
func (g Generation) List() (*x509.RevocationList, error) {
	if len(g.CRL) == 0 {
		return nil, nil
	}
	l, err := x509.ParseRevocationList(g.CRL)
	if err != nil {
		return nil, fmt.Errorf("generation %d: its revocation list: %w", g.Number, err)
	}
	return l, nil
}

// Unfit says why a generation's list may not be given to hosts; empty where it
// may. A list is signed with serials that the ledger has as revoked, so whatever
// else revokes a certificate that is in use was not meant.
func (g Generation) Unfit() string {
	switch {
	case g.SignedCRL > g.CRLNumber:
		return fmt.Sprintf("the list in g%d.crl has number %d and the ledger has signed number %d: bring the authority's files up to date", g.Number, g.CRLNumber, g.SignedCRL)
	case len(g.Unrecorded) > 0:
		return fmt.Sprintf("the list in g%d.crl revokes a certificate that is in use and that the ledger does not have as revoked: %s", g.Number, g.Unrecorded[0])
	}
	return ""
}

// MergeCRLs gives the lists that should stand where seen stand: want, then those
// of seen whose issuer is none of ours. The second result is the latter.
func MergeCRLs(seen, want []*x509.RevocationList, ours []*x509.Certificate) (out, foreign []*x509.RevocationList) {
	out = slices.Clone(want)
	for _, l := range seen {
		if !slices.ContainsFunc(ours, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, l.RawIssuer) }) {
			foreign = append(foreign, l)
		}
	}
	return append(out, foreign...), foreign
}

// SameCRLs reports whether both hold the same lists in whatever order.
func SameCRLs(a, b []*x509.RevocationList) bool {
	within := func(x, y []*x509.RevocationList) bool {
		return !slices.ContainsFunc(x, func(l *x509.RevocationList) bool {
			return !slices.ContainsFunc(y, func(m *x509.RevocationList) bool { return bytes.Equal(l.Raw, m.Raw) })
		})
	}
	return within(a, b) && within(b, a)
}
