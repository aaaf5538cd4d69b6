package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/plan"
)

// A saved plan is carried out as it was shown, or not at all.
func TestSavedPlan(t *testing.T) {
	t.Parallel()
	s := newReadySite(t, lab.HostSpec{}, lab.HostSpec{})
	kvm1 := s.Hosts[0]
	file := s.Path("it.plan.json")
	const conf = "/etc/libvirt/libvirtd.conf"

	t.Run("configuration changed", func(t *testing.T) {
		s.Run(t, 0, "plan", "--out", file)
		defer s.Write(t, "policy.hcl", policyHCL)
		s.Write(t, "policy.hcl", strings.Replace(policyHCL, `"libvirt"
}`, `"libvirt"
  settings "/etc/libvirt/libvirtd.conf" {
    max_clients = 4000
  }
}`, 1))
		if r := s.Exec(t, "validate"); r.Code != 0 {
			t.Fatalf("the changed configuration is not valid:\n%s", r.Stderr)
		}
		operator.Contains(t, s.Run(t, 4, "apply", file).Stderr, "the configuration changed", "make a new plan")
	})

	// The undone host is as the plan saw it, so each case starts from the same state.
	for _, c := range []struct{ name, do, undo string }{
		{"content", "echo '# mine' >>" + conf, "sed -i '$d' " + conf},
		{"mode", "chmod 640 " + conf, "chmod 644 " + conf},
		{"owner", "chown :daemon " + conf, "chown :root " + conf},
		{"link", "mv " + conf + " /etc/libvirt/mine; ln -s mine " + conf, "rm " + conf + "; mv /etc/libvirt/mine " + conf},
		{"added file", "mkdir -p /etc/pki/CA; echo mine >/etc/pki/CA/cacert.pem", "rm -r /etc/pki"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Run(t, 0, "plan", "--limit", "kvm1", "--out", file)
			operator.Sh(t, kvm1, c.do)
			before := tree(t, kvm1, true)
			rep := s.report(t, 4, file)
			if h := rep.Hosts[0]; h.Result != plan.Held || h.Failure == nil || h.Failure.Class != "moved" || h.Failure.Hint == "" {
				t.Errorf("the host that moved: %+v, %+v", h, h.Failure)
			}
			if after := tree(t, kvm1, true); after != before {
				t.Errorf("the host that moved was changed:\n%s", diff(before, after))
			}
			clean(t, kvm1)
			operator.Sh(t, kvm1, c.undo)
		})
	}

	t.Run("one of two moved", func(t *testing.T) {
		s.Run(t, 0, "plan", "--out", file)
		operator.Sh(t, kvm1, "echo '# mine' >>"+conf)
		rep := s.report(t, 3, file)
		if a, b := rep.Hosts[0].Result, rep.Hosts[1].Result; a != plan.Held || b != plan.Changed {
			t.Errorf("kvm1 %s, kvm2 %s", a, b)
		}
	})
	t.Run("as shown", func(t *testing.T) {
		s.Run(t, 1, "apply", s.Path("nosuch.plan.json"))
		if err := os.WriteFile(s.Path("bad.plan.json"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Run(t, 1, "apply", s.Path("bad.plan.json"))
		s.Run(t, 0, "plan", "--out", file)
		s.Run(t, 1, "apply", file, "--limit", "kvm1")
		r := s.Run(t, 0, "apply", file) // carried out without a question: it was approved as it is
		operator.Contains(t, r.Stdout, "1 changed, 1 unchanged")
		operator.Contains(t, operator.Sh(t, kvm1, "cat "+conf), "# mine")
		s.Empty(t)
		s.Run(t, 4, "apply", file) // used up
	})
}
