package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// O=Example,OU=libvirt,CN=kvm1.example.org, each a UTF8String.
const goldenSubject = "303f3110300e060355040a0c074578616d706c653110300e060355040b0c076c69627669727431193017060355" +
	"04030c106b766d312e6578616d706c652e6f7267"

func leafProfile() pki.Profile {
	return pki.Profile{
		Name: "libvirt-server", CommonName: "kvm1.example.org", Organization: "Example", OrganizationalUnit: "libvirt",
		DNSNames: []string{"kvm1.example.org", "kvm1"}, IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		Usages: []pki.Usage{pki.UsageServer}, Lifetime: 90 * 24 * time.Hour,
	}
}

func newCA(t *testing.T) (pki.CAProfile, *x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := pki.NewSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := pki.CAProfile{Organization: "Example", Name: "libvirt", Number: 1}
	cert, err := pki.NewAuthority(testNow, p, key, serial)
	if err != nil {
		t.Fatal(err)
	}
	return p, cert, key
}

func newCSR(t *testing.T, key crypto.Signer) *pki.CSR {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"evil.example.org"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.ParseCSR(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func sign(t *testing.T, ca *x509.Certificate, key crypto.Signer, p pki.Profile) *pki.Leaf {
	t.Helper()
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := pki.NewSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := pki.SignLeaf(testNow, ca, key, newCSR(t, leafKey), p, serial)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func TestSignLeaf(t *testing.T) {
	_, ca, key := newCA(t)
	p := leafProfile()
	leaf := sign(t, ca, key, p)
	c := leaf.Cert
	if leaf.Capped || !c.NotBefore.Equal(testNow.Add(-time.Hour)) || !c.NotAfter.Equal(testNow.Add(p.Lifetime)) {
		t.Errorf("capped %v, from %s to %s", leaf.Capped, c.NotBefore, c.NotAfter)
	}
	if !bytes.Equal(c.AuthorityKeyId, ca.SubjectKeyId) || len(c.SubjectKeyId) != 20 {
		t.Errorf("key identifiers %x %x", c.AuthorityKeyId, c.SubjectKeyId)
	}
	critical := map[string]bool{}
	for _, e := range c.Extensions {
		critical[e.Id.String()] = e.Critical
	}
	want := map[string]bool{"2.5.29.15": true, "2.5.29.19": true, "2.5.29.37": true, "2.5.29.17": false, "2.5.29.14": false, "2.5.29.35": false}
	if !reflect.DeepEqual(critical, want) {
		t.Errorf("extensions and whether critical: %v, want %v", critical, want)
	}
	if c.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment || c.IsCA {
		t.Errorf("key usage %v, CA %v", c.KeyUsage, c.IsCA)
	}
	if strings.Join(c.DNSNames, " ") != "kvm1.example.org kvm1" || len(c.IPAddresses) != 2 || len(c.IPAddresses[0]) != 4 {
		t.Errorf("names %v %v", c.DNSNames, c.IPAddresses)
	}
	bundle := pki.RenderCerts(ca)
	for _, r := range pki.PortableRules() {
		v := pki.Judge(pki.Question{Rules: r, Role: pki.UsageServer, Now: testNow, Cert: pki.RenderCerts(c), CA: bundle, Key: c.PublicKey})
		if !v.OK || len(v.Warnings) > 0 {
			t.Errorf("%+v: %v %v", r, v.Problems, v.Warnings)
		}
		if v := pki.Judge(pki.Question{Rules: r, Role: pki.UsageClient, Now: testNow, Cert: pki.RenderCerts(c), CA: bundle}); v.OK {
			t.Errorf("%+v: a server certificate is accepted as a client's", r)
		}
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool(ca), CurrentTime: testNow, DNSName: "kvm1.example.org"}); err != nil {
		t.Errorf("Go refuses the leaf: %v", err)
	}
	p.KeyUsage = pki.KeyUsageStrict
	if got := sign(t, ca, key, p).Cert.KeyUsage; got != x509.KeyUsageDigitalSignature {
		t.Errorf("strict key usage %v", got)
	}
}

func pool(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}

func TestSignLeafNeverOutlivesIssuer(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ca, err := pki.NewAuthority(testNow, pki.CAProfile{Name: "short", Number: 2, Lifetime: 30 * 24 * time.Hour}, key, big.NewInt(7))
	if err != nil {
		t.Fatal(err)
	}
	leaf := sign(t, ca, key, leafProfile())
	if !leaf.Capped || !leaf.Cert.NotAfter.Equal(ca.NotAfter) {
		t.Errorf("capped %v, leaf ends %s, issuer %s", leaf.Capped, leaf.Cert.NotAfter, ca.NotAfter)
	}
}

func TestSignLeafRefuses(t *testing.T) {
	_, ca, key := newCA(t)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	leaf := sign(t, ca, key, leafProfile()).Cert
	good := newCSR(t, other)
	wild := leafProfile()
	wild.DNSNames = []string{"*.example.org"}
	for name, f := range map[string]func() (*pki.Leaf, error){
		"wildcard": func() (*pki.Leaf, error) { return pki.SignLeaf(testNow, ca, key, good, wild, big.NewInt(1)) },
		"P-384": func() (*pki.Leaf, error) {
			return pki.SignLeaf(testNow, ca, key, newCSR(t, p384), leafProfile(), big.NewInt(1))
		},
		"Ed25519": func() (*pki.Leaf, error) {
			return pki.SignLeaf(testNow, ca, key, newCSR(t, ed), leafProfile(), big.NewInt(1))
		},
		"other key": func() (*pki.Leaf, error) { return pki.SignLeaf(testNow, ca, other, good, leafProfile(), big.NewInt(1)) },
		"CA's own key": func() (*pki.Leaf, error) {
			return pki.SignLeaf(testNow, ca, key, newCSR(t, key), leafProfile(), big.NewInt(1))
		},
		"serial 0": func() (*pki.Leaf, error) { return pki.SignLeaf(testNow, ca, key, good, leafProfile(), new(big.Int)) },
		"long serial": func() (*pki.Leaf, error) {
			return pki.SignLeaf(testNow, ca, key, good, leafProfile(), new(big.Int).Lsh(big.NewInt(1), 159))
		},
		"not a CA": func() (*pki.Leaf, error) {
			return pki.SignLeaf(testNow, leaf, other, good, leafProfile(), big.NewInt(1))
		},
		"expired CA": func() (*pki.Leaf, error) {
			return pki.SignLeaf(ca.NotAfter, ca, key, good, leafProfile(), big.NewInt(1))
		},
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := pki.SignLeaf(testNow, ca, key, good, leafProfile(), big.NewInt(1)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestNewAuthority(t *testing.T) {
	_, ca, _ := newCA(t)
	dn, _ := pki.DNString(ca.RawSubject)
	if dn != "O=Example,CN=Example libvirt g1" || !bytes.Equal(ca.RawIssuer, ca.RawSubject) {
		t.Errorf("subject %s", dn)
	}
	if !ca.IsCA || ca.MaxPathLen != 0 || !ca.MaxPathLenZero || ca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || len(ca.SubjectKeyId) != 20 {
		t.Errorf("CA %v, path length %d, usage %v", ca.IsCA, ca.MaxPathLen, ca.KeyUsage)
	}
	if !ca.NotBefore.Equal(testNow.Add(-24*time.Hour)) || !ca.NotAfter.Equal(testNow.Add(pki.DefaultCALifetime)) {
		t.Errorf("from %s to %s", ca.NotBefore, ca.NotAfter)
	}
	if v := pki.ParseBundle(pki.RenderCerts(ca)).Check(testNow); !v.OK {
		t.Errorf("%v", v.Problems)
	}
}

func TestSerial(t *testing.T) {
	n, err := pki.NewSerial(bytes.NewReader(bytes.Repeat([]byte{0xff}, 16)))
	if err != nil || n.BitLen() != 128 || n.Sign() <= 0 {
		t.Errorf("%v %v", n, err)
	}
	if back, err := pki.ParseSerial(pki.SerialText(n)); err != nil || back.Cmp(n) != 0 {
		t.Errorf("%v %v", back, err)
	}
	for _, r := range []string{"", strings.Repeat("\x00", 16), "short"} {
		if _, err := pki.NewSerial(strings.NewReader(r)); err == nil {
			t.Errorf("no error for the random bytes %q", r)
		}
	}
	for _, s := range []string{"", "0", "-1", "AB", "xyz", strings.Repeat("f", 41)} {
		if _, err := pki.ParseSerial(s); err == nil {
			t.Errorf("no error for %q", s)
		}
	}
}

func TestParseCSR(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pki.ParseCSR(der); err != nil {
		t.Errorf("DER: %v", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "NEW CERTIFICATE REQUEST", Bytes: der})
	if _, err := pki.ParseCSR(append([]byte("Request:\n"), text...)); err != nil {
		t.Errorf("certtool's form: %v", err)
	}
	forged := bytes.Clone(der)
	forged[len(forged)-1] ^= 1
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	weak, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p224)
	for name, data := range map[string][]byte{
		"empty": nil, "forged": forged, "two": append(bytes.Clone(text), text...), "trailing": append(bytes.Clone(der), 0),
		"large": make([]byte, pki.MaxCSR+1), "other block": []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		"truncated": text[:len(text)-30], "P-224": weak,
	} {
		if _, err := pki.ParseCSR(data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCheckKey(t *testing.T) {
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.CheckKey(&good.PublicKey); err != nil {
		t.Error(err)
	}
	even := new(big.Int).Lsh(big.NewInt(1), 2047)
	third := new(big.Int).Mul(big.NewInt(3), new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), 2047), 0, 1))
	for name, k := range map[string]*rsa.PublicKey{
		"even": {N: even, E: 65537}, "factor 3": {N: third, E: 65537}, "exponent 3": {N: good.N, E: 3},
		"1024 bits": {N: new(big.Int).Rsh(good.N, 1024), E: 65537},
	} {
		if err := pki.CheckKey(k); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestProfile(t *testing.T) {
	p := leafProfile()
	data, err := json.Marshal(p)
	if err != nil || !strings.Contains(string(data), `"lifetime":"2160h0m0s"`) {
		t.Fatalf("%s %v", data, err)
	}
	var back pki.Profile
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, p) {
		t.Errorf("%+v %v", back, err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*pki.Profile){
		"name with a slash": func(p *pki.Profile) { p.Name = "a/b" },
		"no CN":             func(p *pki.Profile) { p.CommonName = "" },
		"long CN":           func(p *pki.Profile) { p.CommonName = strings.Repeat("a", 40) + "." + strings.Repeat("b", 40) },
		"glob in O":         func(p *pki.Profile) { p.Organization = "Acme*" },
		"newline in OU":     func(p *pki.Profile) { p.OrganizationalUnit = "a\nb" },
		"upper case":        func(p *pki.Profile) { p.DNSNames = []string{"KVM1"} },
		"wildcard":          func(p *pki.Profile) { p.DNSNames = []string{"*.example.org"} },
		"shell":             func(p *pki.Profile) { p.DNSNames = []string{"a;reboot"} },
		"trailing dot":      func(p *pki.Profile) { p.DNSNames = []string{"a.example."} },
		"address as name":   func(p *pki.Profile) { p.DNSNames = []string{"192.0.2.1"} },
		"hyphen":            func(p *pki.Profile) { p.DNSNames = []string{"-a"} },
		"long label":        func(p *pki.Profile) { p.DNSNames = []string{strings.Repeat("a", 64)} },
		"twice":             func(p *pki.Profile) { p.DNSNames = []string{"a", "a"} },
		"zone":              func(p *pki.Profile) { p.IPs = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} },
		"4 in 6":            func(p *pki.Profile) { p.IPs = []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")} },
		"no address":        func(p *pki.Profile) { p.IPs = []netip.Addr{{}} },
		"multicast":         func(p *pki.Profile) { p.IPs = []netip.Addr{netip.MustParseAddr("224.0.0.1")} },
		"no usage":          func(p *pki.Profile) { p.Usages = nil },
		"other usage":       func(p *pki.Profile) { p.Usages = []pki.Usage{"email"} },
		"server, no names":  func(p *pki.Profile) { p.DNSNames, p.IPs = nil, nil },
		"ed25519":           func(p *pki.Profile) { p.KeyAlgorithm = "ed25519" },
		"key usage":         func(p *pki.Profile) { p.KeyUsage = "loose" },
		"no lifetime":       func(p *pki.Profile) { p.Lifetime = 0 },
	} {
		p := leafProfile()
		change(&p)
		if err := p.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
