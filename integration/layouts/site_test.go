package layouts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

// site is hosts in one lab and a configuration for them.
type site struct {
	lab    *lab.Lab
	hosts  []*lab.Host
	dir    string
	binary string
}

func newSite(t *testing.T, specs ...lab.HostSpec) *site {
	t.Helper()
	lab.Require(t)
	l, err := lab.New(t.Context(), lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &site{lab: l, dir: t.TempDir(), binary: filepath.Join(t.TempDir(), "virtrust")}
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", s.binary, "../../cmd/virtrust")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s.hosts, err = l.Start(t.Context(), specs...); err != nil {
		t.Fatal(err)
	}
	inventory := fmt.Sprintf(`cluster "rack1" {
  policy    = policy.standard
  migration = "available"
}

ssh {
  known_hosts = %q
  identity    = [%q]
}
`, l.KnownHosts(), l.IdentityFile())
	for _, h := range s.hosts {
		inventory += fmt.Sprintf("\nhost %q {\n  address = %q\n  cluster = cluster.rack1\n}\n", h.Name, h.FQDN)
	}
	s.write(t, "inventory.hcl", inventory)
	s.write(t, "policy.hcl", `authority "libvirt" {
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
	s.write(t, "pass", "only for this test\n")
	s.run(t, 0, "ca", "init")
	return s
}

func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const anyCode = -1

// run runs virtrust, which has to end with the code, and gives all that it wrote.
func (s *site) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := s.lab.Command(ctx, s.binary, append([]string{"-C", s.dir}, args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("virtrust %s: %d, %s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), time.Since(began).Round(100*time.Millisecond))
	if got := cmd.ProcessState.ExitCode(); code != anyCode && got != code {
		t.Fatalf("virtrust %s ended with %d and not %d:\n%s", strings.Join(args, " "), got, code, &out)
	}
	return out.String()
}

func (s *site) empty(t *testing.T) {
	t.Helper()
	if out := s.run(t, 0, "plan", "--detailed-exitcode"); !strings.Contains(out, "Nothing to do") {
		t.Fatalf("the plan is not empty:\n%s", out)
	}
}

func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in:\n%s", w, text)
		}
	}
}

// sh runs a script on a host; it has to end well.
func sh(t *testing.T, h *lab.Host, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := h.Script(ctx, "export LC_ALL=C\n"+script)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Fatalf("%s: %s: %v", h.Name, script, err)
	}
	return strings.TrimSpace(r.Stdout)
}

// blocked keeps connections from reaching the listener while do runs, so that
// no proof of a change can succeed.
func blocked(t *testing.T, h *lab.Host, do func()) {
	t.Helper()
	sh(t, h, `nft add table inet blocked
nft add chain inet blocked input '{ type filter hook input priority 0; }'
nft add rule inet blocked input tcp dport 16514 reject with tcp reset`)
	do()
	sh(t, h, "nft delete table inet blocked")
}

// process is the main process and the start of a service; "0" where it has none.
func process(t *testing.T, h *lab.Host, service string) string {
	t.Helper()
	return sh(t, h, "systemctl show -p MainPID --value "+service)
}
