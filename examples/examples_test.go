package examples

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

// TestExamples loads each example and plans it for hosts of which nothing is
// known but that they answer: every task must be made and must not fail.
func TestExamples(t *testing.T) {
	dirs, err := filepath.Glob("*/inventory.hcl")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, d := range dirs {
		dir := filepath.Dir(d)
		t.Run(dir, func(t *testing.T) {
			fleet, diags := inventory.Load(dir, inventory.Options{})
			for _, d := range diags.All() {
				if d.Severity != inventory.SeverityNote {
					t.Errorf("%s: %s: %s", d.Severity, d.Summary, d.Detail)
				}
			}
			if fleet == nil {
				t.Fatal("it does not load")
			}
			files, err := filepath.Glob(filepath.Join(dir, "*.hcl"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				src, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				if out, err := inventory.Format(src); err != nil || string(out) != string(src) {
					t.Errorf("%s is not in the canonical layout (%v)", f, err)
				}
			}
			var trust pki.Trust
			for _, a := range fleet.Authorities {
				trust.Authorities = append(trust.Authorities, authority(t, a.Name, now))
			}
			for i := range fleet.Hosts {
				h := &fleet.Hosts[i]
				all, err := tasks.For(h, trust, tasks.Options{})
				if err != nil {
					t.Fatalf("%s: %v", h.Name, err)
				}
				for _, q := range plan.Queries(all) {
					if err := q.Check(); err != nil {
						t.Errorf("%s: %v", h.Name, err)
					}
				}
				p := plan.MakeHost(h.Name, h.Cluster, all, &facts.Host{Clock: now, MachineID: h.Name}, now)
				if !p.Held() {
					t.Errorf("%s: a host that has nothing is not held", h.Name)
				}
				for _, f := range p.Findings {
					if f.Text == "" || strings.Contains(f.Text, "%!") {
						t.Errorf("%s: finding %s says %q", h.Name, f.Code, f.Text)
					}
				}
			}
		})
	}
}

func authority(t *testing.T, name string, now time.Time) pki.Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := pki.NewSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.NewAuthority(now, pki.CAProfile{Name: name, Organization: "Example", Number: 1}, key, serial)
	if err != nil {
		t.Fatal(err)
	}
	return pki.Authority{Name: name, Generations: []pki.Generation{pki.NewGeneration(1, pki.PhaseIssuing, cert)}}
}
