package pkitest

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// leafCases are the leaf profiles that were tried on real hosts.
func leafCases(b *Builder) []Case {
	u := &upstream{b: b, suite: "leaf", leafUse: "c DS KE", ca: b.Make(perfectCA("leaf CA"))}
	const server, client = pki.UsageServer, pki.UsageClient
	for _, t := range []struct {
		name, key, usage, purpose string
		role                      pki.Usage
		refused, code             string
	}{
		{"rsa-ku-c-ds-ke", "rsa", "c DS KE", "", server, "", ""},
		{"rsa-ku-c-ds", "rsa", "c DS", "", server, "old", "key-usage-encipherment"},
		{"ecdsa-ku-c-ds-ke", "", "c DS KE", "", server, "", ""},
		{"ecdsa-ku-c-ds", "", "c DS", "", server, "old", "key-usage-encipherment"},
		{"ecdsa-ku-n-ds", "", "n DS", "", server, "", ""},
		{"ed25519-ku-c-ds", "ed25519", "c DS", "", server, "old", "key-usage-encipherment"},
		{"ed25519-ku-n-ds", "ed25519", "n DS", "", server, "", ""},
		{"ed25519-ku-c-ds-ke", "ed25519", "c DS KE", "", server, "", ""},
		{"eku-c-both", "", "c DS KE", "c server client", server, "", ""},
		{"eku-n-both", "", "c DS KE", "n server client", client, "", ""},
		{"eku-c-server", "", "c DS KE", "c server", server, "", ""},
		{"eku-c-server-as-client", "", "c DS KE", "c server", client, "all", "purpose"},
		{"eku-n-server-as-client", "", "c DS KE", "n server", client, "", ""},
		{"eku-n-client-as-server", "", "c DS KE", "n client", server, "", ""},
		{"eku-c-client-as-server", "", "c DS KE", "c client", server, "all", "purpose"},
		{"eku-c-client", "", "c DS KE", "c client", client, "", ""},
		{"eku-c-any", "", "c DS KE", "c any", server, "libvirt", "purpose"},
		{"eku-c-any-as-client", "", "c DS KE", "c any", client, "libvirt", "purpose"},
		{"eku-n-any", "", "c DS KE", "n any", server, "", ""},
		{"eku-c-email", "", "c DS KE", "c email", server, "qemu", "purpose"},
		{"eku-c-email-as-client", "", "c DS KE", "c email", client, "qemu", "purpose"},
		{"no-extensions", "", "", "", server, "", ""},
	} {
		u.add(t.name, t.role, u.ca.PEM(), Spec{CommonName: "h", Names: []string{"h.example.test"}, Basic: "c leaf", Usage: t.usage, Purpose: t.purpose, Key: t.key, Signer: u.ca}, t.refused, t.code)
	}
	u.add("leaf-is-ca", server, u.ca.PEM(), Spec{CommonName: "h", Basic: "c ca", Usage: "c DS KE CS", Signer: u.ca}, "all", "cert-is-ca")
	u.add("no-basic", server, u.ca.PEM(), Spec{CommonName: "h", Usage: "c DS KE", Signer: u.ca}, "", "")
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}
	u.add("unknown-critical", server, u.ca.PEM(), Spec{CommonName: "h", Basic: "c leaf", Extra: []pkix.Extension{unknown}, Signer: u.ca}, "all", "critical-extension")
	limited := perfectCA("limited CA")
	limited.Constraint = "example.test"
	ca := b.Make(limited)
	u.add("constraint-kept", server, ca.PEM(), Spec{CommonName: "h", Names: []string{"h.example.test"}, Basic: "c leaf", Signer: ca}, "", "")
	u.add("constraint-broken", server, ca.PEM(), Spec{CommonName: "h", Names: []string{"h.example.org"}, Basic: "c leaf", Signer: ca}, "all", "name-constraint")
	other := b.Make(Spec{Country: "UK", CommonName: "leaf CA", Basic: "c ca", Usage: "c CS"})
	u.add("other-ca-same-name", server, other.PEM(), Spec{CommonName: "h", Basic: "c leaf", Signer: u.ca}, "all", "")
	leaf := b.Make(Spec{CommonName: "h", Basic: "c leaf", Signer: u.ca})
	u.cases = append(u.cases, Case{Name: "key-mismatch", Suite: u.suite, Role: server, CA: u.ca.PEM(), Cert: leaf.PEM(), Key: other.KeyPEM(), Refused: "all", Code: "key-mismatch"})
	text := append([]byte("subject: h\r\nissuer: x\r\n"), bytes.ReplaceAll(leaf.PEM(), []byte("\n"), []byte("\r\n"))...)
	u.cases = append(u.cases, Case{Name: "text-and-crlf", Suite: u.suite, Role: server, CA: append([]byte("a CA\n"), u.ca.PEM()...), Cert: text, Key: leaf.KeyPEM()})
	cut := u.ca.PEM()[:len(u.ca.PEM())-40]
	u.cases = append(u.cases, Case{Name: "ca-truncated", Suite: u.suite, Role: server, CA: append(u.ca.PEM(), cut...), Cert: leaf.PEM(), Key: leaf.KeyPEM(), Refused: "all", Code: "ca-unreadable"})
	return u.cases
}

// bundleCases are the CA files that were tried on real hosts.
func bundleCases(b *Builder) []Case {
	u := &upstream{b: b, suite: "bundle", leafUse: "c DS KE", ca: b.Make(perfectCA("bundle CA"))}
	leaf := func(ca *Cert) Spec { return u.perfect(pki.UsageServer, ca) }
	join := func(certs ...*Cert) []byte {
		var out []byte
		for _, c := range certs {
			out = append(out, c.PEM()...)
		}
		return out
	}
	var fill []*Cert
	for i := range 16 {
		fill = append(fill, b.Make(perfectCA(fmt.Sprintf("filler %d", i))))
	}
	old, young := perfectCA("old CA"), perfectCA("young CA")
	old.Start, old.End = -48*time.Hour, -time.Hour
	young.Start, young.End = time.Hour, 48*time.Hour
	expired, future := b.Make(old), b.Make(young)
	u.add("one-expired", pki.UsageServer, join(u.ca, expired), leaf(u.ca), "whole-file", "ca-expired")
	u.add("one-not-yet-valid", pki.UsageServer, join(u.ca, future), leaf(u.ca), "whole-file", "ca-not-yet-valid")
	u.add("16-issuer-first", pki.UsageServer, join(append([]*Cert{u.ca}, fill[:15]...)...), leaf(u.ca), "", "")
	u.add("17-issuer-first", pki.UsageServer, join(append([]*Cert{u.ca}, fill...)...), leaf(u.ca), "", "")
	u.add("17-issuer-last", pki.UsageServer, append(join(fill...), u.ca.PEM()...), leaf(u.ca), "whole-file", "no-issuer")
	u.add("17-expired-last", pki.UsageServer, append(join(append([]*Cert{u.ca}, fill[:15]...)...), expired.PEM()...), leaf(u.ca), "", "")
	u.add("duplicate", pki.UsageServer, join(u.ca, u.ca), leaf(u.ca), "", "")
	root := b.Make(perfectCA("Root"))
	s := perfectCA("Issuing")
	s.Signer = root
	issuing := b.Make(s)
	u.add("issuing-only", pki.UsageServer, join(issuing), leaf(issuing), "self-signed", "chain-not-self-signed")
	u.add("issuing-and-root", pki.UsageServer, join(issuing, root), leaf(issuing), "", "")
	u.add("leaf-and-root", pki.UsageServer, join(root), leaf(issuing), "all", "no-issuer")
	chain := b.Make(leaf(issuing))
	u.cases = append(u.cases, Case{Name: "chain-file-and-root", Suite: u.suite, Role: pki.UsageServer, CA: join(root),
		Cert: join(chain, issuing), Key: chain.KeyPEM(), Refused: "whole-file", Code: "no-issuer"})
	short := perfectCA("Short")
	short.Basic = "c ca0"
	top := b.Make(short)
	s = perfectCA("Below")
	s.Signer = top
	below := b.Make(s)
	u.add("path-length-unused", pki.UsageServer, join(below, top), leaf(below), "", "")
	return u.cases
}
