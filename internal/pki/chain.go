package pki

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"net"
	"slices"
	"strings"
	"time"
)

// Extensions that GnuTLS knows and Go's parser leaves unhandled.
var knownCritical = []asn1.ObjectIdentifier{
	{2, 5, 29, 18},                     // issuerAltName
	{2, 5, 29, 16},                     // privateKeyUsagePeriod
	{2, 5, 29, 54},                     // inhibitAnyPolicy
	{1, 3, 6, 1, 5, 5, 7, 1, 24},       // TLS features
	{1, 3, 6, 1, 5, 5, 7, 1, 14},       // proxy certificate
	{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, // signed certificate timestamps
}

// issued reports whether ca may have issued cert by their names and key
// identifiers (gnutls_x509_crt_check_issuer). The signature is another matter.
func issued(ca, cert *x509.Certificate) bool {
	return bytes.Equal(ca.RawSubject, cert.RawIssuer) &&
		(len(ca.SubjectKeyId) == 0 || len(cert.AuthorityKeyId) == 0 || bytes.Equal(ca.SubjectKeyId, cert.AuthorityKeyId))
}

func selfIssued(c *x509.Certificate) bool { return issued(c, c) }

// verifyChain does what gnutls_x509_crt_list_verify does: it verifies chain,
// leaf first and each followed by its issuer, against the anchors. An anchor
// need not be self-signed. It also gives the anchor that was used.
func verifyChain(chain, anchors []*x509.Certificate, now time.Time) (*x509.Certificate, []Problem) {
	if n := len(chain); n > 1 && selfIssued(chain[n-1]) {
		chain = chain[:n-1]
	}
	for i, c := range chain {
		if slices.ContainsFunc(anchors, c.Equal) {
			if i == 0 {
				return c, nil
			}
			chain = chain[:i]
			break
		}
	}
	last := chain[len(chain)-1]
	var first []Problem
	var anchor *x509.Certificate
	for _, ca := range anchors {
		if !issued(ca, last) {
			continue
		}
		found := verifyStep(chain, len(chain)-1, ca, now)
		if len(found) == 0 {
			anchor = ca
			break
		}
		if first == nil {
			first = found
		}
	}
	if anchor == nil {
		if first == nil {
			first = []Problem{problem("no-issuer",
				"no CA of the CA file issued %s: its issuer %s must be in the CA file itself", quoteDN(last.RawSubject), quoteDN(last.RawIssuer))}
		}
		return nil, first
	}
	for i := len(chain) - 2; i >= 0; i-- {
		if !issued(chain[i+1], chain[i]) {
			return nil, []Problem{problem("chain-order", "%s did not issue %s, which stands before it in the certificate file: write the leaf first and each issuer after it",
				quoteDN(chain[i+1].RawSubject), quoteDN(chain[i].RawSubject))}
		}
		if found := verifyStep(chain, i, chain[i+1], now); len(found) > 0 {
			return nil, found
		}
	}
	return anchor, nil
}

// verifyStep verifies chain[i] against its issuer.
func verifyStep(chain []*x509.Certificate, i int, issuer *x509.Certificate, now time.Time) []Problem {
	var v verdict
	cert := chain[i]
	name := quoteDN(issuer.RawSubject)
	if !issuer.BasicConstraintsValid || !issuer.IsCA {
		v.fail("ca-not-a-ca", "issuer %s is not a CA by its basic constraints: replace it by a CA certificate", name)
	}
	// GnuTLS wants this whether the extension is critical or not.
	if hasExtension(issuer, oidExtUsage) && issuer.KeyUsage&x509.KeyUsageCertSign == 0 {
		v.fail("ca-key-usage", "issuer %s may not sign certificates by its key usage: replace it", name)
	}
	v.checkTimes(issuer, now, "ca", "CA")
	v.checkTimes(cert, now, "cert", "certificate")
	if issuer.MaxPathLen > 0 || issuer.MaxPathLenZero {
		if i > issuer.MaxPathLen {
			v.fail("path-length", "issuer %s allows %d CAs below it and %d are: issue from another CA", name, issuer.MaxPathLen, i)
		}
	}
	for _, id := range slices.Concat(cert.UnhandledCriticalExtensions, issuer.UnhandledCriticalExtensions) {
		if !slices.ContainsFunc(knownCritical, id.Equal) {
			v.fail("critical-extension", "extension %s of %s or of its issuer is critical and unknown: issue it without", id, quoteDN(cert.RawSubject))
		}
	}
	if k, ok := issuer.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 1024 {
		v.fail("insecure", "issuer %s has an RSA key of %d bits: replace it", name, k.N.BitLen())
	} else if err := issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		if _, weak := err.(x509.InsecureAlgorithmError); weak {
			v.fail("insecure", "the signature of %s uses %s, which is refused as insecure: issue it with SHA-256", quoteDN(cert.RawSubject), cert.SignatureAlgorithm)
		} else {
			v.fail("signature", "%s is named as issuer of %s but did not sign it: another CA of the same name is in the CA file", name, quoteDN(cert.RawSubject))
		}
	}
	for _, below := range chain[:i+1] {
		checkNameConstraints(&v, below, issuer)
	}
	return v.problems
}

func checkNameConstraints(v *verdict, cert, ca *x509.Certificate) {
	within := func(name, constraint string) bool {
		name, constraint = strings.ToLower(name), strings.ToLower(strings.TrimPrefix(constraint, "."))
		return constraint == "" || name == constraint || strings.HasSuffix(name, "."+constraint)
	}
	covers := func(nets []*net.IPNet, ip net.IP) bool {
		return slices.ContainsFunc(nets, func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	bad := func(name string) {
		v.fail("name-constraint", "issuer %s may not issue for %q: issue from another CA or without that name", quoteDN(ca.RawSubject), name)
	}
	for _, name := range cert.DNSNames {
		in := func(c string) bool { return within(name, c) }
		if len(ca.PermittedDNSDomains) > 0 && !slices.ContainsFunc(ca.PermittedDNSDomains, in) || slices.ContainsFunc(ca.ExcludedDNSDomains, in) {
			bad(name)
		}
	}
	for _, ip := range cert.IPAddresses {
		if len(ca.PermittedIPRanges) > 0 && !covers(ca.PermittedIPRanges, ip) || covers(ca.ExcludedIPRanges, ip) {
			bad(ip.String())
		}
	}
}

// sortChain orders what a peer presented into a path that starts with its
// leaf, as GnuTLS does in a session, and leaves out what is not on it and a
// self-signed end.
func sortChain(presented []*x509.Certificate) []*x509.Certificate {
	path, rest := presented[:1:1], slices.Clone(presented[1:])
	for {
		last := path[len(path)-1]
		i := slices.IndexFunc(rest, func(c *x509.Certificate) bool { return issued(c, last) })
		if i < 0 || selfIssued(last) || selfIssued(rest[i]) {
			return path
		}
		path = append(path, rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
}

// sessionAnchors are the CAs that GnuTLS looks at in a session: the issuer of
// the last certificate presented, and that certificate itself. So a peer is
// refused that sends more than the trusted CA which is not self-signed, though
// without the surplus it is accepted.
func sessionAnchors(path, cas []*x509.Certificate) []*x509.Certificate {
	last := path[len(path)-1]
	var out []*x509.Certificate
	for _, ca := range cas {
		if bytes.Equal(ca.RawSubject, last.RawIssuer) || bytes.Equal(ca.RawSubject, last.RawSubject) {
			out = append(out, ca)
		}
	}
	return out
}

func hasExtension(c *x509.Certificate, id asn1.ObjectIdentifier) bool {
	_, ok := extension(c, id)
	return ok
}

// extension gives whether a certificate has an extension and it is critical.
func extension(c *x509.Certificate, id asn1.ObjectIdentifier) (critical, ok bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(id) {
			return e.Critical, true
		}
	}
	return false, false
}
