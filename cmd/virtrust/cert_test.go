package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/plan"
)

// fleetDir is a configuration with a local authority that has its key.
func fleetDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("VIRTRUST_TEST_PASSPHRASE", "of the tests")
	config := `authority "libvirt" {
  organization    = "Example"
  passphrase_from = "env:VIRTRUST_TEST_PASSPHRASE"
}
authority "qemu" {
  organization    = "Example"
  passphrase_from = "env:VIRTRUST_TEST_PASSPHRASE"
}
policy "standard" {
  template = "libvirt"
}
host "kvm1" {
  address = "127.0.0.1"
  policy  = policy.standard
  ssh {
    port = 1
  }
}
`
	if err := os.WriteFile(filepath.Join(dir, "fleet.hcl"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, err := program(t, "-C", dir, "ca", "init", "libvirt"); err != nil {
		t.Fatal(err, errs)
	}
	return dir
}

// request writes a certificate request that asks for more than it gets.
func request(t *testing.T, dir string) (path string, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "root"}, DNSNames: []string{"kvm1.example.com"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "ann.csr")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, key
}

func TestCert(t *testing.T) {
	dir := fleetDir(t)
	csr, key := request(t, dir)
	out := filepath.Join(dir, "ann.pem")
	run := func(args ...string) (string, string, error) {
		return program(t, append([]string{"-C", dir}, args...)...)
	}
	if _, errs, err := run("cert", "list"); err != nil || !strings.Contains(errs, "No certificate is in use") {
		t.Errorf("an empty list: %q, %v", errs, err)
	}
	issue := []string{"cert", "issue", "--authority", "libvirt", "--csr", csr, "--cn", "ann.example.com", "--dns", "desk.example.com", "--lifetime", "12h", "--out", out}
	var code *exitCode
	if _, _, err := run(issue...); !errors.As(err, &code) || code.code != exitNotApproved {
		t.Errorf("without an answer: %v", err)
	}
	text, errs, err := run(append(issue, "--yes")...)
	if err != nil || !strings.Contains(text, "cert:ann.example.com: serial ") {
		t.Fatalf("%q %q %v", text, errs, err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pki.ParseBundle(data).Certs[0]
	if leaf.Subject.CommonName != "ann.example.com" || len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != "desk.example.com" ||
		len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || !key.PublicKey.Equal(leaf.PublicKey) {
		t.Errorf("the certificate is of %s for %v with %v", leaf.Subject, leaf.DNSNames, leaf.ExtKeyUsage)
	}
	if _, _, err := run(append(issue, "--yes")...); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	for _, bad := range [][]string{
		{"--authority", "none", "--out", out + "2"}, {"--usage", "both", "--out", out + "2"}, {"--lifetime", "1x", "--out", out + "2"}, {"--cn", "*", "--out", out + "2"},
		{"--csr", out, "--out", out + "2"}, {"--usage", "server", "--dns", "*.example.com", "--out", out + "2"}, {"--authority", "qemu", "--out", out + "2"},
	} {
		if _, _, err := run(append(append(issue, "--yes"), bad...)...); err == nil {
			t.Errorf("%v is not refused", bad)
		}
	}

	serial := pki.SerialText(leaf.SerialNumber)
	text, _, err = run("cert", "list", "--host", "cert:ann.example.com", "--json")
	var rows []certificate
	if err != nil || json.Unmarshal([]byte(text), &rows) != nil || len(rows) != 1 || rows[0].Serial != serial || rows[0].State != "signed" {
		t.Errorf("%s, %v", text, err)
	}
	if text, _, err = run("cert", "list"); err != nil || !strings.Contains(text, serial) {
		t.Errorf("%s, %v", text, err)
	}
	for _, args := range [][]string{{serial}, {"0x" + strings.ToUpper(serial)}, {"cert:ann.example.com", "client"}, {out}} {
		text, _, err := run(append([]string{"cert", "show"}, args...)...)
		if err != nil || !strings.Contains(text, "CN=ann.example.com") || !strings.Contains(text, "host         cert:ann.example.com") || strings.Contains(text, "PRIVATE") {
			t.Errorf("%v: %s, %v", args, text, err)
		}
	}
	if text, _, err := run("cert", "show", serial, "--pem"); err != nil || text != string(data) {
		t.Errorf("as PEM: %s, %v", text, err)
	}
	for _, args := range [][]string{{"1234"}, {"kvm1", "libvirt-server"}, {csr}} {
		if _, _, err := run(append([]string{"cert", "show"}, args...)...); err == nil {
			t.Errorf("%v is shown", args)
		}
	}

	// A person is no host that left the inventory.
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	a.dir = dir
	f, err := a.open(t.Context(), noOptions)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	var p plan.Plan
	if err := f.departed(t.Context(), &p); err != nil || len(p.Findings)+len(p.Revocations) > 0 {
		t.Errorf("%v %v, %v", p.Findings, p.Revocations, err)
	}

	copied := filepath.Join(dir, "copy.db")
	if _, errs, err := run("ledger", "backup", copied); err != nil {
		t.Fatal(errs, err)
	}
	if _, _, err := run("ca", "revoke", "--serial", serial, "--reason", "left", "--yes"); err != nil {
		t.Fatal(err)
	}
	if text, _, err := run("cert", "show", serial); err != nil || !strings.Contains(text, "state        revoked") || !strings.Contains(text, ", left") {
		t.Errorf("%s, %v", text, err)
	}
	if _, _, err := run("ledger", "backup", copied); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a copy over a copy: %v", err)
	}
	l, err := ledger.Open(t.Context(), copied, ledger.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if i, err := l.IssuanceBySerial(t.Context(), "libvirt", serial); err != nil || i.State != ledger.StateSigned {
		t.Errorf("the copy has %s, %v", i.State, err)
	}
}

// Who has a certificate outside the fleet is named before its generation
// retires.
func TestRetireNamesPeople(t *testing.T) {
	dir := fleetDir(t)
	csr, _ := request(t, dir)
	config := "authority \"libvirt\" {\n  organization    = \"Example\"\n  passphrase_from = \"env:VIRTRUST_TEST_PASSPHRASE\"\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "fleet.hcl"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	issue := func(cn string) {
		if _, errs, err := program(t, "-C", dir, "cert", "issue", "--authority", "libvirt", "--csr", csr, "--cn", cn, "--yes"); err != nil {
			t.Fatal(errs, err)
		}
	}
	rotate := func() string {
		_, errs, err := program(t, "-C", dir, "ca", "rotate", "libvirt", "--yes")
		if err != nil {
			t.Fatal(errs, err)
		}
		return errs
	}
	issue("ann")
	for step := range 2 { // make, issue
		if errs := rotate(); strings.Contains(errs, "cert:ann") {
			t.Errorf("step %d: %s", step+1, errs)
		}
	}
	issue("bob")
	if errs := rotate(); !strings.Contains(errs, "cert:ann (serial ") || strings.Contains(errs, "cert:bob") {
		t.Errorf("retire: %s", errs)
	}
}
