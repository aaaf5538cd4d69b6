package layouts

import (
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

// site is hosts in one lab and a configuration for them.
type site struct{ *operator.Site }

func newSite(t *testing.T, specs ...lab.HostSpec) *site {
	t.Helper()
	s := &site{operator.New(t, specs...)}
	s.Write(t, "inventory.hcl", s.Inventory("  migration = \"available\"\n", s.Hosts...))
	s.Write(t, "policy.hcl", `authority "libvirt" {
  organization    = "Example"
  passphrase_from = "file:pass"
}

authority "qemu" {
  organization    = "Example"
  passphrase_from = "file:pass"
}

policy "standard" {
  template = "libvirt"
}
`)
	s.Write(t, "pass", "only for this test\n")
	s.run(t, 0, "ca", "init")
	return s
}

const anyCode = -1

// run is Run for who wants all that virtrust wrote, and takes any exit status,
// too.
func (s *site) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	r := s.Exec(t, args...)
	if code != anyCode {
		r.Want(t, code, args...)
	}
	return r.Stdout + r.Stderr
}

// blocked keeps connections from reaching the listener while do runs, so that
// no proof of a change can succeed.
func blocked(t *testing.T, h *lab.Host, do func()) {
	t.Helper()
	operator.Sh(t, h, `nft add table inet blocked
nft add chain inet blocked input '{ type filter hook input priority 0; }'
nft add rule inet blocked input tcp dport 16514 reject with tcp reset`)
	do()
	operator.Sh(t, h, "nft delete table inet blocked")
}

// process is the main process and the start of a service; "0" where it has none.
func process(t *testing.T, h *lab.Host, service string) string {
	t.Helper()
	return operator.Sh(t, h, "systemctl show -p MainPID --value "+service)
}
