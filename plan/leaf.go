package plan

import (
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// LeafOf is what people want to know of a certificate.
func LeafOf(c *x509.Certificate) Leaf {
	l := Leaf{
		Serial:    pki.SerialText(c.SerialNumber),
		NotBefore: c.NotBefore.UTC().Format(time.RFC3339),
		NotAfter:  c.NotAfter.UTC().Format(time.RFC3339),
		DNSNames:  c.DNSNames,
		SHA256:    Digest(c.Raw),
	}
	l.Subject, _ = pki.DNString(c.RawSubject)
	l.Issuer, _ = pki.DNString(c.RawIssuer)
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			l.IPs = append(l.IPs, a)
		}
	}
	return l
}
