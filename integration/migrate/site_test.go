package migrate

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/dirtyguest"
	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

// site is three hosts of three releases, secured by the program.
type site struct{ *operator.Site }

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{operator.New(t, lab.HostSpec{Suite: "bookworm"}, lab.HostSpec{Suite: "trixie"}, lab.HostSpec{Suite: "forky"})}
	s.configure(t, "available", "")
	s.Write(t, "pass", "only for this test\n")
	s.Run(t, 0, "ca", "init")
	s.Run(t, 0, "apply", "--yes")
	return s
}

// configure writes the configuration; settings are lines of the policy.
func (s *site) configure(t *testing.T, migration, settings string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "network \"management\" {\n  cidrs = [\"10.77.0.0/24\"]\n}\nnetwork \"migration\" {\n  cidrs = [\"10.78.0.0/24\"]\n}\n")
	fmt.Fprintf(&b, "ssh {\n  known_hosts = %q\n  identity = [%q]\n}\n", s.Lab.KnownHosts(), s.Lab.IdentityFile())
	fmt.Fprintf(&b, "cluster \"rack1\" {\n  policy = policy.standard\n  migration = %q\n}\n", migration)
	for _, h := range s.Hosts {
		fmt.Fprintf(&b, "host %q {\n  address = %q\n  cluster = cluster.rack1\n", h.Name, h.FQDN)
		fmt.Fprintf(&b, "  nic \"management\" {\n    fqdn = %q\n    addresses = [%q]\n  }\n", h.FQDN, h.Addresses.Management4)
		fmt.Fprintf(&b, "  nic \"migration\" {\n    fqdn = \"%s-mig.%s\"\n    addresses = [%q]\n  }\n}\n", h.Name, lab.Domain, h.Addresses.Migration4)
	}
	policy := "authority \"libvirt\" {\n  organization = \"Example\"\n  passphrase_from = \"file:pass\"\n}\n" +
		"authority \"qemu\" {\n  organization = \"Example\"\n  passphrase_from = \"file:pass\"\n}\n" +
		"policy \"standard\" {\n  template = \"libvirt\"\n" + settings + "}\n"
	s.Write(t, "inventory.hcl", b.String())
	s.Write(t, "policy.hcl", policy)
}

// guest starts a guest on a host, with its floppy on all of them.
func (s *site) guest(t *testing.T, on *lab.Host, g dirtyguest.Guest) {
	t.Helper()
	g.Machine, g.Image = "pc-i440fx-7.2", "/var/lib/libvirt/images/"+g.Name+".img"
	for _, h := range s.Hosts {
		if err := h.WriteFile(t.Context(), g.Image, g.Floppy(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := on.WriteFile(t.Context(), "/root/"+g.Name+".xml", []byte(g.XML()), 0o644); err != nil {
		t.Fatal(err)
	}
	operator.Sh(t, on, "virsh -q -c qemu:///system create /root/"+g.Name+".xml")
}

func destroy(t *testing.T, h *lab.Host, name string) {
	t.Helper()
	operator.Sh(t, h, "virsh -q -c qemu:///system destroy "+name)
}

// job is the job that a host's guest is in; "absent" when it has no such guest.
func job(t *testing.T, h *lab.Host, name string) string {
	t.Helper()
	return operator.Sh(t, h, "f=/run/libvirt/qemu/"+name+`.xml
[ -f "$f" ] || { echo absent; exit; }
j=$(sed -n "s/.* async='\([^']*\)'.*/\1/p" "$f" | head -n 1)
echo "${j:-none}"`)
}

// moved is what migrate --json says.
type moved struct {
	Result  string   `json:"result"`
	TLS     bool     `json:"tls"`
	RunsOn  []string `json:"runs_on"`
	Stopped string   `json:"stopped"`
	Command string   `json:"command"`
}

// nothingLeft looks for guests and files of a proof on every host.
func (s *site) nothingLeft() (string, error) {
	var found []string
	for _, h := range s.Hosts {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		r, err := h.Script(ctx, `ls -d /run/virtrust/migration-* /run/libvirt/qemu/virtrust-proof-* 2>/dev/null || true
pgrep -f 'guest=[v]irtrust-proof-' || true
systemctl list-units --all --plain --no-legend 'virtrust-guard-*' 'virtrust-migration-*'`)
		cancel()
		if err == nil {
			err = r.Err()
		}
		if err != nil {
			return "", err
		}
		if out := strings.TrimSpace(r.Stdout); out != "" {
			found = append(found, h.Name+": "+out)
		}
	}
	return strings.Join(found, "\n"), nil
}

const interrupt = syscall.SIGINT
