package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/authority/authoritytest"
)

// newExample starts hosts for an example. Only what no lab can have is changed:
// the hosts' domain, how to reach them, and that somebody types a passphrase.
func newExample(t *testing.T, name string, specs ...lab.HostSpec) *site {
	t.Helper()
	s := &site{Site: operator.New(t, specs...), passphrase: "only for this test"}
	s.Env = []string{"VT_PASSPHRASE=" + s.passphrase}
	files, err := filepath.Glob("../../examples/" + name + "/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("example %s: %v", name, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s.Write(t, filepath.Base(f), strings.NewReplacer(".example.com\"", "."+lab.Domain+"\"", `"prompt"`, `"env:VT_PASSPHRASE"`).Replace(string(text)))
	}
	s.Write(t, "lab.hcl", fmt.Sprintf("ssh {\n  known_hosts = %q\n  identity    = [%q]\n}\n", s.Lab.KnownHosts(), s.Lab.IdentityFile()))
	return s
}

// The steps of examples/rotate-ca, in the order that it gives, with a host that
// is away.
func TestRotateExample(t *testing.T) {
	t.Parallel()
	s := newExample(t, "rotate-ca", lab.HostSpec{}, lab.HostSpec{})
	s.Run(t, 0, "ca", "init")
	s.Run(t, 0, "apply", "--yes", "--exclude", "kvm3")
	rotate := []string{"ca", "rotate", "libvirt", "--yes"}
	confirmed := append(rotate, "--confirmed", "monitoring")
	s.Run(t, 0, rotate...)
	s.Run(t, 0, "apply", "--yes", "--exclude", "kvm3")
	operator.Contains(t, s.Run(t, 3, rotate...).Stdout, "monitoring", "ops@example.com puts the new bundle in place")
	operator.Contains(t, s.Run(t, 0, confirmed...).Stdout, "generation 2 is issuing")
	s.Run(t, 0, "apply", "--yes", "--exclude", "kvm3")
	operator.Contains(t, s.Run(t, 3, "ca", "matrix", "libvirt").Stdout, "2 of 6 pairs can talk", "kvm3 cannot be read")
	s.Run(t, 0, confirmed...)
	s.Run(t, 0, "apply", "--yes", "--exclude", "kvm3")
	operator.Contains(t, s.Run(t, 0, rotate...).Stdout, "generation 1 is destroyed")
	operator.Contains(t, s.Run(t, 0, "plan", "--exclude", "kvm3").Stdout, "Nothing to do")
	if err := virsh(t, s.Hosts[0], s.Hosts[1]); err != nil {
		t.Error(err)
	}
}

// The steps of examples/offline-ca.
func TestOfflineExample(t *testing.T) {
	t.Parallel()
	company := authoritytest.NewCompany(t)
	s := newExample(t, "offline-ca", lab.HostSpec{}, lab.HostSpec{})
	s.Run(t, 0, "ca", "import", "libvirt", filepath.Join(company.Dir, "chain.pem"))
	s.Run(t, 3, "apply", "--yes")
	requests, err := filepath.Glob(s.Path("requests/libvirt/*.csr"))
	if err != nil || len(requests) == 0 {
		t.Fatalf("no requests: %v", err)
	}
	signAll(t, company, requests)
	s.Run(t, 0, "apply", "--yes")
	s.Empty(t)
	if err := virsh(t, s.Hosts[0], s.Hosts[1]); err != nil {
		t.Error(err)
	}
}
