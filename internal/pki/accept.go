package pki

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// A Question asks whether a consumer would start with an identity: the
// start-up (sanity) check of its own certificate and CA file.
type Question struct {
	Rules Rules
	Role  Usage            // the endpoint that the identity is for
	Now   time.Time        // the consumer's clock
	Cert  []byte           // the certificate file, PEM; empty means there is none
	CA    []byte           // the CA file, PEM
	Key   crypto.PublicKey // public half of the key file; nil means not known and not compared
}

// A Problem is one reason why a certificate is refused, or a warning about it.
type Problem struct {
	Code string `json:"code"` // stable, such as "ca-expired"
	Text string `json:"text"` // what is wrong and what to do; may quote a certificate
}

// A Verdict is the answer to a Question or a PeerQuestion.
type Verdict struct {
	OK       bool      `json:"ok"` // there is no problem; warnings do not count
	Problems []Problem `json:"problems,omitempty"`
	Warnings []Problem `json:"warnings,omitempty"`
}

// Has reports whether the verdict has a problem of that code.
func (v Verdict) Has(code string) bool {
	return slices.ContainsFunc(v.Problems, func(p Problem) bool { return p.Code == code })
}

type verdict struct{ problems, warnings []Problem }

func (v *verdict) fail(code, format string, args ...any) {
	if p := problem(code, format, args...); !slices.Contains(v.problems, p) {
		v.problems = append(v.problems, p)
	}
}

func (v *verdict) warn(code, format string, args ...any) {
	if p := problem(code, format, args...); !slices.Contains(v.warnings, p) {
		v.warnings = append(v.warnings, p)
	}
}

func (v *verdict) done() Verdict {
	return Verdict{OK: len(v.problems) == 0, Problems: v.problems, Warnings: v.warnings}
}

// Judge answers as the consumer's own check at start would, but names every
// problem and not the first alone. A certificate that Go cannot parse is
// refused, even where GnuTLS might take it.
// Sources: virNetTLSCertSanityCheck (libvirt src/rpc/virnettlscert.c),
// qcrypto_tls_creds_x509_sanity_check (QEMU crypto/tlscredsx509.c).
func Judge(q Question) Verdict {
	var v verdict
	cas := v.readCAs(q)
	chain := v.readCerts(q)
	if len(chain) > 0 {
		v.checkLeaf(chain[0], q.Rules, q.Role, q.Now)
		if q.Key != nil && !samePublicKey(q.Key, chain[0].PublicKey) {
			v.fail("key-mismatch", "the key file does not belong to certificate %s: install both from one generation", quoteDN(chain[0].RawSubject))
		}
	}
	read := cas
	if q.Rules.MaxCAs > 0 && len(read) > q.Rules.MaxCAs {
		v.warn("ca-ignored", "the CA file has %d certificates, those after number %d are ignored: remove CAs that are no longer used", len(read), q.Rules.MaxCAs)
		read = read[:q.Rules.MaxCAs]
	}
	if q.Rules.CheckAllCAs {
		for _, ca := range read {
			v.checkCA(ca, q.Now)
		}
	}
	if len(chain) == 0 || len(cas) == 0 {
		return v.done()
	}
	if q.Rules.ReadCertChain {
		for _, c := range chain[1:] {
			v.checkCA(c, q.Now)
		}
	} else {
		chain = chain[:1]
	}
	if q.Rules.ChainToSelfSigned {
		v.walkToRoot(chain, read, q.Now)
	}
	_, problems := verifyChain(chain, read, q.Now)
	for _, p := range problems {
		v.fail(p.Code, "%s", p.Text)
	}
	return v.done()
}

func (v *verdict) readCAs(q Question) []*x509.Certificate {
	b := ParseBundle(q.CA)
	for _, p := range b.Problems {
		// The size is libvirt's limit and QEMU has none.
		if p.Code != "ca-too-large" || q.Rules.MaxBytes > 0 {
			v.fail(p.Code, "%s", p.Text)
		}
	}
	return b.Certs
}

func (v *verdict) readCerts(q Question) []*x509.Certificate {
	if len(q.Cert) == 0 {
		if q.Role == UsageServer {
			v.fail("cert-missing", "there is no server certificate: a server cannot start without")
		} else {
			v.warn("cert-missing", "there is no client certificate: servers that ask for one will refuse")
		}
		return nil
	}
	if q.Rules.MaxBytes > 0 && len(q.Cert) > q.Rules.MaxBytes {
		v.fail("cert-too-large", "the certificate file has %d bytes and %d are read: leave the leaf and its issuers alone in it", len(q.Cert), q.Rules.MaxBytes)
	}
	blocks, err := readPEM(q.Cert, "CERTIFICATE", "X509 CERTIFICATE")
	if err == nil && len(blocks) == 0 {
		err = fmt.Errorf("it holds no certificate")
	}
	if err != nil {
		v.fail("cert-unreadable", "the certificate file: %v: install the certificate again", err)
		return nil
	}
	var certs []*x509.Certificate
	for i, b := range blocks {
		c, err := x509.ParseCertificate(b.der)
		if b.err != nil {
			err = b.err
		}
		if err != nil {
			v.fail("cert-unreadable", "certificate %d of the certificate file cannot be read (%v): install it again", i+1, err)
			return certs
		}
		certs = append(certs, c)
	}
	return certs
}

// walkToRoot is QEMU's check since 10.2: from the last certificate of the file
// through the CA file to a self-signed CA, checking each CA on the way.
func (v *verdict) walkToRoot(chain, cas []*x509.Certificate, now time.Time) {
	for i := range chain[1:] {
		if !issued(chain[i+1], chain[i]) {
			v.fail("chain-order", "%s did not issue %s, which stands before it in the certificate file: write the leaf first and each issuer after it",
				quoteDN(chain[i+1].RawSubject), quoteDN(chain[i].RawSubject))
			return
		}
	}
	at := chain[len(chain)-1]
	for range len(cas) + 1 {
		if selfIssued(at) {
			v.checkCA(at, now)
			return
		}
		i := slices.IndexFunc(cas, func(ca *x509.Certificate) bool { return issued(ca, at) })
		if i < 0 {
			v.fail("chain-not-self-signed", "%s has no issuer in the CA file, and this consumer wants the chain up to a self-signed CA: add its issuer %s",
				quoteDN(at.RawSubject), quoteDN(at.RawIssuer))
			return
		}
		v.checkCA(cas[i], now)
		at = cas[i]
	}
	v.fail("chain-not-self-signed", "the CAs of the CA file issued each other in a circle: add a self-signed CA")
}

func (v *verdict) checkTimes(c *x509.Certificate, now time.Time, code, what string) {
	if c.NotAfter.Before(now.Truncate(time.Second)) {
		v.fail(code+"-expired", "%s %s expired on %s: %s", what, quoteDN(c.RawSubject), c.NotAfter.UTC().Format(time.RFC3339),
			map[string]string{"ca": "remove it from the CA file", "cert": "renew it"}[code])
	}
	if c.NotBefore.After(now) {
		v.fail(code+"-not-yet-valid", "%s %s is not valid before %s: check the clock of the host, or wait",
			what, quoteDN(c.RawSubject), c.NotBefore.UTC().Format(time.RFC3339))
	}
}

// checkCA is the check of one certificate as a CA.
func (v *verdict) checkCA(c *x509.Certificate, now time.Time) {
	name := quoteDN(c.RawSubject)
	v.checkTimes(c, now, "ca", "CA")
	if !c.BasicConstraintsValid || !c.IsCA {
		v.fail("ca-not-a-ca", "%s is not a CA by its basic constraints: remove it from the CA file", name)
	}
	if critical, ok := extension(c, oidExtUsage); ok && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		text := "CA %s may not sign certificates by its key usage: replace it"
		if critical {
			v.fail("ca-key-usage", text, name)
		} else {
			v.warn("ca-key-usage", text, name)
		}
	}
}

// checkLeaf is the check of one certificate as the identity of a role.
func (v *verdict) checkLeaf(c *x509.Certificate, r Rules, role Usage, now time.Time) {
	v.checkTimes(c, now, "cert", "certificate")
	v.checkLeafExtensions(c, r, role)
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
		v.warn("weak-key", "certificate %s has an RSA key of %d bits, which many systems refuse by policy: issue it for a new key", quoteDN(c.RawSubject), k.N.BitLen())
	}
}

func (v *verdict) checkLeafExtensions(c *x509.Certificate, r Rules, role Usage) {
	name := quoteDN(c.RawSubject)
	if c.BasicConstraintsValid && c.IsCA {
		v.fail("cert-is-ca", "certificate %s is a CA by its basic constraints: a %s needs a leaf", name, role)
	}
	note := func(critical bool, code, text string) {
		if critical {
			v.fail(code, text, name)
		} else {
			v.warn(code, text, name)
		}
	}
	if critical, ok := extension(c, oidExtUsage); ok {
		if c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
			note(critical, "key-usage-signature", "certificate %s lacks digitalSignature in its key usage: issue it with digitalSignature and keyEncipherment")
		}
		if r.RequireKeyEncipherment && c.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
			note(critical, "key-usage-encipherment", "certificate %s lacks keyEncipherment in its key usage, which this version demands: issue it with key_usage = \"compatible\"")
		}
	}
	if critical, ok := extension(c, oidExtPurpose); ok && !allowsRole(c, r, role) {
		note(critical, "purpose", "certificate %s is not for a TLS "+string(role)+" by its extended key usage: issue it with serverAuth or clientAuth as needed")
	}
}

func allowsRole(c *x509.Certificate, r Rules, role Usage) bool {
	for _, id := range purposes(c) {
		any := id.Equal(oidAnyPurpose)
		switch {
		case id.Equal(oidServerAuth):
			if role == UsageServer {
				return true
			}
		case id.Equal(oidClientAuth):
			if role == UsageClient {
				return true
			}
		case any != r.InvertedAnyPurpose:
			return true
		}
	}
	return false
}
