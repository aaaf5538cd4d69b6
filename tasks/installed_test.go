package tasks

import "testing"

// What an apply installs is read back, on a host that has nothing nothing is.
func TestLeaves(t *testing.T) {
	w := newWorld(t)
	inv, seen := w.host("kvm1"), w.seen()
	all, err := For(inv, w.trust, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := Leaves(all, seen); len(got) > 0 {
		t.Errorf("a fresh host has %d leaves", len(got))
	}
	w.apply(seen, w.plan(inv, seen, Options{}).Ops)
	names := map[string]bool{}
	for _, k := range Leaves(all, seen) {
		names[k.Certificate] = true
		if k.Leaf.Subject.CommonName != "kvm1" || k.Authority != "libvirt" {
			t.Errorf("%s is of %s, by %s", k.Certificate, k.Leaf.Subject, k.Authority)
		}
	}
	if len(names) != len(inv.Policy.Certificates) {
		t.Errorf("read back: %v of %d", names, len(inv.Policy.Certificates))
	}
}
