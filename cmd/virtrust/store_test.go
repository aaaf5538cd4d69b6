package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/keystore"
	"github.com/virtrust/virtrust/internal/ledger"
)

// Stores for programs outside the fleet: the CAs to trust, and a key with its
// certificate. The password comes from a file and stands nowhere else.
func TestStores(t *testing.T) {
	const secret = "CANARY of a store"
	dir := fleetDir(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		out, errs, err := program(t, append([]string{"-C", dir}, args...)...)
		if strings.Contains(out+errs, secret) {
			t.Errorf("%v shows the password: %s%s", args, out, errs)
		}
		return out, err
	}
	for name, format := range map[string]keystore.Format{"ca.p12": keystore.PKCS12, "ca.jks": keystore.JKS} {
		open, locked := filepath.Join(dir, name), filepath.Join(dir, "locked-"+name)
		if _, err := run("ca", "export", "libvirt", "--out", open); err != nil {
			t.Fatal(err)
		}
		if _, err := run("ca", "export", "libvirt", "--out", locked, "--password-file", password); err != nil {
			t.Fatal(err)
		}
		for path, p := range map[string]string{open: "", locked: secret} {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if cas, err := keystore.ReadTrustStore(format, data, []byte(p)); err != nil || len(cas) != 1 || cas[0].Subject.CommonName != "Example libvirt g1" {
				t.Errorf("%s holds %v, %v", path, cas, err)
			}
		}
	}
	issue := []string{"cert", "issue", "--authority", "libvirt", "--cn", "backup.example.com", "--yes"}
	for _, bad := range [][]string{
		{}, {"--new-key"}, {"--new-key", "--out", "a.pem"}, {"--new-key", "--csr", "x.csr", "--out", "a.p12"}, {"--csr", "x.csr", "--out", "a.p12"},
		{"--new-key", "--format", "der", "--out", "a"}, {"--new-key", "--out", filepath.Join(dir, "no-password.p12")},
	} {
		if _, err := run(append(issue, bad...)...); err == nil {
			t.Errorf("%v is not refused", bad)
		}
	}
	for _, name := range []string{"backup.p12", "backup.jks"} {
		path := filepath.Join(dir, name)
		if _, err := run(append(issue, "--new-key", "--out", path, "--password-file", password)...); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	out, err := exec.Command("openssl", "pkcs12", "-in", filepath.Join(dir, "backup.p12"), "-nodes", "-passin", "file:"+password).CombinedOutput()
	if err != nil || strings.Count(string(out), "BEGIN CERTIFICATE") != 2 || !strings.Contains(string(out), "CN = backup.example.com") || !strings.Contains(string(out), "PRIVATE KEY") {
		t.Errorf("openssl reads: %v\n%s", err, out)
	}
	// Two were signed, none of those that were refused.
	l, err := ledger.Open(t.Context(), filepath.Join(dir, ".virtrust", "ledger.db"), ledger.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if all, err := l.Issuances(t.Context(), ledger.Filter{Host: ledger.OutsideHost("backup.example.com")}); err != nil || len(all) != 2 {
		t.Errorf("%d issued, %v", len(all), err)
	}
}
