package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/plan"
)

// callers open libvirt over TLS between all pairs of hosts, again and again, and
// remember what failed.
type callers struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	calls  int
	failed []string
}

// call begins with one client for each ordered pair. A client that was refused
// says so; one whose call the end of the test cut off does not.
func (s *site) call(t *testing.T) *callers {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	c := &callers{stop: stop}
	for _, from := range s.Hosts {
		for _, to := range s.Hosts {
			if from == to {
				continue
			}
			c.wg.Go(func() {
				for ctx.Err() == nil {
					r, err := from.Run(ctx, "sh", "-c", "n=0; while [ $n -lt 10 ]; do timeout 60 virsh -q -c qemu+tls://"+to.FQDN+"/system hostname >/dev/null || exit 1; n=$((n+1)); done")
					if ctx.Err() != nil {
						return
					}
					c.mu.Lock()
					c.calls += 10
					if err == nil {
						err = r.Err()
					}
					if err != nil {
						c.failed = append(c.failed, time.Now().Format("15:04:05 ")+from.Name+" to "+to.Name+": "+strings.TrimSpace(r.Stderr))
					}
					c.mu.Unlock()
				}
			})
		}
	}
	return c
}

func (c *callers) end() (calls int, failed []string) {
	c.stop()
	c.wg.Wait()
	return c.calls, c.failed
}

// The built-in CA gives way to its next generation, step by step, on three
// releases, while every host calls every other.
func TestRotate(t *testing.T) {
	t.Parallel()
	s := newReadySite(t, lab.HostSpec{Suite: "bookworm"}, lab.HostSpec{Suite: "trixie"}, lab.HostSpec{Suite: "forky"})
	s.Run(t, 0, "apply", "--yes")
	s.Empty(t)
	before := map[string]string{}
	for _, h := range s.Hosts {
		operator.Sh(t, h, "virsh -q list") // wakes it
		before[h.Name] = daemon(t, h)
	}
	c := s.call(t)

	r := s.Run(t, 0, "ca", "rotate", "libvirt", "--yes")
	operator.Contains(t, r.Stdout, "generation 2 is prepared", "virtrust apply")
	r = s.Run(t, 3, "ca", "rotate", "libvirt", "--yes")
	operator.Contains(t, r.Stdout, "Step issue of generation 2 waits for 3 hosts", "it has not loaded generation 2")
	s.Run(t, 0, "apply", "--yes", "--limit", "kvm1")
	r = s.Run(t, 3, "ca", "rotate", "libvirt", "--yes")
	operator.Contains(t, r.Stdout, "waits for 2 hosts")
	s.Run(t, 0, "apply", "--yes")
	s.Empty(t)
	r = s.Run(t, 0, "ca", "rotate", "libvirt", "--yes")
	operator.Contains(t, r.Stdout, "generation 2 is issuing", "generation 1 is draining")
	r = s.Run(t, 0, "plan")
	operator.Contains(t, r.Stdout, "generation 1 of authority libvirt, which signed it, is")
	r = s.Run(t, 3, "ca", "rotate", "libvirt", "--yes")
	operator.Contains(t, r.Stdout, "Step retire of generation 1 waits for 3 hosts")
	s.Run(t, 0, "apply", "--yes")
	s.Empty(t)
	r = s.Run(t, 0, "ca", "matrix", "libvirt")
	operator.Contains(t, r.Stdout, "6 of 6 pairs can talk")
	s.Run(t, 0, "ca", "rotate", "libvirt", "--yes")
	rep := s.report(t, 0, "--yes")
	if rep.Count(plan.Changed) != 3 {
		t.Errorf("retired, and %+v", rep.Hosts)
	}
	s.Empty(t)
	r = s.Run(t, 0, "ca", "rotate", "libvirt", "--yes")
	operator.Contains(t, r.Stdout, "generation 1 is destroyed")

	calls, failed := c.end()
	t.Logf("%d connections between all pairs during the change", calls)
	if len(failed) > 0 || calls < 60 {
		t.Errorf("%d of %d connections failed:\n%s", len(failed), calls, strings.Join(failed, "\n"))
	}
	for _, h := range s.Hosts {
		if n := operator.Sh(t, h, "grep -c BEGIN /etc/pki/CA/cacert.pem"); n != "1" {
			t.Errorf("%s has %s CAs in its bundle", h.Name, n)
		}
		if got := s.served(t, h).Issuer.CommonName; !strings.HasSuffix(got, "libvirt g2") {
			t.Errorf("%s serves a leaf of %q", h.Name, got)
		}
		if now := daemon(t, h); now != before[h.Name] {
			t.Errorf("%s: libvirtd was restarted: %s, then %s:\n%s", h.Name, before[h.Name], now, operator.Sh(t, h, "journalctl -u libvirtd -o short-precise --no-pager | tail -n 60"))
		}
		clean(t, h)
	}
	s.Run(t, 0, "verify")
	var list []struct {
		Name        string
		Generations []struct {
			Number int
			Phase  string
		}
	}
	if err := json.Unmarshal([]byte(s.Run(t, 0, "ca", "list", "--json").Stdout), &list); err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.Name == "libvirt" && (a.Generations[0].Phase != "destroyed" || a.Generations[1].Phase != "issuing") {
			t.Errorf("in the end: %+v", a)
		}
	}
}
