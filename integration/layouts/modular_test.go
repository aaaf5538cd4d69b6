//go:build modular

package layouts

import (
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

// Modular daemons: virtproxyd listens and reads virtproxyd.conf, virtqemud
// reads qemu.conf. The third host runs libvirtd, so that migration is shown
// between both.
func TestModular(t *testing.T) {
	t.Parallel()
	s := newSite(t, lab.HostSpec{Suite: lab.Modular}, lab.HostSpec{Suite: lab.Modular}, lab.HostSpec{Suite: "trixie"})
	kvm1 := s.Hosts[0]
	for _, h := range s.Hosts[:2] {
		t.Logf("%s: %s", h.Name, operator.Sh(t, h, "virtqemud --version; virtproxyd --version; systemctl is-enabled libvirtd.service virtqemud.socket virtproxyd.socket || :"))
	}
	out := s.run(t, 0, "plan")
	operator.Contains(t, out, "settings in /etc/libvirt/virtproxyd.conf", "virtproxyd-tls.socket: enable and start", "restart virtqemud.service")

	// No proof, no change.
	operator.Sh(t, kvm1, "virsh -q -c qemu:///system list >/dev/null") // virtqemud runs
	blocked(t, kvm1, func() { operator.Contains(t, s.run(t, 3, "apply", "--yes", "--limit", "kvm1"), "everted") })
	if got := operator.Sh(t, kvm1, "ls /etc/pki/libvirt 2>/dev/null || :; systemctl is-active virtproxyd-tls.socket || :; systemctl is-enabled virtproxyd-tls.socket || :; grep -c '^migrate_tls' /etc/libvirt/qemu.conf || :; virsh -q -c qemu:///system uri; systemctl --failed --no-legend"); got != "inactive\ndisabled\n0\nqemu:///system" {
		t.Errorf("after the reverter: %q", got)
	}

	s.run(t, 0, "apply", "--yes")
	s.Empty(t)
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	if got := operator.Sh(t, kvm1, "systemctl is-enabled libvirtd.service virtproxyd-tls.socket || :"); got != "masked\nenabled" {
		t.Errorf("libvirtd.service and virtproxyd-tls.socket are %q", got)
	}

	t.Run("renewal", func(t *testing.T) {
		operator.Sh(t, kvm1, "systemctl start virtproxyd.service virtqemud.service")
		proxy, qemu := process(t, kvm1, "virtproxyd.service"), process(t, kvm1, "virtqemud.service")
		operator.Contains(t, s.run(t, 0, "apply", "--yes", "--replace", "certificate.libvirt-server"), "accepted by kvm1", "accepted by kvm2")
		if now := process(t, kvm1, "virtproxyd.service"); now != proxy {
			t.Errorf("virtproxyd was restarted: %s, then %s", proxy, now)
		}
		if now := process(t, kvm1, "virtqemud.service"); now != qemu {
			t.Errorf("virtqemud was restarted: %s, then %s", qemu, now)
		}
		s.Empty(t)
	})
	t.Run("idle", func(t *testing.T) {
		// As after two minutes without a client.
		operator.Sh(t, kvm1, "systemctl stop virtproxyd.service virtqemud.service")
		s.Empty(t)
		s.run(t, 0, "verify")
	})
	t.Run("qemu.conf", func(t *testing.T) {
		operator.Sh(t, kvm1, "systemctl start virtproxyd.service virtqemud.service; sed -i 's/^migrate_tls_x509_verify.*/migrate_tls_x509_verify = 0/' /etc/libvirt/qemu.conf")
		proxy, qemu := process(t, kvm1, "virtproxyd.service"), process(t, kvm1, "virtqemud.service")
		out := s.run(t, 0, "plan")
		operator.Contains(t, out, "restart virtqemud.service")
		if strings.Contains(out, "virtproxyd") {
			t.Errorf("virtproxyd is concerned:\n%s", out)
		}
		s.run(t, 0, "apply", "--yes")
		if now := process(t, kvm1, "virtproxyd.service"); now != proxy {
			t.Errorf("virtproxyd was restarted: %s, then %s", proxy, now)
		}
		if now := process(t, kvm1, "virtqemud.service"); now == qemu {
			t.Error("virtqemud was not restarted")
		}
		s.Empty(t)
	})
	t.Run("migration", func(t *testing.T) {
		operator.Contains(t, s.run(t, 0, "verify", "--migrate"), "3 of 3 pairs")
	})
	t.Run("reboot", func(t *testing.T) {
		if err := kvm1.Reboot(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Empty(t)
		s.run(t, 0, "verify")
	})
	t.Run("rollback", func(t *testing.T) {
		s.run(t, 0, "apply", "--yes", "--replace", "certificate.libvirt-server", "--limit", "kvm1")
		proxy := process(t, kvm1, "virtproxyd.service")
		s.run(t, 0, "rollback", "kvm1", "--yes")
		if now := process(t, kvm1, "virtproxyd.service"); now != proxy {
			t.Errorf("virtproxyd was restarted: %s, then %s", proxy, now)
		}
		s.run(t, 0, "verify")
	})
}
