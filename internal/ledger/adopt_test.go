package ledger

import (
	"path/filepath"
	"testing"

	"github.com/virtrust/virtrust/internal/pki"
)

// A second ledger learns of what the first one issued from the certificates
// alone.
func TestAdopt(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	_, kept := f.issue(t)
	_, gone := f.issue(t)
	leaf := func(sha string) Issuance {
		i, err := f.IssuanceByLeaf(ctx, sha)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	l := open(t, filepath.Join(t.TempDir(), "ledger.db"), Create)
	g := f.generation()
	g.Phase = pki.PhaseDraining // its leaves are adopted, too
	if err := l.AddGeneration(ctx, "", "libvirt", g); err != nil {
		t.Fatal(err)
	}
	run := startRun(t, l)
	if err := l.Revoke(ctx, run, Revocation{Authority: "libvirt", Generation: 1, Serial: leaf(gone).Serial}); err != nil {
		t.Fatal(err)
	}
	for _, sha := range []string{kept, gone, kept} {
		if err := l.Adopt(ctx, run, "libvirt", 1, "kvm1", "libvirt-server", leaf(sha).Cert); err != nil {
			t.Fatal(err)
		}
	}
	for sha, want := range map[string]State{kept: StateInstalled, gone: StateRevoked} {
		i, err := l.IssuanceByLeaf(ctx, sha)
		was := leaf(sha)
		if err != nil || i.State != want || i.Serial != was.Serial || i.SPKISHA256 != was.SPKISHA256 || i.Profile.CommonName != profile.CommonName {
			t.Errorf("%s, serial %s, %v; want %s, %s", i.State, i.Serial, err, want, was.Serial)
		}
	}
	if all, err := l.Issuances(ctx, Filter{}); err != nil || len(all) != 2 {
		t.Errorf("%d issuances, %v", len(all), err)
	}
	if err := l.Adopt(ctx, run, "libvirt", 2, "kvm1", "libvirt-client", leaf(kept).Cert); err != nil {
		t.Errorf("a known leaf again: %v", err)
	}
	if err := l.Adopt(ctx, run, "libvirt", 1, "", "libvirt-server", leaf(kept).Cert); err == nil {
		t.Error("no host: no error")
	}
	if err := l.Verify(ctx); err != nil {
		t.Error(err)
	}
}
