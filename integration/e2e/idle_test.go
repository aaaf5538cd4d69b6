package e2e

import (
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

func active(t *testing.T, h *lab.Host) bool {
	return operator.Sh(t, h, "systemctl is-active libvirtd.service || :") == "active"
}

// libvirtd leaves when nobody uses it. Then there is still nothing to do.
func TestIdle(t *testing.T) {
	t.Parallel()
	spec := lab.HostSpec{Files: map[string]lab.File{"/etc/default/libvirtd": {Content: []byte("LIBVIRTD_ARGS=\"--timeout 10\"\n")}}}
	s := newReadySite(t, spec, spec)
	s.Run(t, 0, "apply", "--yes")
	if !active(t, s.Hosts[0]) {
		t.Fatal("libvirtd does not run after apply: this shows nothing")
	}
	for _, h := range s.Hosts {
		operator.Until(t, limit, "libvirtd leaves "+h.Name, func() bool { return !active(t, h) })
	}
	s.Empty(t)
	for _, h := range s.Hosts {
		// A plan's look at what is served wakes it.
		operator.Until(t, limit, "libvirtd leaves "+h.Name, func() bool { return !active(t, h) })
	}
	if err := virsh(t, s.Hosts[1], s.Hosts[0]); err != nil {
		t.Error(err)
	}
	s.Empty(t)
	s.Run(t, 0, "verify")
}

// The same with the time that libvirtd takes by itself.
func TestIdleThreeMinutes(t *testing.T) {
	// Three minutes that cost nothing: the other tests run meanwhile.
	t.Parallel()
	s := newReadySite(t, lab.HostSpec{}, lab.HostSpec{})
	s.Run(t, 0, "apply", "--yes")
	end := time.Now().Add(3 * time.Minute)
	for _, h := range s.Hosts {
		operator.Until(t, 3*time.Minute, "libvirtd leaves "+h.Name, func() bool { return !active(t, h) })
	}
	time.Sleep(time.Until(end))
	s.Empty(t)
	s.Run(t, 0, "apply", "--yes")
	s.Run(t, 0, "verify")
}
