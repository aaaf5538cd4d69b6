package main

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/tasks"
)

// A lost ledger is made anew, and the authority signs and revokes with it.
func TestRebuild(t *testing.T) {
	dir := fleetDir(t)
	csr, _ := request(t, dir)
	run := func(args ...string) (string, string, error) {
		return program(t, append([]string{"-C", dir}, args...)...)
	}
	sign := func(cn, out string) *x509.Certificate {
		out = filepath.Join(dir, out)
		if _, errs, err := run("cert", "issue", "--authority", "libvirt", "--csr", csr, "--cn", cn, "--out", out, "--yes"); err != nil {
			t.Fatal(errs, err)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return pki.ParseBundle(data).Certs[0]
	}
	kept, revoked, other := sign("kvm1", "kept.pem"), sign("kvm1", "revoked.pem"), sign("kvm2", "other.pem")
	if _, errs, err := run("ca", "revoke", "--file", filepath.Join(dir, "revoked.pem"), "--in-use", "--yes"); err != nil {
		t.Fatal(errs, err)
	}
	var code *exitCode
	if _, _, err := run("ledger", "rebuild"); !errors.As(err, &code) || code.code != exitRefused {
		t.Errorf("over a ledger: %v", err)
	}
	path := filepath.Join(dir, ".virtrust", "ledger.db")
	if err := os.Rename(path, path+".lost"); err != nil {
		t.Fatal(err)
	}
	if _, errs, err := run("ca", "init", "qemu"); err != nil { // it makes a ledger, which goes again
		t.Fatal(errs, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, errs, err := run("ledger", "rebuild"); !errors.As(err, &code) || code.code != exitIncomplete || !strings.Contains(errs, "kvm1: ") {
		t.Errorf("with a host that cannot be read: %q, %v", errs, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it wrote %s: %v", path, err)
	}

	elsewhere := fleetDir(t)
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	a.dir = dir
	f, err := a.open(t.Context(), noOptions)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	foreign, err := os.ReadFile(filepath.Join(elsewhere, "authorities", "libvirt", "g1.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.phased(); err != nil {
		t.Error(err)
	}
	made, err := f.rebuild(t.Context(), []found{{host: "kvm1", leaves: []tasks.Installed{
		{Certificate: "libvirt-client", Authority: "libvirt", Leaf: kept}, {Certificate: "libvirt-server", Authority: "libvirt", Leaf: revoked},
		{Certificate: "qemu", Authority: "libvirt", Leaf: other}, {Certificate: "spare", Leaf: pki.ParseBundle(foreign).Certs[0]},
	}}})
	if err != nil || made.Generations != 2 || made.Revocations != 1 || made.Leaves != 2 || len(made.Foreign) != 2 {
		t.Fatalf("%+v, %v", made, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".virtrust", ".ledger*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := f.rebuild(t.Context(), nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	l, err := ledger.Open(t.Context(), path, ledger.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for leaf, want := range map[*x509.Certificate]ledger.State{kept: ledger.StateInstalled, revoked: ledger.StateRevoked} {
		if i, err := l.IssuanceBySerial(t.Context(), "libvirt", pki.SerialText(leaf.SerialNumber)); err != nil || i.State != want || i.Host != "kvm1" {
			t.Errorf("%s of %s, %v; want %s", i.State, i.Host, err, want)
		}
	}
	// The numbers of lists go on, and nothing that was revoked is forgotten.
	sign("ann", "ann.pem")
	if _, errs, err := run("ca", "revoke", "--host", "cert:ann", "--in-use", "--yes"); err != nil {
		t.Fatal(errs, err)
	}
	text, _, err := run("ca", "show", "libvirt")
	if err != nil || !strings.Contains(text, "revocations  2 (list number 3)") {
		t.Errorf("%s, %v", text, err)
	}
}
