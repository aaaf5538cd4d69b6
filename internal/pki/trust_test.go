package pki_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"reflect"
	"slices"
	"testing"

	"github.com/virtrust/virtrust/internal/pki"
)

func generations(t *testing.T, name string, phases ...pki.Phase) pki.Authority {
	t.Helper()
	a := pki.Authority{Name: name}
	for i, ph := range phases {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c, err := pki.NewAuthority(testNow, pki.CAProfile{Organization: "Example", Name: name, Number: i + 1}, key, big.NewInt(int64(i+1)))
		if err != nil {
			t.Fatal(err)
		}
		a.Generations = append(a.Generations, pki.NewGeneration(i+1, ph, c))
	}
	return a
}

func TestTrust(t *testing.T) {
	a := generations(t, "libvirt", pki.PhaseDestroyed, pki.PhaseRetired, pki.PhaseDraining, pki.PhaseIssuing, pki.PhaseTrusting)
	trust := pki.Trust{Authorities: []pki.Authority{a, generations(t, "qemu", pki.PhasePrepared)},
		Proofs:   []pki.Proof{{Host: "kvm1", Certificate: "c", At: testNow}, {Host: "kvm1", Certificate: "c", At: testNow.Add(1), LeafSHA256: "new"}},
		Failures: []pki.Failure{{Host: "kvm1", Certificate: "c", Attempts: 2}}}
	if err := trust.Validate(); err != nil {
		t.Fatal(err)
	}
	if g, ok := a.Issuing(); !ok || g.Number != 4 {
		t.Errorf("issuing: %d %v", g.Number, ok)
	}
	var numbers []int
	for _, g := range a.Trusted() {
		numbers = append(numbers, g.Number)
	}
	if !slices.Equal(numbers, []int{4, 5, 3}) {
		t.Errorf("trusted: %v", numbers)
	}
	b, err := a.Bundle(pki.ConsumerLibvirt)
	if err != nil || len(b.Certs) != 3 {
		t.Fatalf("%d CAs, %v", len(b.Certs), err)
	}
	if m := a.Missing(b); len(m) != 0 {
		t.Errorf("missing: %v", m)
	}
	if m := a.Missing(&pki.Bundle{Certs: b.Certs[1:]}); len(m) != 1 || m[0].Number != 4 {
		t.Errorf("missing: %v", m)
	}
	if m := trust.Missing("qemu", "libvirt", "display"); !slices.Equal(m, []string{"display", "qemu"}) {
		t.Errorf("missing authorities: %v", m)
	}
	if p, ok := trust.Proof("kvm1", "c"); !ok || p.LeafSHA256 != "new" {
		t.Errorf("proof %+v %v", p, ok)
	}
	if f, ok := trust.Failure("kvm1", "c"); !ok || f.Attempts != 2 {
		t.Errorf("failure %+v %v", f, ok)
	}
	data, err := json.Marshal(trust)
	if err != nil {
		t.Fatal(err)
	}
	var back pki.Trust
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(trust, back) || back.Digest() != trust.Digest() {
		t.Errorf("JSON does not come back the same: %v", err)
	}
}

func TestDigest(t *testing.T) {
	base := func() pki.Trust { return pki.Trust{Authorities: []pki.Authority{{Name: "a"}, {Name: "b"}}} }
	fresh := generations(t, "a", pki.PhaseDraining, pki.PhaseIssuing).Generations
	make := func() pki.Trust {
		tr := base()
		tr.Authorities[0].Generations = slices.Clone(fresh)
		tr.Authorities[0].Generations[0].Revoked = []string{"1", "2"}
		return tr
	}
	want := make().Digest()
	same := map[string]func(*pki.Trust){
		"order":    func(tr *pki.Trust) { slices.Reverse(tr.Authorities); slices.Reverse(tr.Authorities[1].Generations) },
		"serials":  func(tr *pki.Trust) { tr.Authorities[0].Generations[0].Revoked = []string{"2", "1"} },
		"proofs":   func(tr *pki.Trust) { tr.Proofs = []pki.Proof{{Host: "x"}} },
		"failures": func(tr *pki.Trust) { tr.Failures = []pki.Failure{{Host: "x"}} },
	}
	for name, f := range same {
		tr := make()
		f(&tr)
		if tr.Digest() != want {
			t.Errorf("%s changes the digest", name)
		}
	}
	other := map[string]func(g []pki.Generation){
		"phase":       func(g []pki.Generation) { g[0].Phase = pki.PhaseRetired },
		"number":      func(g []pki.Generation) { g[0].Number = 9 },
		"CRL number":  func(g []pki.Generation) { g[0].CRLNumber = 4 },
		"revocation":  func(g []pki.Generation) { g[0].Revoked = []string{"1", "2", "3"} },
		"certificate": func(g []pki.Generation) { g[0].Cert = g[1].Cert },
		"parent":      func(g []pki.Generation) { g[0].Parents = [][]byte{{1}} },
	}
	for name, f := range other {
		tr := make()
		f(tr.Authorities[0].Generations)
		if tr.Digest() == want {
			t.Errorf("%s does not change the digest", name)
		}
	}
}

func TestAuthorityValidate(t *testing.T) {
	for name, change := range map[string]func(*pki.Authority){
		"name":       func(a *pki.Authority) { a.Name = "../x" },
		"number":     func(a *pki.Authority) { a.Generations[1].Number = 1 },
		"phase":      func(a *pki.Authority) { a.Generations[0].Phase = "old" },
		"garbage":    func(a *pki.Authority) { a.Generations[0].Cert = []byte("x") },
		"same name":  func(a *pki.Authority) { n := a.Generations[1]; n.Number = 3; a.Generations = append(a.Generations, n) },
		"key id":     func(a *pki.Authority) { a.Generations[0].SubjectKeyID = "00" },
		"dates":      func(a *pki.Authority) { a.Generations[0].NotAfter = testNow },
		"bad serial": func(a *pki.Authority) { a.Generations[0].Revoked = []string{"0x1"} },
	} {
		a := generations(t, "a", pki.PhaseDraining, pki.PhaseIssuing)
		if err := a.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&a)
		if err := a.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func certs(t *testing.T, a pki.Authority) []*x509.Certificate {
	t.Helper()
	all, err := a.All()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
