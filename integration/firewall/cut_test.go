package firewall

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

const window = 15 * time.Second

// A rule that keeps new SSH connections out comes back: by the run itself where
// its own connection lives on, else by the timer on the host.
func TestCut(t *testing.T) {
	s := newSite(t, openToPeers)
	// Killed is the harder case: nobody is left to ask for the undo.
	cases := []bool{true}
	if os.Getenv("VIRTRUST_LONG") == "1" {
		cases = []bool{true, false}
	}
	for _, killed := range cases {
		t.Run(map[bool]string{true: "killed after the switch", false: "alive"}[killed], func(t *testing.T) {
			for _, h := range s.walls {
				t.Run(string(h.Firewall), func(t *testing.T) {
					t.Parallel()
					s.cut(t, h, killed)
				})
			}
		})
	}
}

func (s *site) cut(t *testing.T, h *lab.Host, killed bool) {
	before := rules(t, h)
	if !s.answers(t, h) {
		t.Fatal("SSH does not answer to begin with")
	}
	cmd := s.command(cutting, "apply", "-y", "--limit", h.Name, "--revert-after", window.String())
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for s.answers(t, h) {
		if time.Since(began) > time.Minute {
			t.Fatalf("SSH was never cut: the test shows nothing\n%s", out.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	cut := time.Now()
	if killed {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	for !s.answers(t, h) {
		if time.Since(cut) > window+10*time.Second {
			t.Fatalf("SSH has not come back %s after it was cut\n%s\n%s", time.Since(cut), out.String(), script(t, h, "cat /var/lib/virtrust/journal; nft list ruleset"))
		}
	}
	t.Logf("SSH was away for %s", time.Since(cut).Round(100*time.Millisecond))
	err := cmd.Wait()
	if err == nil {
		t.Errorf("apply is content:\n%s", out.String())
	}
	for range 100 {
		if strings.Contains(script(t, h, "cat /var/lib/virtrust/journal"), "\nreverted") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if added, gone := difference(before, rules(t, h)); len(added)+len(gone) > 0 {
		t.Errorf("the rules are not as before: %q came, %q went", added, gone)
	}
	// The program itself finds nothing in its way and does it right.
	if !killed {
		return
	}
	if out, code := s.run(t, virtrust, "apply", "-y", "--limit", h.Name); code != 0 {
		t.Errorf("the next apply: %d\n%s", code, out)
	}
}

// knock reports whether the controller gets in on 16514.
func (s *site) knock(h *lab.Host) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
	defer cancel()
	c, err := s.Dial(ctx, "tcp", net.JoinHostPort(h.Addresses.Management4.String(), "16514"))
	if err != nil {
		return false
	}
	c.Close()
	return true
}
