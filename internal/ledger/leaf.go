package ledger

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// outside begins the label of what is no host; no host's name has a colon.
const outside = "cert:"

// OutsideHost is the label that stands as host of a certificate that was issued
// to a person or a program outside the fleet.
func OutsideHost(commonName string) string { return outside + commonName }

// IsOutside reports whether a host is such a label.
func IsOutside(host string) bool { return strings.HasPrefix(host, outside) }

// A Leaf is a certificate that was handed out, as its DER says it.
type Leaf struct {
	Authority   string
	Generation  int
	Serial      string // as pki.SerialText
	Host        string
	Certificate string // the certificate's name in policy
	State       State
	NotBefore   time.Time
	NotAfter    time.Time
	LeafSHA256  string // lower-case hex
}

// Leaves returns the leaves of the wanted hosts that have not ended by now, in
// the order in which they were issued: those in use (StateSigned,
// StateInstalled) and, if superseded is set, those that were replaced, whose
// keys may still exist somewhere. Revoked leaves are none of them.
func (l *Ledger) Leaves(ctx context.Context, want func(host string) bool, superseded bool, now time.Time) ([]Leaf, error) {
	where := "state IN ('signed', 'installed') ORDER BY id"
	if superseded {
		where = "state IN ('signed', 'installed', 'superseded') ORDER BY id"
	}
	all, err := issuances(ctx, l.db, where)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: reading leaves: %w", l.path, err)
	}
	var out []Leaf
	for _, i := range all {
		if !want(i.Host) {
			continue
		}
		cert, err := x509.ParseCertificate(i.Cert)
		if err != nil {
			return nil, fmt.Errorf("ledger %s: issuance %d: %w", l.path, i.ID, err)
		}
		if !cert.NotAfter.After(now) {
			continue
		}
		out = append(out, Leaf{Authority: i.Authority, Generation: i.Generation, Serial: i.Serial, Host: i.Host, Certificate: i.Certificate, State: i.State,
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, LeafSHA256: i.LeafSHA256})
	}
	return out, nil
}

// IssuanceBySerial finds what an authority issued under a serial; ErrNotFound if
// it was not issued through this ledger.
func (l *Ledger) IssuanceBySerial(ctx context.Context, authority, serial string) (Issuance, error) {
	i, err := issuance(ctx, l.db, "authority = ? AND serial = ?", authority, serial)
	if err != nil {
		return i, fmt.Errorf("ledger %s: serial %s of authority %s: %w", l.path, serial, authority, err)
	}
	return i, nil
}
