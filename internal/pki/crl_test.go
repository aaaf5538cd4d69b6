package pki_test

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

func TestCRL(t *testing.T) {
	_, ca, key := newCA(t)
	p := leafProfile()
	p.Usages = []pki.Usage{pki.UsageClient}
	leaf := sign(t, ca, key, p).Cert
	crl := func(at time.Time, number uint64, serials ...*big.Int) *x509.RevocationList {
		var entries []pki.Revocation
		for _, s := range serials {
			entries = append(entries, pki.Revocation{Serial: s, At: at})
		}
		l, err := pki.NewCRL(at, ca, key, number, entries, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	empty, listed := crl(testNow, 1), crl(testNow.Add(time.Minute), 2, leaf.SerialNumber, leaf.SerialNumber)
	if len(listed.RevokedCertificateEntries) != 1 || listed.Number.Int64() != 2 || !empty.ThisUpdate.Equal(testNow.Add(-pki.CRLBackdate)) {
		t.Errorf("%d entries, number %v, from %s", len(listed.RevokedCertificateEntries), listed.Number, empty.ThisUpdate)
	}
	judge := func(at time.Time, rules pki.Rules, role pki.Usage, lists ...*x509.RevocationList) pki.Verdict {
		var ders [][]byte
		for _, l := range lists {
			ders = append(ders, l.Raw)
		}
		return pki.JudgePeer(pki.PeerQuestion{Rules: rules, Role: role, Now: at, Chain: [][]byte{leaf.Raw}, CA: pki.RenderCerts(ca), CRL: pki.RenderCRLs(ders...)})
	}
	libvirt, qemu := pki.LibvirtRules("9.0.0"), pki.QEMURules("7.2.22")
	stale := testNow.Add(48 * time.Hour)
	for _, c := range []struct {
		name           string
		v              pki.Verdict
		refused, warns bool
	}{
		{"none", judge(testNow, libvirt, pki.UsageClient), false, false},
		{"empty", judge(testNow, libvirt, pki.UsageClient, empty), false, false},
		{"listed", judge(testNow, libvirt, pki.UsageClient, listed), true, false},
		{"newest wins", judge(testNow, libvirt, pki.UsageClient, listed, empty), true, false},
		{"newest wins, other order", judge(testNow, libvirt, pki.UsageClient, empty, listed), true, false},
		{"newer and empty wins", judge(testNow, libvirt, pki.UsageClient, listed, crl(testNow.Add(time.Hour), 3)), false, false},
		{"stale and listed", judge(stale, libvirt, pki.UsageClient, listed), true, true},
		{"stale and empty", judge(stale, libvirt, pki.UsageClient, empty), false, true},
		{"QEMU server", judge(testNow, qemu, pki.UsageClient, listed), true, false},
		{"QEMU client does not look", judge(testNow, qemu, pki.UsageServer, listed), false, false},
	} {
		if c.v.Has("revoked") != c.refused || c.v.OK == c.refused || (len(c.v.Warnings) > 0) != c.warns {
			t.Errorf("%s: %+v", c.name, c.v)
		}
	}
	if v := pki.JudgePeer(pki.PeerQuestion{Rules: libvirt, Role: pki.UsageClient, Now: testNow, Chain: [][]byte{leaf.Raw}, CA: pki.RenderCerts(ca),
		CRL: []byte("-----BEGIN X509 CRL-----\n!\n-----END X509 CRL-----\n")}); !v.Has("crl-unreadable") {
		t.Errorf("garbage: %+v", v)
	}
	if err := pki.CheckCRL(listed, ca, 2); err != nil {
		t.Error(err)
	}
	if err := pki.CheckCRL(listed, ca, 3); err == nil {
		t.Error("an older list may replace a newer one")
	}
	_, other, _ := newCA(t)
	if err := pki.CheckCRL(listed, other, 0); err == nil {
		t.Error("a list passes for a CA of the same name and another key")
	}
	for name, f := range map[string]func() (*x509.RevocationList, error){
		"number 0":    func() (*x509.RevocationList, error) { return pki.NewCRL(testNow, ca, key, 0, nil, time.Hour) },
		"no validity": func() (*x509.RevocationList, error) { return pki.NewCRL(testNow, ca, key, 1, nil, 0) },
		"leaf":        func() (*x509.RevocationList, error) { return pki.NewCRL(testNow, leaf, key, 1, nil, time.Hour) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
