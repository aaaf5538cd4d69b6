package pki_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/virtrust/virtrust/internal/needed"
	"github.com/virtrust/virtrust/internal/pki"
)

// rfcLints are zlint's lints of RFCs, the others are rules of browsers' CAs.
func rfcLints(t *testing.T, except ...string) lint.Registry {
	t.Helper()
	r, err := lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC8813},
		ExcludeNames:   except,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// findings are the lints that a certificate or list does not pass, of those
// that apply to it; there must be some that do.
func findings(t *testing.T, what string, set *zlint.ResultSet) []string {
	t.Helper()
	var bad []string
	passed := 0
	for name, r := range set.Results {
		switch {
		case r.Status == lint.Pass:
			passed++
		case r.Status > lint.Notice:
			bad = append(bad, name+" ("+r.Status.String()+") "+r.Details)
		}
	}
	if passed == 0 {
		t.Errorf("%s: no lint applies to it", what)
	}
	slices.Sort(bad)
	return bad
}

func lintCert(t *testing.T, what string, cert *x509.Certificate, except ...string) []string {
	t.Helper()
	c, err := zx509.ParseCertificate(cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return findings(t, what, zlint.LintCertificateEx(c, rfcLints(t, except...)))
}

// TestLint holds what this package makes against zlint's lints of RFCs.
func TestLint(t *testing.T) {
	_, ca, signer := newCA(t)
	for _, f := range lintCert(t, "CA", ca) {
		t.Errorf("CA: %s", f)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	long, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{ec, long} {
		for _, usage := range []pki.KeyUsage{pki.KeyUsageCompatible, pki.KeyUsageStrict} {
			for _, roles := range [][]pki.Usage{{pki.UsageServer}, {pki.UsageClient}, {pki.UsageServer, pki.UsageClient}} {
				p := leafProfile()
				p.KeyUsage, p.Usages, p.KeyAlgorithm = usage, roles, pki.AlgorithmOf(key.Public())
				n, err := pki.NewSerial(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				leaf, err := pki.SignLeaf(testNow, ca, signer, newCSR(t, key), p, n)
				if err != nil {
					t.Fatal(err)
				}
				what := fmt.Sprint(p.KeyAlgorithm, " ", usage, " ", roles)
				// libvirt before 11.6 refuses a certificate without keyEncipherment,
				// whatever its key and its role. RFC 8813 forbids it with an EC
				// key, RFC 5280 (4.2.1.12) does not foresee it for a client alone.
				// Neither GnuTLS nor libvirt minds; "strict" has none of it.
				var except []string
				if usage == pki.KeyUsageCompatible && key == ec {
					except = append(except, "e_ecdsa_allowed_ku")
				}
				if usage == pki.KeyUsageCompatible && len(roles) == 1 && roles[0] == pki.UsageClient {
					except = append(except, "e_key_usage_and_extended_key_usage_inconsistent")
				}
				if f := lintCert(t, what, leaf.Cert); len(f) != len(except) {
					t.Errorf("%s: %v; expected %v alone", what, f, except)
				}
				for _, f := range lintCert(t, what, leaf.Cert, except...) {
					t.Errorf("%s: %s", what, f)
				}
			}
		}
	}
	n, err := pki.NewSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, revoked := range [][]pki.Revocation{nil, {{Serial: n, At: testNow}}} {
		list, err := pki.NewCRL(testNow, ca, signer, 7, revoked, 30*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		c, err := zx509.ParseRevocationList(list.Raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range findings(t, "CRL", zlint.LintRevocationListEx(c, rfcLints(t))) {
			t.Errorf("CRL with %d entries: %s", len(revoked), f)
		}
	}
}

// TestCerttool has GnuTLS, which libvirt and QEMU verify with, verify a leaf.
func TestCerttool(t *testing.T) {
	tool := needed.Program(t, "certtool", "gnutls-bin")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	newSerial := func() pki.Revocation {
		n, err := pki.NewSerial(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return pki.Revocation{Serial: n, At: now}
	}
	ca, err := pki.NewAuthority(now, pki.CAProfile{Organization: "Example", Name: "libvirt", Number: 1}, key, newSerial().Serial)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := newSerial()
	leaf, err := pki.SignLeaf(now, ca, key, newCSR(t, mine), leafProfile(), r.Serial)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	list := func(revoked ...pki.Revocation) string {
		l, err := pki.NewCRL(now, ca, key, 1, revoked, 30*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return file("crl.pem", pki.RenderCRLs(l.Raw))
	}
	verify := func(args ...string) error {
		args = append([]string{"--verify", "--verify-purpose=1.3.6.1.5.5.7.3.1", "--infile", file("leaf.pem", pki.RenderCerts(leaf.Cert))}, args...)
		out, err := exec.Command(tool, args...).CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	trusted := []string{"--load-ca-certificate", file("ca.pem", pki.RenderCerts(ca)), "--verify-hostname", "kvm1.example.org"}
	if err := verify(trusted...); err != nil {
		t.Errorf("a good leaf: %v", err)
	}
	if err := verify(append(trusted, "--load-crl", list())...); err != nil {
		t.Errorf("with an empty list: %v", err)
	}
	if err := verify(append(trusted, "--load-crl", list(r))...); err == nil {
		t.Error("a revoked leaf is accepted")
	}
	if err := verify("--load-ca-certificate", trusted[1], "--verify-hostname", "kvm2.example.org"); err == nil {
		t.Error("another name is accepted")
	}
}
