package qemu

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

// site is a lab and the configuration of its hosts, in one cluster.
type site struct {
	lab      *lab.Lab
	hosts    []*lab.Host
	virtrust string // the program
	dir      string // of the configuration
}

func newSite(t *testing.T) *site {
	t.Helper()
	lab.Require(t)
	s := &site{dir: t.TempDir(), virtrust: filepath.Join(t.TempDir(), "virtrust")}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", s.virtrust, "github.com/virtrust/virtrust/cmd/virtrust")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building virtrust: %v\n%s", err, out)
	}
	var err error
	if s.lab, err = lab.New(t.Context(), lab.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.lab.Close(); err != nil {
			t.Error(err)
		}
	})
	s.hosts, err = s.lab.Start(t.Context(), lab.HostSpec{Suite: "bookworm"}, lab.HostSpec{Suite: "trixie"}, lab.HostSpec{Suite: "forky"})
	if err != nil {
		t.Fatal(err)
	}
	s.policy(t, "")
	return s
}

// policy writes the authorities and the policy, with what else it says.
func (s *site) policy(t *testing.T, more string) {
	t.Helper()
	s.write(t, "policy.hcl", `authority "libvirt" {
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

func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// inventory writes the hosts with a stance on migration, and what else.
func (s *site) inventory(t *testing.T, migration, more string) {
	t.Helper()
	text := fmt.Sprintf(`cluster "rack1" {
  policy    = policy.standard
  migration = %q
}

ssh {
  known_hosts = %q
  identity    = [%q]
}
`, migration, s.lab.KnownHosts(), s.lab.IdentityFile())
	for _, h := range s.hosts {
		text += fmt.Sprintf("\nhost %q {\n  address = %q\n  cluster = cluster.rack1\n}\n", h.Name, h.FQDN)
	}
	s.write(t, "inventory.hcl", text+more)
}

// run runs the program, which must end with that code, and gives its output.
func (s *site) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := s.lab.Command(ctx, s.virtrust, append([]string{"-C", s.dir}, args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "VT_PASSPHRASE=correct horse battery")
	var out, notes bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &notes
	began := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("%s virtrust %s: %d", time.Since(began).Round(10*time.Millisecond), strings.Join(args, " "), cmd.ProcessState.ExitCode())
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("virtrust %s: exit code %d, want %d\n%s\n%s", strings.Join(args, " "), got, code, out.String(), notes.String())
	}
	return out.String()
}

// on runs a script on a host as root.
func on(t *testing.T, h *lab.Host, script string) lab.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	r, err := h.Script(ctx, script)
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	return r
}

// must is on for a script that has to end well.
func must(t *testing.T, h *lab.Host, script string) string {
	t.Helper()
	r := on(t, h, script)
	if r.Code != 0 {
		t.Fatalf("%s: %s\n%s%s", h.Name, script, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(text), " ") // as if it were not wrapped
	for _, w := range wants {
		if !strings.Contains(flat, w) {
			t.Errorf("%q is missing in:\n%s", w, text)
		}
	}
}
