package qemu

import (
	"fmt"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

// site is a host of each release and their configuration, in one cluster.
type site struct{ *operator.Site }

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{operator.New(t, lab.HostSpec{Suite: "bookworm"}, lab.HostSpec{Suite: "trixie"}, lab.HostSpec{Suite: "forky"})}
	s.Env = []string{"VT_PASSPHRASE=correct horse battery"}
	s.policy(t, "")
	return s
}

// policy writes the authorities and the policy, with what else it says.
func (s *site) policy(t *testing.T, more string) {
	t.Helper()
	s.Write(t, "policy.hcl", `authority "libvirt" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

authority "qemu" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

authority "display" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

policy "standard" {
  template = "libvirt"
  rollout {
    canary = 0
    batch  = "100%"
  }
`+more+`}
`)
}

// inventory writes the hosts with a stance on migration, and what else.
func (s *site) inventory(t *testing.T, migration, more string) {
	t.Helper()
	s.Write(t, "inventory.hcl", s.Inventory(fmt.Sprintf("  migration = %q\n", migration), s.Hosts...)+more)
}

// run is Run for who wants the output.
func (s *site) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	return s.Run(t, code, args...).Stdout
}
