package firewall

import (
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
)

const openToPeers = `allow "libvirt-tls" {
      port = 16514
      from = ["peers"]
    }`

func TestOpen(t *testing.T) {
	s := newSite(t, openToPeers)
	before := map[*lab.Host][]string{}
	for _, h := range s.walls {
		script(t, h, service)
		before[h] = rules(t, h)
		if reaches(t, s.peer, h) || reaches(t, s.nobody, h) {
			t.Errorf("%s: 16514 is open before apply", h.Firewall)
		}
		if got := script(t, h, "timeout 1 bash -c '</dev/tcp/127.0.0.1/16514' && echo open"); got != "open\n" {
			t.Errorf("%s: nothing listens, so nothing can be shown", h.Firewall)
		}
	}
	if out, code := s.run(t, virtrust, "apply", "-y"); code != 0 {
		t.Fatalf("apply: %d\n%s", code, out)
	}
	settled := func(step string) {
		t.Helper()
		for _, h := range s.walls {
			if !reaches(t, s.peer, h) {
				t.Errorf("%s, %s: the peer does not get in", h.Firewall, step)
			}
			if reaches(t, s.nobody, h) {
				t.Errorf("%s, %s: a host that is no peer gets in", h.Firewall, step)
			}
			if s.knock(h) {
				t.Errorf("%s, %s: the controller gets in", h.Firewall, step)
			}
		}
		if out, code := s.run(t, virtrust, "plan", "--detailed-exitcode"); code != 0 {
			t.Errorf("%s: the plan is not empty: %d\n%s", step, code, out)
		}
	}
	settled("after apply")
	peers := []string{s.peer.Addresses.Management4.String()}
	for _, h := range s.walls {
		peers = append(peers, h.Addresses.Management4.String())
	}
	for _, h := range s.walls {
		added, gone := difference(before[h], rules(t, h))
		t.Logf("%s added:\n%s", h.Firewall, strings.Join(added, "\n"))
		for _, l := range added {
			ours := strings.TrimSpace(l) == ""
			for _, p := range peers {
				ours = ours || strings.Contains(l, p) && strings.Contains(l, "16514")
			}
			if !ours {
				t.Errorf("%s: a line that is not our rule: %q", h.Firewall, l)
			}
		}
		if len(gone) > 0 {
			t.Errorf("%s: lines are gone: %q", h.Firewall, gone)
		}
	}
	for _, h := range s.walls {
		if err := h.Reboot(t.Context()); err != nil {
			t.Fatal(err)
		}
		script(t, h, service)
	}
	settled("after a reboot")

	// What the policy no longer asks for is closed again, and only that.
	s.write(t, "")
	if out, code := s.run(t, virtrust, "apply", "-y"); code != 0 {
		t.Fatalf("apply without the allow block: %d\n%s", code, out)
	}
	for _, h := range s.walls {
		if reaches(t, s.peer, h) {
			t.Errorf("%s: still open after it left the policy", h.Firewall)
		}
		added, gone := difference(before[h], rules(t, h))
		for _, l := range append(added, gone...) {
			if strings.TrimSpace(l) != "" {
				t.Errorf("%s: opened and closed, the rules differ: %q", h.Firewall, l)
			}
		}
	}
	if out, code := s.run(t, virtrust, "plan", "--detailed-exitcode"); code != 0 {
		t.Errorf("closed: the plan is not empty: %d\n%s", code, out)
	}
}
