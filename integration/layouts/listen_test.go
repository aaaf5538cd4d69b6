package layouts

import (
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

const allSockets = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd-tls.socket libvirtd-tcp.socket"

// libvirtd without socket units listens itself. One host was prepared well, on
// the other the sockets were masked and never stopped, and the variable of
// another release was set: nothing listens there, and libvirtd would leave.
func TestListen(t *testing.T) {
	t.Parallel()
	s := newSite(t, lab.HostSpec{Suite: "trixie"}, lab.HostSpec{Suite: "bookworm"})
	well, broken := s.Hosts[0], s.Hosts[1]
	operator.Sh(t, well, "systemctl stop libvirtd.service "+allSockets+"; systemctl mask "+allSockets+"; systemctl start libvirtd.service")
	operator.Sh(t, broken, `systemctl mask `+allSockets+`
printf 'libvirtd_opts="--listen"\n# kept\n' >>/etc/default/libvirtd
printf 'listen_tls = 0\n' >>/etc/libvirt/libvirtd.conf
systemctl restart libvirtd.service`)
	masked := func() {
		t.Helper()
		for _, h := range s.Hosts {
			if got := operator.Sh(t, h, "systemctl is-enabled "+allSockets+" | sort -u; systemctl is-active "+allSockets+" | sort -u"); got != "masked\ninactive" {
				t.Errorf("%s: its sockets are %q", h.Name, got)
			}
			operator.Contains(t, operator.Sh(t, h, "tr '\\0' ' ' </proc/$(systemctl show -p MainPID --value libvirtd.service)/cmdline"), "--listen")
		}
	}

	operator.Contains(t, s.run(t, 0, "plan"), "settings in /etc/default/libvirtd", "LIBVIRTD_ARGS: (not set) -> --listen", "listen_tls: 0 -> 1")

	// No proof, no change: the daemon is as before, without a listener.
	before := process(t, well, "libvirtd.service")
	blocked(t, well, func() { operator.Contains(t, s.run(t, 3, "apply", "--yes", "--limit", "kvm1"), "everted") })
	if got := operator.Sh(t, well, "grep -c '^LIBVIRTD_ARGS' /etc/default/libvirtd || :; ls /etc/pki/libvirt 2>/dev/null || :; ss -Hltn 'sport = :16514'; virsh -q -c qemu:///system uri"); got != "0\nqemu:///system" {
		t.Errorf("after the reverter, with libvirtd %s before: %q", before, got)
	}

	s.run(t, 0, "apply", "--yes")
	s.Empty(t)
	operator.Contains(t, s.run(t, 0, "verify"), "2 of 2 dials accepted")
	masked()
	if got := operator.Sh(t, broken, "tail -n 3 /etc/default/libvirtd"); got != "libvirtd_opts=\"--listen\"\n# kept\nLIBVIRTD_ARGS=\"--listen\"" {
		t.Errorf("/etc/default/libvirtd ends with %q", got)
	}

	t.Run("renewal", func(t *testing.T) {
		pids := process(t, well, "libvirtd.service") + " " + process(t, broken, "libvirtd.service")
		operator.Contains(t, s.run(t, 0, "apply", "--yes", "--replace", "certificate.libvirt-server"), "accepted by kvm1", "accepted by kvm2")
		if after := process(t, well, "libvirtd.service") + " " + process(t, broken, "libvirtd.service"); after != pids {
			t.Errorf("libvirtd was restarted: %s, then %s", pids, after)
		}
		s.Empty(t)
	})
	t.Run("drift", func(t *testing.T) {
		operator.Sh(t, well, "sed -i 's/^LIBVIRTD_ARGS=.*/LIBVIRTD_ARGS=\"--listen --timeout 120\"/' /etc/default/libvirtd; systemctl restart libvirtd.service")
		operator.Sh(t, broken, "systemctl disable --now libvirtd.service")
		operator.Contains(t, s.run(t, 0, "plan"), "--listen --timeout 120 -> --listen", "libvirtd.service: enable and start")
		s.run(t, 0, "apply", "--yes")
		s.Empty(t)
		masked()
	})
	t.Run("rollback", func(t *testing.T) {
		s.run(t, 0, "rollback", "kvm1", "--yes")
		operator.Contains(t, operator.Sh(t, well, "grep '^LIBVIRTD_ARGS' /etc/default/libvirtd"), "--timeout 120")
		s.run(t, 0, "apply", "--yes")
		s.Empty(t)
	})
	t.Run("reboot", func(t *testing.T) {
		for _, h := range s.Hosts {
			if err := h.Reboot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		s.Empty(t)
		s.run(t, 0, "verify")
		masked()
	})
	t.Run("both ways", func(t *testing.T) {
		operator.Sh(t, well, "systemctl unmask "+allSockets)
		before := process(t, well, "libvirtd.service")
		operator.Contains(t, s.run(t, anyCode, "apply", "--yes"), "held", "not masked")
		if now := process(t, well, "libvirtd.service"); now != before {
			t.Errorf("a held host's libvirtd was restarted: %s, then %s", before, now)
		}
	})
}
