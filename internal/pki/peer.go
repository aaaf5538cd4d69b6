package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"
)

// A PeerQuestion asks whether a consumer would accept what its peer presents
// in a handshake.
type PeerQuestion struct {
	Rules      Rules
	Role       Usage     // the role that the peer plays
	Now        time.Time // the consumer's clock
	Chain      [][]byte  // DER as presented, leaf first
	CA         []byte    // the consumer's CA file, PEM
	CRL        []byte    // the consumer's CRL file, PEM; empty means none
	Host       string    // the name or address dialled; asked only of servers, empty skips the check
	CheckDN    bool      // whether a tls_allowed_dn_list is set
	AllowedDNs []string  // the globs of that list; empty with CheckDN refuses every client
}

// JudgePeer answers as the consumer's check of a session would, but names
// every problem and not the first alone. Unlike at start all CAs of the file
// count, and a bad one beside the chain does no harm.
// Sources: virNetTLSContextValidCertificate and virNetTLSCertValidate
// (libvirt src/rpc), qcrypto_tls_session_check_certificate (QEMU
// crypto/tlssession.c), gnutls_certificate_verify_peers2.
func JudgePeer(q PeerQuestion) Verdict {
	var v verdict
	cas := ParseBundle(q.CA)
	for _, p := range cas.Problems {
		if p.Code != "ca-too-large" {
			v.fail(p.Code, "%s", p.Text)
		}
	}
	var chain []*x509.Certificate
	for i, der := range q.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			v.fail("cert-unreadable", "certificate %d of the peer cannot be read: %v", i+1, err)
			return v.done()
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		v.fail("cert-missing", "the peer presented no certificate: install its %s certificate", q.Role)
		return v.done()
	}
	path := sortChain(chain)
	anchor, problems := verifyChain(path, sessionAnchors(path, cas.Certs), q.Now)
	for _, p := range problems {
		v.fail(p.Code, "%s", p.Text)
	}
	for i, c := range chain {
		if i == 0 {
			v.checkTimes(c, q.Now, "cert", "certificate")
		} else {
			v.checkTimes(c, q.Now, "ca", "CA presented by the peer,")
		}
	}
	v.checkRevoked(q, path, anchor)
	leaf := chain[0]
	if q.Role == UsageServer && q.Host != "" && !MatchHost(leaf, q.Host) {
		v.fail("host-mismatch", "certificate %s is not for %q: list that name or address in it", quoteDN(leaf.RawSubject), q.Host)
	}
	dn, err := DNString(leaf.RawSubject)
	if err != nil {
		v.fail("dn-unreadable", "the subject of the peer's certificate cannot be read (%v): issue it with another subject", err)
	}
	if q.Role == UsageClient && q.CheckDN {
		if err != nil || !slices.ContainsFunc(q.AllowedDNs, func(g string) bool { return MatchDN(g, dn) }) {
			v.fail("dn-refused", "%s is not on the list of allowed clients: add it to tls_allowed_dn_list and restart the daemon", quoteDN(leaf.RawSubject))
		}
	}
	if q.Rules.PeerExtensions {
		v.checkLeafExtensions(leaf, q.Rules, q.Role)
	}
	return v.done()
}

// checkRevoked looks each certificate of the path up in the list of its
// issuer. GnuTLS finds that list by the issuer's name alone, takes the one with
// the newest thisUpdate, goes on using it after nextUpdate and does not verify
// its signature.
func (v *verdict) checkRevoked(q PeerQuestion, path []*x509.Certificate, anchor *x509.Certificate) {
	// QEMU loads a revocation list for server endpoints only.
	if len(q.CRL) == 0 || q.Rules.Consumer == ConsumerQEMU && q.Role == UsageServer {
		return
	}
	lists, err := ParseCRLs(q.CRL)
	if err != nil {
		v.fail("crl-unreadable", "%v: install the list again", err)
		return
	}
	for _, c := range path {
		if anchor != nil && c.Equal(anchor) {
			continue
		}
		var newest *x509.RevocationList
		for _, l := range lists {
			if bytes.Equal(l.RawIssuer, c.RawIssuer) && (newest == nil || l.ThisUpdate.After(newest.ThisUpdate)) {
				newest = l
			}
		}
		if newest == nil {
			continue
		}
		if slices.ContainsFunc(newest.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
			return e.SerialNumber.Cmp(c.SerialNumber) == 0
		}) {
			v.fail("revoked", "certificate %s (serial %s) is revoked: issue a new one", quoteDN(c.RawSubject), SerialText(c.SerialNumber))
		}
		if !newest.NextUpdate.IsZero() && newest.NextUpdate.Before(q.Now) {
			v.warn("crl-stale", "the revocation list of %s was to be replaced by %s; it still counts, but newer revocations are missed: publish a new one",
				quoteDN(c.RawIssuer), newest.NextUpdate.UTC().Format(time.RFC3339))
		}
	}
}

// purposes lists the extended key usages in order, known or not.
func purposes(c *x509.Certificate) []asn1.ObjectIdentifier {
	for _, e := range c.Extensions {
		if e.Id.Equal(oidExtPurpose) {
			var ids []asn1.ObjectIdentifier
			if _, err := asn1.Unmarshal(e.Value, &ids); err != nil {
				return nil
			}
			return ids
		}
	}
	return nil
}
