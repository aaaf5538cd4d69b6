package tasks

import (
	"bytes"
	"crypto/x509"
	"slices"
	"testing"

	"github.com/virtrust/virtrust/internal/keystore"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

func TestTrustStoreOnHost(t *testing.T) {
	for _, format := range []keystore.Format{keystore.PKCS12, keystore.JKS} {
		t.Run(string(format), func(t *testing.T) {
			const path = "/etc/app/ca.store"
			w, theirs := newWorld(t), newWorld(t)
			h, seen := w.host("kvm1"), w.seen()
			h.Policy.Stores = []inventory.TrustStore{{Path: path, Format: string(format), Authorities: []string{"libvirt"}, Foreign: "keep"}}
			holds := func(want ...*x509.Certificate) {
				t.Helper()
				got, err := keystore.ReadTrustStore(format, seen.Path(path).Content, nil)
				if err != nil || len(got) != len(want) {
					t.Fatalf("the store holds %d, %v", len(got), err)
				}
				for _, c := range want {
					if !slices.ContainsFunc(got, c.Equal) {
						t.Errorf("%s is not in it", c.Subject)
					}
				}
			}
			settle := func() {
				t.Helper()
				for range 3 {
					w.apply(seen, w.plan(h, seen, Options{}).Ops)
				}
				if rest := w.plan(h, seen, Options{}); len(rest.Ops) > 0 {
					t.Errorf("after the apply: %v", kinds(rest.Ops))
				}
			}
			settle()
			holds(w.ca)
			// What somebody else put there stays, and a new generation joins.
			data, err := keystore.TrustStore(format, []*x509.Certificate{theirs.ca, w.ca}, nil)
			if err != nil {
				t.Fatal(err)
			}
			w.file(seen, path, data, 0o644)
			old := w.ca
			w.addGeneration(2)
			settle()
			holds(w.ca, old, theirs.ca)
			w.trust.Authorities[0].Generations[0].Phase = "retired"
			settle()
			holds(w.ca, theirs.ca)
			// One with a password is not ours to write over.
			if data, err = keystore.TrustStore(format, []*x509.Certificate{theirs.ca}, []byte("of somebody")); err != nil {
				t.Fatal(err)
			}
			w.file(seen, path, data, 0o644)
			part := w.plan(h, seen, Options{})
			if !slices.Contains(codes(part), "store-unreadable") || slices.ContainsFunc(part.Ops, func(o plan.Op) bool { return o.Subject() == path }) {
				t.Errorf("findings %v, operations %v", codes(part), kinds(part.Ops))
			}
			h.Policy.Stores[0].Foreign = "remove"
			settle()
			holds(w.ca)
			if bytes.Contains(seen.Path(path).Content, theirs.ca.Raw) {
				t.Error("the other CA is still in it")
			}
		})
	}
}
