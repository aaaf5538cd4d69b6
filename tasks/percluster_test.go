package tasks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"testing"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// A host that moves to another cluster gets what that has, and loses the CA of
// the old one last: until its own certificate is of the new one it needs both.
func TestMovesToAnotherCluster(t *testing.T) {
	w := newWorld(t)
	h := w.host("kvm1")
	seen := w.seen()
	for range 3 {
		w.apply(seen, w.plan(h, seen, Options{}).Ops)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := pki.NewSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewAuthority(w.now, pki.CAProfile{Name: "libvirt-rack2", Organization: "Example", Number: 1}, key, serial)
	if err != nil {
		t.Fatal(err)
	}
	g := pki.NewGeneration(1, pki.PhaseIssuing, ca)
	w.signers[g.SubjectKeyID] = signer{ca, key}
	w.trust.Authorities = append(w.trust.Authorities, pki.Authority{Name: "libvirt-rack2", Generations: []pki.Generation{g}})
	for i := range h.Policy.Certificates {
		h.Policy.Certificates[i].Authority = "libvirt-rack2"
	}
	h.Policy.Trusts = []inventory.TrustFile{{Path: libvirtTrust, Authorities: []string{"libvirt-rack2"}, Others: []string{"libvirt"}, Foreign: "keep"}}

	part := w.plan(h, seen, Options{})
	var bundles []plan.WriteFile
	for _, o := range part.Ops {
		if f, ok := o.(plan.WriteFile); ok && f.Path == libvirtTrust {
			bundles = append(bundles, f)
		}
	}
	if len(bundles) != 2 || bundles[0].Wave != plan.WaveTrust || bundles[1].Wave != plan.WaveClose || bundles[1].When != nil {
		t.Fatalf("bundles %+v", bundles)
	}
	if first := pki.ParseBundle(bundles[0].Content); len(first.Certs) != 2 || !first.Contains(ca) || !first.Contains(w.ca) {
		t.Errorf("the first bundle holds %d certificates", len(first.Certs))
	}
	if last := pki.ParseBundle(bundles[1].Content); len(last.Certs) != 1 || !last.Contains(ca) {
		t.Errorf("the last bundle holds %d certificates", len(last.Certs))
	}
	if slices.Contains(codes(part), "foreign-ca") {
		t.Error("the CA of the other cluster counts as somebody else's")
	}
	w.apply(seen, part.Ops)
	if rest := w.plan(h, seen, Options{}); len(rest.Ops) > 0 {
		t.Errorf("after the apply: %v", kinds(rest.Ops))
	}
}

// Policy says who dials whom: hosts of other clusters do not.
func TestDials(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.host("kvm1"), w.host("kvm2"), w.host("kvm3")
	for i := range c.Policy.Certificates {
		c.Policy.Certificates[i].Authority = "libvirt-rack2"
	}
	c.Policy.Trusts = []inventory.TrustFile{{Path: libvirtTrust, Authorities: []string{"libvirt-rack2"}}}
	if !Dials(a, b) || Dials(a, c) || Dials(c, a) {
		t.Errorf("%v %v %v", Dials(a, b), Dials(a, c), Dials(c, a))
	}
	// One that trusts both lets clients of the other in, and is not known to them.
	c.Policy.Trusts[0].Authorities = []string{"libvirt-rack2", "libvirt"}
	if Dials(a, c) || Dials(c, a) {
		t.Error("half of the trust is taken for all of it")
	}
	c.Policy.Certificates = nil
	if !Dials(c, a) {
		t.Error("a policy without certificates decides")
	}
}
