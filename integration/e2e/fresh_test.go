package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/plan"
)

// From two fresh hosts to mutual TLS, and then nothing more to do.
func TestFresh(t *testing.T) {
	t.Parallel()
	s := newSite(t, lab.HostSpec{}, lab.HostSpec{})
	kvm1, kvm2 := s.Hosts[0], s.Hosts[1]

	r := s.Run(t, 0, "validate")
	operator.Contains(t, r.Stdout, "2 hosts")
	operator.Contains(t, r.Stderr, "ca init") // a note, beside the result
	r = s.Run(t, 1, "plan")
	operator.Contains(t, r.Stderr, `authority "libvirt" has no certificate yet`, "virtrust ca init libvirt")
	if r.Stdout != "" {
		t.Errorf("a refused plan has a result: %s", r.Stdout)
	}
	s.Run(t, 0, "ca", "init")

	before := tree(t, kvm1, true)
	r = s.Run(t, 0, "plan")
	operator.Contains(t, r.Stdout, "2 hosts change")
	s.Run(t, 2, "plan", "--detailed-exitcode")
	file := s.Path("fresh.plan.json")
	r = s.Run(t, 0, "plan", "--json", "--out", file)
	p := operator.Decode[plan.Plan](t, r.Stdout)
	if change, held, unread, _ := p.Count(); change != 2 || held+unread != 0 {
		t.Errorf("the plan changes %d hosts, holds %d, could not read %d", change, held, unread)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the saved plan: %v, %v", info, err)
	}
	r = s.Run(t, 6, "apply")
	operator.Contains(t, r.Stderr, "--yes")
	if after := tree(t, kvm1, true); after != before {
		t.Errorf("planning changed the host:\n%s", diff(before, after))
	}

	r = s.Run(t, 0, "apply", "--yes")
	operator.Contains(t, r.Stdout, "2 changed")
	if strings.Contains(r.Stdout, "kvm1: stage") || !strings.Contains(r.Stderr, "kvm1: stage") {
		t.Errorf("progress belongs on standard error:\n%s---\n%s", r.Stdout, r.Stderr)
	}
	for _, h := range s.Hosts {
		clean(t, h)
	}
	s.Empty(t)
	s.Run(t, 0, "verify")
	if out := s.Run(t, 0, "verify", "--json").Stdout; !json.Valid([]byte(out)) {
		t.Errorf("verify --json: %s", out)
	}
	r = s.Run(t, 0, "status")
	operator.Contains(t, r.Stdout, "kvm1", "kvm2", "libvirt-server", "libvirt-client")
	if out := s.Run(t, 0, "status", "--json").Stdout; !json.Valid([]byte(out)) {
		t.Errorf("status --json: %s", out)
	}
	for _, pair := range [][2]*lab.Host{{kvm1, kvm2}, {kvm2, kvm1}} {
		if err := virsh(t, pair[0], pair[1]); err != nil {
			t.Errorf("virsh from %s to %s: %v", pair[0].Name, pair[1].Name, err)
		}
	}

	t.Run("again", func(t *testing.T) {
		files, process := tree(t, kvm1, true), daemon(t, kvm1)
		rep := s.report(t, 0, "--yes")
		if rep.Count(plan.Unchanged) != 2 {
			t.Errorf("a second apply: %+v", rep.Hosts)
		}
		if after := tree(t, kvm1, true); after != files {
			t.Errorf("a second apply touched files:\n%s", diff(files, after))
		}
		if after := daemon(t, kvm1); after != process {
			t.Errorf("a second apply restarted libvirtd: %s, then %s", process, after)
		}
	})
	t.Run("host away", func(t *testing.T) {
		// A configuration without hosts, or with fewer, never means "remove".
		files := tree(t, kvm2, true)
		s.Write(t, "inventory.hcl", s.Inventory("", kvm1))
		s.Empty(t)
		s.Run(t, 0, "apply", "--yes")
		s.Write(t, "inventory.hcl", s.Inventory(""))
		for _, args := range [][]string{{"plan"}, {"apply", "--yes"}, {"verify"}, {"status"}} {
			r := s.Run(t, 1, args...)
			operator.Contains(t, r.Stderr, "no hosts")
		}
		s.Write(t, "inventory.hcl", s.Inventory("", s.Hosts...))
		for _, args := range [][]string{{"--limit", "nosuch"}, {"--limit", "kvm1", "--exclude", "kvm*"}, {"--exclude", "kvm1,kvm2"}, {"--limit", "cluster:none"}} {
			s.Run(t, 1, append([]string{"plan"}, args...)...)
			s.Run(t, 1, append([]string{"apply", "--yes"}, args...)...)
		}
		operator.Contains(t, s.Run(t, 1, "plan", "--limit", "nosuch").Stderr, `"nosuch" matches no host`)
		if after := tree(t, kvm2, true); after != files {
			t.Errorf("a host that left the configuration was changed:\n%s", diff(files, after))
		}
		if err := virsh(t, kvm1, kvm2); err != nil {
			t.Errorf("virsh to the host that left: %v", err)
		}
	})
}

// diff shows the lines that only one of two texts has.
func diff(a, b string) string {
	in := func(text string) map[string]bool {
		m := map[string]bool{}
		for l := range strings.Lines(text) {
			m[strings.TrimSuffix(l, "\n")] = true
		}
		return m
	}
	old, young := in(a), in(b)
	var out strings.Builder
	for l := range strings.Lines(a) {
		if l = strings.TrimSuffix(l, "\n"); !young[l] {
			out.WriteString("- " + l + "\n")
		}
	}
	for l := range strings.Lines(b) {
		if l = strings.TrimSuffix(l, "\n"); !old[l] {
			out.WriteString("+ " + l + "\n")
		}
	}
	return out.String()
}
