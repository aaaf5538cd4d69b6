package migrate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/dirtyguest"
	"github.com/virtrust/virtrust/integration/lab"
)

// site is three hosts of three releases, secured by the program.
type site struct {
	lab    *lab.Lab
	hosts  []*lab.Host // bookworm, trixie, forky
	dir    string
	binary string
}

func newSite(t *testing.T) *site {
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
	s := &site{lab: l, dir: t.TempDir()}
	s.binary = filepath.Join(t.TempDir(), "virtrust")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", s.binary, "../../cmd/virtrust")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if s.hosts, err = l.Start(t.Context(), lab.HostSpec{Suite: "bookworm"}, lab.HostSpec{Suite: "trixie"}, lab.HostSpec{Suite: "forky"}); err != nil {
		t.Fatal(err)
	}
	s.configure(t, "available", "")
	if err := os.WriteFile(filepath.Join(s.dir, "pass"), []byte("only for this test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(t, 0, "ca", "init")
	s.run(t, 0, "apply", "--yes")
	return s
}

// configure writes the configuration; settings are lines of the policy.
func (s *site) configure(t *testing.T, migration, settings string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "network \"management\" {\n  cidrs = [\"10.77.0.0/24\"]\n}\nnetwork \"migration\" {\n  cidrs = [\"10.78.0.0/24\"]\n}\n")
	fmt.Fprintf(&b, "ssh {\n  known_hosts = %q\n  identity = [%q]\n}\n", s.lab.KnownHosts(), s.lab.IdentityFile())
	fmt.Fprintf(&b, "cluster \"rack1\" {\n  policy = policy.standard\n  migration = %q\n}\n", migration)
	for _, h := range s.hosts {
		fmt.Fprintf(&b, "host %q {\n  address = %q\n  cluster = cluster.rack1\n", h.Name, h.FQDN)
		fmt.Fprintf(&b, "  nic \"management\" {\n    fqdn = %q\n    addresses = [%q]\n  }\n", h.FQDN, h.Addresses.Management4)
		fmt.Fprintf(&b, "  nic \"migration\" {\n    fqdn = \"%s-mig.%s\"\n    addresses = [%q]\n  }\n}\n", h.Name, lab.Domain, h.Addresses.Migration4)
	}
	policy := "authority \"libvirt\" {\n  organization = \"Example\"\n  passphrase_from = \"file:pass\"\n}\n" +
		"authority \"qemu\" {\n  organization = \"Example\"\n  passphrase_from = \"file:pass\"\n}\n" +
		"policy \"standard\" {\n  template = \"libvirt\"\n" + settings + "}\n"
	for name, text := range map[string]string{"inventory.hcl": b.String(), "policy.hcl": policy} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// result is what a run of the program wrote.
type result struct {
	stdout, stderr string
	code           int
}

func (s *site) command(ctx context.Context, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	cmd := s.lab.Command(ctx, s.binary, append([]string{"-C", s.dir}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	return cmd, &stdout, &stderr
}

// run runs the program; it has to end with the code.
func (s *site) run(t *testing.T, code int, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	began := time.Now()
	cmd, stdout, stderr := s.command(ctx, args...)
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	t.Logf("virtrust %s: %d, %s", strings.Join(args, " "), r.code, time.Since(began).Round(100*time.Millisecond))
	if r.code != code {
		t.Fatalf("virtrust %s ended with %d and not %d:\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	return r
}

// begin starts the program; the returned function waits for its end.
func (s *site) begin(t *testing.T, args ...string) (*os.Process, func() result) {
	t.Helper()
	cmd, stdout, stderr := s.command(t.Context(), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process, func() result {
		_ = cmd.Wait()
		r := result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
		t.Logf("virtrust %s: %d", strings.Join(args, " "), r.code)
		return r
	}
}

// sh runs a script on a host; it has to succeed.
func sh(t *testing.T, h *lab.Host, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
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

// guest starts a guest on a host, with its floppy on all of them.
func (s *site) guest(t *testing.T, on *lab.Host, g dirtyguest.Guest) {
	t.Helper()
	g.Machine, g.Image = "pc-i440fx-7.2", "/var/lib/libvirt/images/"+g.Name+".img"
	for _, h := range s.hosts {
		if err := h.WriteFile(t.Context(), g.Image, g.Floppy(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := on.WriteFile(t.Context(), "/root/"+g.Name+".xml", []byte(g.XML()), 0o644); err != nil {
		t.Fatal(err)
	}
	sh(t, on, "virsh -q -c qemu:///system create /root/"+g.Name+".xml")
}

func destroy(t *testing.T, h *lab.Host, name string) {
	t.Helper()
	sh(t, h, "virsh -q -c qemu:///system destroy "+name)
}

// job is the job that a host's guest is in; "absent" when it has no such guest.
func job(t *testing.T, h *lab.Host, name string) string {
	t.Helper()
	return sh(t, h, "f=/run/libvirt/qemu/"+name+`.xml
[ -f "$f" ] || { echo absent; exit; }
j=$(sed -n "s/.* async='\([^']*\)'.*/\1/p" "$f" | head -n 1)
echo "${j:-none}"`)
}

// until waits for a condition.
func until(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// moved is what migrate --json says.
type moved struct {
	Result  string   `json:"result"`
	TLS     bool     `json:"tls"`
	RunsOn  []string `json:"runs_on"`
	Stopped string   `json:"stopped"`
	Command string   `json:"command"`
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// nothingLeft looks for guests and files of a proof on every host.
func (s *site) nothingLeft() (string, error) {
	var found []string
	for _, h := range s.hosts {
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
