package ledger

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// Adopt records a leaf, DER, that a host was found with and that this ledger
// does not know: so a ledger is rebuilt. The caller has verified that the
// generation signed it. It becomes installed, or revoked where its serial is;
// its profile is what the certificate shows. Adopting a known leaf changes
// nothing. A serial that another leaf has is ErrSerialTaken.
func (l *Ledger) Adopt(ctx context.Context, run, authority string, generation int, host, certificate string, der []byte) error {
	return l.write(ctx, fmt.Sprintf("adopting %s of %s", certificate, host), func(tx *sql.Tx, now time.Time) error {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if host == "" || certificate == "" {
			return errors.New("an issuance has a host and a certificate")
		}
		if _, err := issuance(ctx, tx, "leaf_sha256 = ?", digest(der)); err == nil {
			return nil
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		serial := pki.SerialText(cert.SerialNumber)
		if _, err := issuance(ctx, tx, "authority = ? AND serial = ?", authority, serial); err == nil {
			return fmt.Errorf("%w: %s", ErrSerialTaken, serial)
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		state := StateInstalled
		var revoked bool
		if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM revocation WHERE authority = ? AND serial = ?)", authority, serial).Scan(&revoked); err != nil {
			return err
		}
		if revoked {
			state = StateRevoked
		}
		profile, err := json.Marshal(profileOf(certificate, cert))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO issuance (authority, generation, serial, host, certificate, profile, spki_sha256, state, cert, leaf_sha256, run, begun, changed)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			authority, generation, serial, host, certificate, string(profile), digest(cert.RawSubjectPublicKeyInfo), string(state), der, digest(der), run, stamp(now), stamp(now))
		if err != nil {
			return err
		}
		return l.audit(ctx, tx, now, run, "issuance.adopted", host+" "+certificate, fmt.Sprintf("%s g%d serial %s", authority, generation, serial))
	})
}

// profileOf is a profile that a certificate would fit.
func profileOf(name string, c *x509.Certificate) pki.Profile {
	p := pki.Profile{Name: name, CommonName: c.Subject.CommonName, DNSNames: c.DNSNames, KeyAlgorithm: pki.AlgorithmOf(c.PublicKey),
		Lifetime: c.NotAfter.Sub(c.NotBefore)}
	if len(c.Subject.Organization) > 0 {
		p.Organization = c.Subject.Organization[0]
	}
	if len(c.Subject.OrganizationalUnit) > 0 {
		p.OrganizationalUnit = c.Subject.OrganizationalUnit[0]
	}
	for _, raw := range c.IPAddresses {
		if ip, ok := netip.AddrFromSlice(raw); ok {
			p.IPs = append(p.IPs, ip.Unmap())
		}
	}
	for _, u := range c.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageServerAuth:
			p.Usages = append(p.Usages, pki.UsageServer)
		case x509.ExtKeyUsageClientAuth:
			p.Usages = append(p.Usages, pki.UsageClient)
		}
	}
	return p
}
