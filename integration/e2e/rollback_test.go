package e2e

import (
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/plan"
)

// The last transaction of a host is undone as a plan: a renewal to the leaf
// before it, a first apply to a host without listener and settings.
func TestRollback(t *testing.T) {
	t.Parallel()
	s := newReadySite(t, lab.HostSpec{}, lab.HostSpec{})
	kvm1, kvm2 := s.Hosts[0], s.Hosts[1]
	fresh := operator.Sh(t, kvm2, "sha256sum /etc/libvirt/libvirtd.conf /etc/libvirt/qemu.conf")
	if r := s.Run(t, 3, "rollback", "--yes", "kvm1"); !strings.Contains(r.Stdout, "changed nothing on this host yet") {
		t.Errorf("a host without journal: %s", r.Stdout)
	}
	s.Run(t, 0, "apply", "--yes")
	leaf, process := s.served(t, kvm1), daemon(t, kvm1)
	s.Run(t, 0, "apply", "--yes", "--limit", "kvm1", "--replace", "certificate.libvirt-server")
	if s.served(t, kvm1).Equal(leaf) {
		t.Fatal("the renewal changed nothing")
	}

	s.Run(t, 0, "rollback", "--yes", "kvm1")
	if !s.served(t, kvm1).Equal(leaf) {
		t.Error("the leaf before the renewal is not served again")
	}
	if now := daemon(t, kvm1); now != process {
		t.Errorf("libvirtd was restarted: %v, before %v", now, process)
	}
	s.Empty(t)

	// A name that someone changed since is not rolled back over.
	s.Run(t, 0, "apply", "--yes", "--limit", "kvm1", "--replace", "certificate.libvirt-server")
	operator.Sh(t, kvm1, "cd /etc/pki/libvirt/.virtrust/server && cp -a current kept && ln -s 1 other && mv -T other current")
	if r := s.Run(t, 3, "rollback", "--yes", "kvm1"); !strings.Contains(strings.Join(strings.Fields(r.Stdout), " "), "was changed since") {
		t.Errorf("a name that was changed: %s", r.Stdout)
	}
	operator.Sh(t, kvm1, "cd /etc/pki/libvirt/.virtrust/server && mv -T kept current")

	s.Run(t, 0, "rollback", "--yes", "kvm2")
	if got := operator.Sh(t, kvm2, "sha256sum /etc/libvirt/libvirtd.conf /etc/libvirt/qemu.conf"); got != fresh {
		t.Errorf("configuration files:\n%s\nbefore the first apply\n%s", got, fresh)
	}
	if got := operator.Sh(t, kvm2, "systemctl is-active libvirtd-tls.socket || :; ls /etc/pki/libvirt/servercert.pem /etc/pki/CA/cacert.pem 2>&1 || :; virsh -c qemu:///system uri"); !strings.Contains(got, "inactive") || strings.Count(got, "No such file") != 2 || !strings.Contains(got, "qemu:///system") {
		t.Errorf("after the first apply was rolled back: %s", got)
	}
	s.Run(t, 0, "apply", "--yes")
	s.Run(t, 0, "verify")
}

// A second run is told who holds a host, and unlock frees it from that run only.
func TestLease(t *testing.T) {
	t.Parallel()
	s := newReadySite(t, lab.HostSpec{})
	operator.Sh(t, s.Hosts[0], `umask 077; mkdir -p /run/virtrust
printf 'owner alice@elsewhere\nrun 20260101t000000z-0badcafe\nboot %s\nexpires 999999999\nfence 7\n' "$(cat /proc/sys/kernel/random/boot_id)" >/run/virtrust/lease`)
	rep := s.report(t, 5, "--yes")
	if h := rep.Hosts[0]; h.Result != plan.Held || h.Failure == nil || !strings.Contains(h.Failure.Text, "alice@elsewhere") || !strings.Contains(h.Failure.Hint, "unlock kvm1 --lease 20260101t000000z-0badcafe") {
		t.Errorf("report: %+v, %+v", h, h.Failure)
	}
	if r := s.Run(t, 1, "unlock", "kvm1", "--lease", "20260101t000000z-00000000"); !strings.Contains(r.Stderr, "alice@elsewhere") {
		t.Errorf("the lease of another run: %s", r.Stderr)
	}
	s.Run(t, 0, "unlock", "kvm1", "--lease", "20260101t000000z-0badcafe")
	s.Run(t, 0, "apply", "--yes")
	if got := operator.Sh(t, s.Hosts[0], "cat /run/virtrust/lease"); got != "fence 8" {
		t.Errorf("the fence does not go on growing: %q", got)
	}
}
