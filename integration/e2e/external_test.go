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
	"github.com/virtrust/virtrust/plan"
)

// trust replaces the policy's authority of libvirt.
func (s *site) trust(t *testing.T, authority string) {
	t.Helper()
	s.Write(t, "policy.hcl", authority+"\nfleet {\n  migration = \"off\"\n}\n\npolicy \"standard\" {\n  template = \"libvirt\"\n}\n")
}

// A company signs: first on a separate computer, days later so to speak, then by
// a program. The hosts' keys stay where they are.
func TestExternalAuthority(t *testing.T) {
	t.Parallel()
	company := authoritytest.NewCompany(t)
	s := newSite(t, lab.HostSpec{}, lab.HostSpec{})
	s.Env = nil
	s.trust(t, `authority "libvirt" {
  kind = "offline"
}
`)
	r := s.Run(t, 1, "plan")
	operator.Contains(t, r.Stderr, "virtrust ca import libvirt")
	s.Run(t, 1, "ca", "init", "libvirt")
	r = s.Run(t, 0, "ca", "import", "libvirt", filepath.Join(company.Dir, "chain.pem"))
	operator.Contains(t, r.Stdout, "Company Issuing 1", "SHA-256")

	before := tree(t, s.Hosts[0], true)
	r = s.Run(t, 3, "apply", "--yes")
	operator.Contains(t, r.Stdout, "2 waiting", "requests/libvirt/kvm1.libvirt-server.", "apply again when the authority has signed")
	if after := tree(t, s.Hosts[0], true); strings.Contains(after, ".virtrust/server") || !strings.Contains(after, "/var/lib/virtrust/waiting") {
		t.Errorf("a host that waits has:\n%s", diff(before, after))
	}
	if open := operator.Sh(t, s.Hosts[0], `find /var/lib/virtrust/waiting \( -type d ! -perm 0700 -o -type f ! -perm 0600 -o ! -user root \)`); open != "" {
		t.Errorf("others may read what waits: %s", open)
	}
	clean(t, s.Hosts[0])
	requests, err := filepath.Glob(s.Path("requests/libvirt/*.csr"))
	if err != nil || len(requests) != 4 {
		t.Fatalf("two certificates of two hosts are asked for: %q, %v", requests, err)
	}
	// Asked again before anybody signed: the same requests, nothing changed.
	s.Run(t, 3, "apply", "--yes")
	if again, _ := filepath.Glob(s.Path("requests/libvirt/*")); len(again) != 4 {
		t.Errorf("a second apply left %q", again)
	}
	signAll(t, company, requests)
	rep := s.report(t, 0, "--yes")
	if rep.Count(plan.Changed) != 2 {
		t.Fatalf("%+v", rep.Hosts)
	}
	for _, h := range s.Hosts {
		clean(t, h)
		if left := operator.Sh(t, h, "ls -A /var/lib/virtrust/waiting"); left != "" {
			t.Errorf("%s keeps a key that nobody needs: %s", h.Name, left)
		}
	}
	s.Empty(t)
	s.Run(t, 0, "verify")
	if got := s.served(t, s.Hosts[0]).Issuer.CommonName; got != "Company Issuing 1" {
		t.Errorf("served is a leaf of %q", got)
	}
	if err := virsh(t, s.Hosts[0], s.Hosts[1]); err != nil {
		t.Error(err)
	}

	s.trust(t, fmt.Sprintf(`authority "libvirt" {
  kind = "exec"

  exec {
    command = [%q]
  }
}
`, filepath.Join(company.Dir, "sign.sh")))
	s.Empty(t)
	r = s.Run(t, 1, "apply", "--yes", "--replace", "certificate.libvirt-server")
	operator.Contains(t, r.Stderr, "--allow-exec")
	process := daemon(t, s.Hosts[0])
	s.Run(t, 0, "apply", "--yes", "--allow-exec", "--limit", "kvm1", "--replace", "certificate.libvirt-server")
	if now := daemon(t, s.Hosts[0]); now != process {
		t.Errorf("libvirtd was restarted: %s, then %s", process, now)
	}
	s.Empty(t)
	// A signer that gives what nobody asked for changes nothing.
	before = tree(t, s.Hosts[0], true)
	company.Run(t, `sed -i 's/^\topenssl req .*/\techo subjectAltName=DNS:everything.example.org/' sign.sh`)
	r = s.Run(t, 3, "apply", "--yes", "--allow-exec", "--limit", "kvm1", "--replace", "certificate.libvirt-server")
	operator.Contains(t, r.Stdout, "names is everything.example.org")
	if after := tree(t, s.Hosts[0], true); after != before && !strings.Contains(after, "waiting") {
		t.Errorf("a refused certificate changed the host:\n%s", diff(before, after))
	}
	s.Empty(t)
	if info, err := os.Stat(s.Path(".virtrust/ledger.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the ledger: %v, %v", info, err)
	}
}

// signAll has a CA sign requests and put each chain beside its request.
func signAll(t *testing.T, company *authoritytest.Company, requests []string) {
	t.Helper()
	for _, csr := range requests {
		usage := "server"
		if strings.Contains(csr, ".libvirt-client.") {
			usage = "client"
		}
		company.Run(t, fmt.Sprintf("VIRTRUST_USAGES=%s VIRTRUST_DAYS=60 ./sign.sh <'%s' >'%s'", usage, csr, strings.TrimSuffix(csr, "csr")+"crt"))
	}
}
