package pkitest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// upstream has what the unit tests of libvirt and QEMU share: the same list of
// good and bad certificates under different numbers.
type upstream struct {
	b       *Builder
	suite   string
	ca      *Cert
	leafUse string // key usage of a perfect leaf: QEMU's tests dropped keyEncipherment
	cases   []Case
}

func (u *upstream) refusedAlways() string {
	if u.leafUse == "c DS" {
		return "old"
	}
	return ""
}

func (u *upstream) perfect(role pki.Usage, ca *Cert) Spec {
	return Spec{Country: "UK", CommonName: "host.example.test", Basic: "c leaf", Usage: u.leafUse, Purpose: "c " + string(role), Signer: ca}
}

func (u *upstream) add(name string, role pki.Usage, ca []byte, leaf Spec, refused, code string) {
	c := u.b.Make(leaf)
	u.cases = append(u.cases, Case{Name: name, Suite: u.suite, Role: role, CA: ca, Cert: c.PEM(), Key: c.KeyPEM(), Refused: refused, Code: code})
}

// leaf adds a leaf that deviates from the perfect one in usage and purpose.
func (u *upstream) leaf(name string, role pki.Usage, usage, purpose, refused, code string) {
	u.add(name, role, u.ca.PEM(), Spec{Country: "UK", CommonName: "host", Basic: "c leaf", Usage: usage, Purpose: purpose, Signer: u.ca}, refused, code)
}

// caCase adds a perfect server under a CA that deviates.
func (u *upstream) caCase(name string, ca Spec, refused, code string) {
	c := u.b.Make(ca)
	if refused == "" {
		refused = u.refusedAlways()
	}
	u.add(name, pki.UsageServer, c.PEM(), u.perfect(pki.UsageServer, c), refused, code)
}

func (u *upstream) roles(names map[pki.Usage]string) {
	for _, role := range []pki.Usage{pki.UsageServer, pki.UsageClient} {
		n := func(i int) string { return fmt.Sprintf(names[role], i) }
		other := map[pki.Usage]string{pki.UsageServer: "client", pki.UsageClient: "server"}[role]
		signing := "c DS KE CS"
		signingRefused := ""
		if u.leafUse == "c DS" {
			signing, signingRefused = "c DS CS", "old"
		}
		u.leaf(n(1), role, "", "", "", "")
		u.leaf(n(2), role, signing, "", signingRefused, "")
		u.leaf(n(3), role, "n CS", "", "", "")
		u.leaf(n(4), role, "", "c "+string(role), "", "")
		u.leaf(n(5), role, "", "n "+string(role), "", "")
		u.leaf(n(6), role, "", "c client server", "", "")
		u.leaf(n(7), role, "", "n client server", "", "")
		u.leaf(n(8), role, "c CS", "", "all", "key-usage-signature")
		u.leaf(n(9), role, "", "c "+other, "all", "purpose")
		u.leaf(n(10), role, "c", "", "all", "key-usage-signature")
	}
}

func (u *upstream) times() {
	for what, d := range map[string][2]time.Duration{"exp": {-48 * time.Hour, -time.Hour}, "new": {time.Hour, 2 * time.Hour}} {
		ca := perfectCA("CA " + what)
		ca.Start, ca.End = d[0], d[1]
		code := map[string]string{"exp": "expired", "new": "not-yet-valid"}[what]
		u.caCase("cacert"+what, ca, "all", "ca-"+code)
		for _, role := range []pki.Usage{pki.UsageServer, pki.UsageClient} {
			s := u.perfect(role, u.ca)
			s.Start, s.End = d[0], d[1]
			u.add(string(role)+"cert"+what, role, u.ca.PEM(), s, "all", "cert-"+code)
		}
	}
}

// chains adds a level-3 server and a level-2 client whose CAs are all in the
// CA file.
func (u *upstream) chains() []*Cert {
	make := func(cn string, signer *Cert) *Cert {
		s := perfectCA(cn)
		s.Signer = signer
		return u.b.Make(s)
	}
	root := make("root", nil)
	l1a, l1b := make("level 1a", root), make("level 1b", root)
	l2a := make("level 2a", l1a)
	file := bytes.Join([][]byte{root.PEM(), l1a.PEM(), l1b.PEM(), l2a.PEM()}, nil)
	u.add("chain1", pki.UsageServer, file, u.perfect(pki.UsageServer, l2a), u.refusedAlways(), "")
	u.add("chain2", pki.UsageClient, file, u.perfect(pki.UsageClient, l1b), u.refusedAlways(), "")
	return []*Cert{root, l1a, l1b, l2a}
}

// libvirtCases are those of libvirt's tests/virnettlscontexttest.c.
func libvirtCases(b *Builder) []Case {
	u := &upstream{b: b, suite: "libvirt", leafUse: "c DS KE", ca: b.Make(perfectCA("libvirt CA"))}
	u.add("servercert", pki.UsageServer, u.ca.PEM(), u.perfect(pki.UsageServer, u.ca), "", "")
	u.add("clientcert", pki.UsageClient, u.ca.PEM(), u.perfect(pki.UsageClient, u.ca), "", "")
	u.caCase("cacert1", Spec{Country: "UK", CommonName: "CA 1", Basic: "c ca"}, "", "")
	u.caCase("cacert2", Spec{Country: "UK", CommonName: "CA 2", Basic: "n ca"}, "", "")
	u.caCase("cacert4", Spec{Country: "UK", CommonName: "CA 4", Basic: "c ca", Usage: "c CS"}, "", "")
	u.caCase("cacert5", Spec{Country: "UK", CommonName: "CA 5", Basic: "c ca", Usage: "n DS"}, "all", "ca-key-usage")
	u.caCase("cacert6", Spec{Country: "UK", CommonName: "CA 6"}, "all", "ca-not-a-ca")
	u.caCase("cacert7", Spec{Country: "UK", CommonName: "CA 7", Basic: "c ca", Usage: "c DS"}, "all", "ca-key-usage")
	u.roles(map[pki.Usage]string{pki.UsageServer: "servercert%d", pki.UsageClient: "clientcert%d"})
	u.times()
	u.chains()
	return u.cases
}

// qemuCases are those of QEMU's tests/unit/test-crypto-tlscredsx509.c as of
// 10.2, whose leaves have digitalSignature alone.
func qemuCases(b *Builder) []Case {
	u := &upstream{b: b, suite: "qemu", leafUse: "c DS", ca: b.Make(perfectCA("qemu CA"))}
	u.add("perfectserver", pki.UsageServer, u.ca.PEM(), u.perfect(pki.UsageServer, u.ca), "old", "key-usage-encipherment")
	u.add("perfectclient", pki.UsageClient, u.ca.PEM(), u.perfect(pki.UsageClient, u.ca), "old", "key-usage-encipherment")
	u.caCase("goodca1", Spec{Country: "UK", CommonName: "qemu CA 1", Basic: "c ca"}, "", "")
	u.caCase("goodca2", Spec{Country: "UK", CommonName: "qemu CA 2", Basic: "n ca"}, "", "")
	u.caCase("goodca3", Spec{Country: "UK", CommonName: "qemu CA 3", Basic: "c ca", Usage: "c CS"}, "", "")
	u.caCase("badca1", Spec{Country: "UK", CommonName: "qemu CA 4", Basic: "c ca", Usage: "n DS"}, "all", "ca-key-usage")
	u.caCase("badca2", Spec{Country: "UK", CommonName: "qemu CA 5"}, "all", "ca-not-a-ca")
	u.caCase("badca3", Spec{Country: "UK", CommonName: "qemu CA 6", Basic: "c ca", Usage: "c DS"}, "all", "ca-key-usage")
	u.roles(map[pki.Usage]string{pki.UsageServer: "server%d", pki.UsageClient: "client%d"})
	u.times()
	cas := u.chains()
	root, l1a, l1b, l2a := cas[0], cas[1], cas[2], cas[3]
	old := perfectCA("level 1c")
	old.Signer, old.Start, old.End = root, -48*time.Hour, -time.Hour
	expired := u.b.Make(old)
	u.add("certchainwithexpiredcert", pki.UsageClient, bytes.Join([][]byte{root.PEM(), l1a.PEM(), l1b.PEM(), expired.PEM(), l2a.PEM()}, nil),
		u.perfect(pki.UsageClient, l1b), "whole-file", "ca-expired")
	u.add("chainincomplete", pki.UsageServer, bytes.Join([][]byte{root.PEM(), l2a.PEM()}, nil),
		u.perfect(pki.UsageServer, l2a), "old self-signed", "")
	leaf := u.b.Make(u.perfect(pki.UsageServer, u.ca))
	u.cases = append(u.cases,
		Case{Name: "missingca", Suite: u.suite, Role: pki.UsageServer, Cert: leaf.PEM(), Key: leaf.KeyPEM(), Refused: "all", Code: "ca-missing"},
		Case{Name: "missingserver", Suite: u.suite, Role: pki.UsageServer, CA: u.ca.PEM(), Refused: "all", Code: "cert-missing"},
		Case{Name: "missingclient", Suite: u.suite, Role: pki.UsageClient, CA: u.ca.PEM()})
	return u.cases
}
