package life

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

const (
	passphrase = "only for this test"
	day        = 24 * time.Hour
)

// site is three hosts of three releases, in one cluster.
type site struct {
	lab      *lab.Lab
	hosts    []*lab.Host // bookworm, trixie, forky
	dir      string
	virtrust string
	// former is the site whose ledger knows what the hosts' certificates are for.
	former *site
	// libvirt replaces the block of authority libvirt.
	libvirt string
}

func newSite(t *testing.T) *site {
	t.Helper()
	lab.Require(t)
	s := &site{dir: t.TempDir(), virtrust: filepath.Join(t.TempDir(), "virtrust")}
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", s.virtrust, "github.com/virtrust/virtrust/cmd/virtrust")
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
	s.policy(t, "", "")
	s.inventory(t, s.hosts)
	s.authorities(t)
	return s
}

func (s *site) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// policy writes the policy, with lines of its own and of its rollout.
func (s *site) policy(t *testing.T, lines, rollout string) {
	t.Helper()
	text := ""
	for _, name := range []string{"libvirt", "qemu"} {
		if name == "libvirt" && s.libvirt != "" {
			text += s.libvirt
			continue
		}
		text += fmt.Sprintf("authority %q {\n  organization    = \"Example\"\n  passphrase_from = \"env:VT_PASSPHRASE\"\n}\n\n", name)
	}
	text += "policy \"standard\" {\n  template = \"libvirt\"\n" + lines + "  rollout {\n    canary = 0\n    batch  = \"100%\"\n" + rollout + "  }\n}\n"
	s.write(t, "policy.hcl", text)
}

func (s *site) inventory(t *testing.T, hosts []*lab.Host) {
	t.Helper()
	text := fmt.Sprintf("cluster \"rack1\" {\n  policy    = policy.standard\n  migration = \"available\"\n}\n\nssh {\n  known_hosts = %q\n  identity    = [%q]\n}\n",
		s.lab.KnownHosts(), s.lab.IdentityFile())
	for _, h := range hosts {
		text += fmt.Sprintf("\nhost %q {\n  address = %q\n  cluster = cluster.rack1\n}\n", h.Name, h.FQDN)
	}
	s.write(t, "inventory.hcl", text)
}

func (s *site) ledger(t *testing.T, mode ledger.Mode) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), filepath.Join(s.dir, ".virtrust", "ledger.db"), mode)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (s *site) authorityDir(name string) string { return filepath.Join(s.dir, "authorities", name) }

// authorities makes authorities that are older than what they signed may be.
func (s *site) authorities(t *testing.T) {
	t.Helper()
	l := s.ledger(t, ledger.Create)
	defer l.Close()
	run, err := l.StartRun(t.Context(), ledger.Run{Command: "ca init"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"libvirt", "qemu"} {
		_, err := authority.Init(t.Context(), authority.Params{Name: name, Organization: "Example", Dir: s.authorityDir(name), Now: time.Now().Add(-200 * day),
			Passphrase: authority.NewSecret([]byte(passphrase)), Run: run}, l)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.EndRun(t.Context(), run, "complete"); err != nil {
		t.Fatal(err)
	}
}

// age gives hosts' certificates the dates that they would have if they had been
// made so long ago: signed for the same keys by the same authorities, in place,
// taken up and in the ledger.
func (s *site) age(t *testing.T, hosts []*lab.Host, ago time.Duration) {
	t.Helper()
	l := s.ledger(t, ledger.Existing)
	defer l.Close()
	run, err := l.StartRun(t.Context(), ledger.Run{Command: "age"})
	if err != nil {
		t.Fatal(err)
	}
	profiles := l
	if s.former != nil {
		profiles = s.former.ledger(t, ledger.Existing)
		defer profiles.Close()
	}
	signers := map[string]*authority.Local{}
	for _, name := range []string{"libvirt", "qemu"} {
		a, err := authority.Open(t.Context(), name, s.authorityDir(name), "", l, func() time.Time { return time.Now().Add(-ago) })
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if err := a.Unlock(t.Context(), func(context.Context) (authority.Secret, error) { return authority.NewSecret([]byte(passphrase)), nil }); err != nil {
			t.Fatal(err)
		}
		signers[name] = a
	}
	for _, h := range hosts {
		for _, c := range []struct{ name, authority, tree string }{
			{"libvirt-server", "libvirt", "/etc/pki/libvirt/.virtrust/server"},
			{"libvirt-client", "libvirt", "/etc/pki/libvirt/.virtrust/client"},
			{"qemu", "qemu", "/etc/pki/qemu/.virtrust/qemu"},
		} {
			block, _ := pem.Decode([]byte(must(t, h, "openssl req -new -subj / -key "+c.tree+"/current/key.pem")))
			csr, err := pki.ParseCSR(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			old, err := profiles.Issuances(t.Context(), ledger.Filter{Host: h.Name, Certificate: c.name, Limit: 1})
			if err != nil || len(old) == 0 {
				t.Fatalf("%s of %s is not in the ledger: %v", c.name, h.Name, err)
			}
			chain, err := signers[c.authority].Sign(t.Context(), authority.Request{Run: run, Host: h.Name, CSR: csr, Profile: old[0].Profile})
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(chain[0].Raw)
			if err := l.MarkInstalled(t.Context(), run, h.Name, c.name, hex.EncodeToString(sum[:])); err != nil {
				t.Fatal(err)
			}
			must(t, h, "cat >"+c.tree+"/current/cert.pem <<'E'\n"+string(pki.RenderCerts(chain[0]))+"E\n")
		}
		if ago < 90*day {
			must(t, h, "systemctl start libvirtd.service; virt-admin -q server-update-tls libvirtd")
		}
	}
	if err := l.EndRun(t.Context(), run, "complete"); err != nil {
		t.Fatal(err)
	}
}

// run runs the program, which must end with that code, and gives its output.
func (s *site) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	began := time.Now()
	got, said := s.exec(t.Context(), args...)
	t.Logf("%s virtrust %s: %d", time.Since(began).Round(10*time.Millisecond), strings.Join(args, " "), got)
	if got != code {
		t.Fatalf("virtrust %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, said)
	}
	return said
}

// exec runs the program and gives its code and its output; -1 where it did not
// come to an end of its own.
func (s *site) exec(ctx context.Context, args ...string) (code int, said string) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	cmd := s.lab.Command(ctx, s.virtrust, append([]string{"-C", s.dir}, args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "VT_PASSPHRASE="+passphrase)
	var out, notes bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &notes
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, err.Error()
	}
	return cmd.ProcessState.ExitCode(), out.String() + notes.String()
}

func on(t *testing.T, h *lab.Host, script string) lab.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := h.Script(ctx, script)
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	return r
}

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

// until polls a condition, with room for a loaded machine.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// serial is that of the leaf that libvirtd shows, asked on the host.
func serial(t *testing.T, h *lab.Host) string {
	t.Helper()
	return strings.TrimSpace(must(t, h, "openssl s_client -connect 127.0.0.1:16514 </dev/null 2>/dev/null | openssl x509 -noout -serial"))
}

func process(t *testing.T, h *lab.Host) string {
	t.Helper()
	return strings.TrimSpace(must(t, h, "systemctl show -p MainPID -p InvocationID --value libvirtd.service"))
}

func dial(t *testing.T, from, to *lab.Host, query string) lab.Result {
	t.Helper()
	return on(t, from, "timeout 30 virsh -q -c 'qemu+tls://"+to.FQDN+"/system"+query+"' hostname")
}
