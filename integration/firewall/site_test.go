package firewall

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
)

// site is a lab with a host for each firewall, two cheap hosts that dial them,
// and a configuration in which only the first of the two is a peer.
type site struct {
	*lab.Lab
	dir    string
	walls  []*lab.Host
	peer   *lab.Host // in the inventory
	nobody *lab.Host // not in it
}

const service = "systemd-run -q --collect --unit=port16514 busybox nc -ll -p 16514 -e echo open"

func newSite(t *testing.T, rules string) *site {
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
	hosts, err := l.Start(t.Context(),
		lab.HostSpec{Firewall: lab.FirewallFirewalld}, lab.HostSpec{Firewall: lab.FirewallUFW},
		lab.HostSpec{Firewall: lab.FirewallNftables}, lab.HostSpec{Firewall: lab.FirewallIptables},
		lab.HostSpec{Cheap: true}, lab.HostSpec{Cheap: true})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Lab: l, dir: t.TempDir(), walls: hosts[:4], peer: hosts[4], nobody: hosts[5]}
	s.write(t, rules)
	write(t, filepath.Join(s.dir, "passphrase"), "correct horse battery staple 7\n")
	for _, f := range []string{l.KnownHosts(), l.IdentityFile()} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.dir, filepath.Base(f)), string(b))
	}
	if out, code := s.run(t, virtrust, "ca", "init"); code != 0 {
		t.Fatalf("ca init: %d\n%s", code, out)
	}
	return s
}

// write writes the configuration with the blocks of the firewall.
func (s *site) write(t *testing.T, rules string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `authority "libvirt" {
  organization    = "Example"
  passphrase_from = "file:passphrase"
}

ssh {
  known_hosts = "known_hosts"
  identity    = ["identity"]
}

policy "open" {
  firewall {
    %s
  }

  rollout {
    canary       = 0
    batch        = "100%%"
    max_failures = 9
  }
}

cluster "c" {
  policy = policy.open
}
`, rules)
	for _, h := range append(slices.Clone(s.walls), s.peer) {
		managed := ""
		if h == s.peer {
			managed = "\n  managed = false"
		}
		fmt.Fprintf(&b, "\nhost %q {\n  address = %q\n  cluster = cluster.c%s\n}\n", h.Name, h.Addresses.Management4, managed)
	}
	write(t, filepath.Join(s.dir, "main.hcl"), b.String())
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *site) command(program string, args ...string) *exec.Cmd {
	cmd := s.Command(context.Background(), program, args...)
	cmd.Dir = s.dir
	return cmd
}

func (s *site) run(t *testing.T, program string, args ...string) (string, int) {
	t.Helper()
	cmd := s.command(program, args...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func script(t *testing.T, h *lab.Host, sh string) string {
	t.Helper()
	r, err := h.Script(t.Context(), sh)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Fatalf("%s: %s: %v", h.Name, sh, err)
	}
	return r.Stdout
}

// rules is everything that decides who may connect: what is live, and every
// file that a reboot reads.
func rules(t *testing.T, h *lab.Host) []string {
	t.Helper()
	out := script(t, h, `nft -s list ruleset 2>/dev/null
for f in /etc/nftables.conf /etc/iptables/rules.v? /etc/ufw/user.rules /etc/ufw/user6.rules /etc/ufw/ufw.conf; do
	[ ! -f "$f" ] || { stat -c "== %n %a %U:%G" "$f"; cat "$f"; }
done
if systemctl -q is-active firewalld; then firewall-cmd --permanent --list-all-zones; fi`)
	return strings.Split(strings.TrimRight(out, "\n"), "\n")
}

// difference gives the lines that were added and those that went.
func difference(before, after []string) (added, gone []string) {
	count := map[string]int{}
	for _, l := range before {
		count[l]++
	}
	for _, l := range after {
		if count[l]--; count[l] < 0 {
			added = append(added, l)
		}
	}
	for _, l := range before {
		if count[l]--; count[l] >= 0 {
			gone = append(gone, l)
		}
	}
	return added, gone
}

// reaches reports whether a TCP connection from one host to another opens.
func reaches(t *testing.T, from, to *lab.Host) bool {
	t.Helper()
	r, err := from.Run(t.Context(), "timeout", "1", "bash", "-c", "</dev/tcp/"+to.Addresses.Management4.String()+"/16514")
	if err != nil {
		t.Fatal(err)
	}
	return r.Code == 0
}

// answers reports whether a new connection to the host's SSH port opens. It is
// asked from another address than virtrust's: sshd punishes who only knocks.
func (s *site) answers(t *testing.T, h *lab.Host) bool {
	t.Helper()
	r, err := s.nobody.Run(t.Context(), "timeout", "0.7", "bash", "-c", "</dev/tcp/"+h.Addresses.Management4.String()+"/22")
	if err != nil {
		t.Fatal(err)
	}
	return r.Code == 0
}

var virtrust, cutting string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if lab.CheckDependencies() != nil {
		return m.Run() // every test skips or fails, see lab.Require
	}
	dir, err := os.MkdirTemp("", "virtrust-firewall-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	virtrust, cutting = filepath.Join(dir, "virtrust"), filepath.Join(dir, "cutting")
	overlay, err := mutant(dir)
	if err == nil {
		err = build(virtrust)
	}
	if err == nil {
		err = build(cutting, "-overlay", overlay)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build(to string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-buildvcs=false", "-o", to}, flags...), "github.com/virtrust/virtrust/cmd/virtrust")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building virtrust: %w\n%s", err, out)
	}
	return nil
}

// mutant writes an overlay in which every rule is one that drops SSH from the
// lab's network, ahead of all others, on each backend.
func mutant(dir string) (string, error) {
	const name = "../../internal/remote/firewall.sh"
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	s := string(text)
	for _, r := range [][2]string{
		{"verdict=accept target=ACCEPT first=-I last=-A", "verdict=drop target=DROP first=-I last=-I"},
		{"\trule \"$1\"\n", "\trule \"$1\"\n\ta=22 z=22 s=10.77.0.0/24 f=4 priority=-1\n"},
	} {
		if strings.Count(s, r[0]) != 1 {
			return "", fmt.Errorf("%s does not hold %q once", name, r[0])
		}
		s = strings.Replace(s, r[0], r[1], 1)
	}
	changed := filepath.Join(dir, "firewall.sh")
	if err := os.WriteFile(changed, []byte(s), 0o600); err != nil {
		return "", err
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {abs: changed}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}
