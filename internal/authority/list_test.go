package authority

import (
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

func TestSignList(t *testing.T) {
	p := newPlace(t)
	first := p.init(t, "libvirt").Generations[0]
	a := p.unlocked(t, "libvirt")
	ca, err := first.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := a.Sign(t.Context(), p.request(t))
	if err != nil {
		t.Fatal(err)
	}
	serial := pki.SerialText(chain[0].SerialNumber)
	if err := p.l.Revoke(t.Context(), p.run, ledger.Revocation{Authority: "libvirt", Generation: 1, Serial: serial, Reason: "stolen"}); err != nil {
		t.Fatal(err)
	}
	read := func() pki.Generation {
		t.Helper()
		public, err := Read("libvirt", p.dir("libvirt"))
		if err != nil {
			t.Fatal(err)
		}
		trust, err := p.l.Trust(t.Context(), []pki.Authority{public})
		if err != nil {
			t.Fatal(err)
		}
		return trust.Authorities[0].Generations[0]
	}
	if g := read(); !slices.Equal(g.Unlisted, []string{serial}) || g.CRLNumber != 1 {
		t.Errorf("before the list: %+v", g)
	}
	list, err := a.SignList(t.Context(), p.run)
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.CheckCRL(list, ca, 2); err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("list %v: %v", list.RevokedCertificateEntries, err)
	}
	g := read()
	if len(g.Unlisted)+len(g.Unrecorded) > 0 || g.CRLNumber != list.Number.Uint64() || g.SignedCRL != g.CRLNumber || g.Unfit() != "" || !g.IsRevoked(serial) {
		t.Errorf("after the list: %+v", g)
	}
	refused(t, ca, chain[0], g.CRL)

	// An old file beside a newer ledger is not given to hosts, and a list that
	// another ledger signed does not let the number fall.
	path := filepath.Join(p.dir("libvirt"), "g1.crl")
	if err := replaceFile(path, pki.RenderCRLs(first.CRL), 0o644); err != nil {
		t.Fatal(err)
	}
	if g := read(); g.Unfit() == "" {
		t.Errorf("an old list is fit: %+v", g)
	}
	high, err := pki.NewCRL(time.Now(), ca, a.key, 40, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, pki.RenderCRLs(high.Raw), 0o644); err != nil {
		t.Fatal(err)
	}
	next, err := a.SignList(t.Context(), p.run)
	if err != nil || next.Number.Uint64() != 41 || len(next.RevokedCertificateEntries) != 1 {
		t.Errorf("list %v, %v", next, err)
	}

	// A list that revokes what is in use and was not meant.
	other, err := a.Sign(t.Context(), p.request(t))
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := pki.NewCRL(time.Now(), ca, a.key, 50, []pki.Revocation{{Serial: other[0].SerialNumber, At: time.Now()}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, pki.RenderCRLs(wrong.Raw), 0o644); err != nil {
		t.Fatal(err)
	}
	if g := read(); g.Unfit() == "" || !slices.Equal(g.Unrecorded, []string{pki.SerialText(other[0].SerialNumber)}) {
		t.Errorf("a list that revokes what is in use: %+v", g)
	}
	a.Close()
	if _, err := a.SignList(t.Context(), p.run); !errors.Is(err, ErrLocked) {
		t.Errorf("locked: %v", err)
	}
	if _, err := OpenGeneration(t.Context(), "libvirt", 2, p.dir("libvirt"), "", p.l, nil); err == nil {
		t.Error("a generation that is not there")
	}
}

// What has ended leaves the list after one list has had it.
func TestListForgetsTheExpired(t *testing.T) {
	p := newPlace(t)
	p.init(t, "libvirt")
	a := p.unlocked(t, "libvirt")
	r := p.request(t)
	r.Profile.Lifetime = 2 * time.Hour
	chain, err := a.Sign(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.l.Revoke(t.Context(), p.run, ledger.Revocation{Authority: "libvirt", Generation: 1, Serial: pki.SerialText(chain[0].SerialNumber)}); err != nil {
		t.Fatal(err)
	}
	a.now = func() time.Time { return time.Now().Add(24 * time.Hour) }
	for i, want := range []int{1, 0, 0} {
		list, err := a.SignList(t.Context(), p.run)
		if err != nil || len(list.RevokedCertificateEntries) != want {
			t.Errorf("list %d has %d entries, want %d; %v", i, len(list.RevokedCertificateEntries), want, err)
		}
	}
}

// refused asks OpenSSL and GnuTLS, where they are installed.
func refused(t *testing.T, ca, leaf *x509.Certificate, crl []byte) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{"ca.pem": pki.RenderCerts(ca), "leaf.pem": pki.RenderCerts(leaf), "crl.pem": pki.RenderCRLs(crl)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, argv := range [][]string{
		{"openssl", "verify", "-CAfile", "ca.pem", "-CRLfile", "crl.pem", "-crl_check", "leaf.pem"},
		{"certtool", "--verify", "--load-ca-certificate", "ca.pem", "--load-crl", "crl.pem", "--infile", "leaf.pem"},
	} {
		if _, err := exec.LookPath(argv[0]); err != nil {
			t.Logf("%s is not installed", argv[0])
			continue
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%s accepts a revoked certificate: %s", argv[0], out)
		}
	}
}
