package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/plan"
)

// limit bounds every wait for something that takes seconds.
const limit = time.Minute

// A site is a lab and a configuration for its hosts.
type site struct {
	lab        *lab.Lab
	hosts      []*lab.Host
	dir        string // of the configuration
	passphrase string // in VT_PASSPHRASE, unless noEnv
	noEnv      bool
	watch      func(*exec.Cmd) // told of every started virtrust, if set
	said       bytes.Buffer    // all that virtrust wrote so far
}

// newSite starts hosts and writes a configuration for all of them, in one
// cluster. There is no authority yet.
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
	s := &site{lab: l, dir: t.TempDir(), passphrase: rand.Text()}
	if s.hosts, err = l.Start(t.Context(), specs...); err != nil {
		t.Fatal(err)
	}
	s.write(t, "inventory.hcl", s.inventory(s.hosts...))
	s.write(t, "policy.hcl", policyHCL)
	return s
}

// newReadySite is newSite with an authority.
func newReadySite(t *testing.T, specs ...lab.HostSpec) *site {
	t.Helper()
	s := newSite(t, specs...)
	s.run(t, 0, "ca", "init")
	return s
}

const policyHCL = `authority "libvirt" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

authority "qemu" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

policy "standard" {
  template = "libvirt"
}
`

func (s *site) inventory(hosts ...*lab.Host) string {
	text := fmt.Sprintf(`cluster "rack1" {
  policy = policy.standard
}

ssh {
  known_hosts = %q
  identity    = [%q]
}
`, s.lab.KnownHosts(), s.lab.IdentityFile())
	for _, h := range hosts {
		text += fmt.Sprintf("\nhost %q {\n  address = %q\n  cluster = cluster.rack1\n}\n", h.Name, h.FQDN)
	}
	return text
}

// write writes a file of the configuration.
func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// A result is what virtrust left behind.
type result struct {
	stdout, stderr string
	code           int
}

// exec runs virtrust in the lab's network with the site's configuration.
func (s *site) exec(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := s.lab.Command(ctx, virtrust, append([]string{"-C", s.dir}, args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	if !s.noEnv {
		cmd.Env = append(cmd.Env, "VT_PASSPHRASE="+s.passphrase)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if s.watch != nil {
		s.watch(cmd)
	}
	err := cmd.Wait()
	t.Logf("%s virtrust %s: %d", time.Since(began).Round(10*time.Millisecond), strings.Join(args, " "), cmd.ProcessState.ExitCode())
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("virtrust %s: %v", strings.Join(args, " "), err)
	}
	s.said.Write(stdout.Bytes())
	s.said.Write(stderr.Bytes())
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// run is exec with an exit status that must be met.
func (s *site) run(t *testing.T, code int, args ...string) result {
	t.Helper()
	r := s.exec(t, args...)
	if r.code != code {
		t.Fatalf("virtrust %s: exit status %d, want %d\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	return r
}

// report is apply --json.
func (s *site) report(t *testing.T, code int, args ...string) *plan.Report {
	t.Helper()
	return decode[plan.Report](t, s.run(t, code, append([]string{"apply", "--json"}, args...)...).stdout)
}

func decode[T any](t *testing.T, text string) *T {
	t.Helper()
	v := new(T)
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	if d.More() {
		t.Fatalf("more than one JSON value:\n%s", text)
	}
	return v
}

func (s *site) empty(t *testing.T) {
	t.Helper()
	if r := s.exec(t, "plan", "--detailed-exitcode"); r.code != 0 || !strings.Contains(r.stdout, "Nothing to do") {
		t.Fatalf("a plan with nothing to do ended with %d:\n%s%s", r.code, r.stdout, r.stderr)
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

// sh runs a script on a host, which must end well.
func sh(t *testing.T, h *lab.Host, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := h.Script(ctx, script)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	return strings.TrimSpace(r.Stdout)
}

// until polls a condition.
func until(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) || t.Context().Err() != nil {
			t.Fatalf("after %s still not: %s", d, what)
		}
	}
}

// virsh opens libvirt on a host over TLS, from another host.
func virsh(t *testing.T, from, to *lab.Host) error {
	t.Helper()
	r, err := from.Run(t.Context(), "timeout", "20", "virsh", "-q", "-c", "qemu+tls://"+to.FQDN+"/system", "hostname")
	if err != nil {
		t.Fatal(err)
	}
	if r.Err() == nil && strings.TrimSpace(r.Stdout) != to.FQDN {
		return fmt.Errorf("%s answered as %q", to.FQDN, r.Stdout)
	}
	return r.Err()
}

// served is the leaf that a host's listener shows.
func (s *site) served(t *testing.T, h *lab.Host) *x509.Certificate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	conn, err := s.lab.Dial(ctx, "tcp", h.FQDN+":16514")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err := c.HandshakeContext(ctx); err != nil && len(c.ConnectionState().PeerCertificates) == 0 {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0]
}

// daemon is libvirtd's process and the id of its start.
func daemon(t *testing.T, h *lab.Host) string {
	t.Helper()
	d := sh(t, h, "systemctl show -p MainPID -p InvocationID --value libvirtd.service")
	if strings.HasPrefix(d, "0") {
		t.Fatalf("%s: libvirtd does not run", h.Name)
	}
	return d
}

// tree lists what virtrust could touch on a host: type, mode, owner, target and
// content; with times, inode and times as well.
func tree(t *testing.T, h *lab.Host, times bool) string {
	t.Helper()
	format := `%p %y %m %U:%G %l`
	if times {
		format += ` %i %T@ %C@`
	}
	return sh(t, h, `set -- /etc/pki /etc/libvirt /etc/systemd/system /etc/default
		[ ! -d /var/lib/virtrust ] || set -- "$@" /var/lib/virtrust/*
		find "$@" -printf '`+format+`\n' 2>/dev/null | sort
		find "$@" -type f -exec sha256sum {} + 2>/dev/null | sort -k2`)
}

// clean fails if a transaction left something on a host that should be gone.
func clean(t *testing.T, h *lab.Host) {
	t.Helper()
	left := sh(t, h, `find /etc /var/lib/virtrust -name '.virtrust-*' 2>/dev/null || :
		ls -d /var/lib/virtrust/armed /var/lib/virtrust/staging /var/lib/virtrust/run-*/saved/.new 2>/dev/null || :
		grep '^run ' /run/virtrust/lease 2>/dev/null || :
		[ ! -d /run/systemd/system ] || systemctl list-units --all --no-legend --plain 'virtrust-revert-*'`)
	if left != "" {
		t.Errorf("%s: a transaction left:\n%s", h.Name, left)
	}
}
