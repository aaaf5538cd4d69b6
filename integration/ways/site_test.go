package ways

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

func TestMain(m *testing.M) { os.Exit(operator.Main(m)) }

// A site is a lab whose targets are reached in many ways, one after the other.
type site struct {
	lab        *lab.Lab
	targets    []*lab.Host // to be secured: the first has systemd and libvirt, all others sshd only
	jumps      []*lab.Host // to go through
	root       string      // directory of all configurations: the ledger goes from one to the next
	count      int
	trust      string            // directory of the authorities, made once
	userCA     string            // private key file of the authority whose users every host lets in as root
	signedPair map[string]string // a user's key and certificate, made once
	password   string            // of root on every host, where sshd asks for it: ports 2222 and 2223
}

// sshd listens beside port 22 where only a password gets in.
const sshdConfig = `Port 22
Port 2222
Port 2223
PermitRootLogin yes
TrustedUserCAKeys /etc/ssh/users.pub
MaxStartups 10:30:100
MaxSessions 10
Match LocalPort 2222
	PasswordAuthentication yes
	AuthenticationMethods password
Match LocalPort 2223
	KbdInteractiveAuthentication yes
	AuthenticationMethods keyboard-interactive:pam
Match all
`

func newSite(t *testing.T) *site {
	t.Helper()
	lab.Require(t)
	s := &site{root: t.TempDir(), trust: t.TempDir(), password: "correct horse battery staple"}
	s.userCA = filepath.Join(t.TempDir(), "ca")
	keygen(t, "-q", "-t", "ed25519", "-N", "", "-f", s.userCA)
	users, err := os.ReadFile(s.userCA + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]lab.File{
		"/etc/ssh/sshd_config.d/reach.conf": {Content: []byte(sshdConfig)},
		"/etc/ssh/users.pub":                {Content: users},
	}
	o := operator.New(t,
		lab.HostSpec{Files: files}, lab.HostSpec{Cheap: true, Suite: "bookworm", Files: files},
		lab.HostSpec{Cheap: true, Files: files}, lab.HostSpec{Cheap: true, Suite: "bookworm", Files: files})
	s.lab, s.targets, s.jumps = o.Lab, o.Hosts[:2], o.Hosts[2:]
	for _, h := range o.Hosts {
		operator.Sh(t, h, "echo 'root:"+s.password+"' | chpasswd")
	}
	c := s.newConfiguration(t, way{ssh: fmt.Sprintf("identity = [%q]\nknown_hosts = %q\nconfig = \"none\"", s.lab.IdentityFile(), s.lab.KnownHosts())})
	c.run(t, 0, "ca", "init")
	s.trust = c.dir
	return s
}

func keygen(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// A way is one way to reach the targets.
type way struct {
	name string
	// prepare changes hosts; what it changes it takes back when the test ends.
	prepare func(t *testing.T, s *site)
	ssh     string                   // lines of the inventory's ssh block
	host    func(h *lab.Host) string // lines of a target's block, with its address; nil: its FQDN
	config  string                   // ~/.ssh/config
	files   map[string]string        // further files of ~, by path
	env     []string                 // of virtrust
	targets []*lab.Host              // nil: all of the site
	check   func(t *testing.T, c *configuration)
}

// configuration is a way written down, with a home of its own.
type configuration struct {
	site      *site
	dir, home string
	env       []string
}

func (s *site) newConfiguration(t *testing.T, w way) *configuration {
	t.Helper()
	s.count++
	c := &configuration{site: s, dir: filepath.Join(s.root, strconv.Itoa(s.count)), home: t.TempDir(), env: w.env}
	if err := os.CopyFS(c.dir, os.DirFS(s.trust)); err != nil {
		t.Fatal(err)
	}
	if w.targets == nil {
		w.targets = s.targets
	}
	inventory := "ssh {\n" + w.ssh + "\n}\n\ncluster \"rack1\" {\n  policy = policy.standard\n}\n\ncluster \"files\" {\n  policy = policy.files\n}\n"
	for _, h := range w.targets {
		lines := fmt.Sprintf("address = %q", h.FQDN)
		if w.host != nil {
			lines = w.host(h)
		}
		cluster := "rack1"
		if h != s.targets[0] {
			cluster = "files"
		}
		inventory += fmt.Sprintf("\nhost %q {\n%s\n  cluster = cluster.%s\n  names = [%q]\n}\n", h.Name, lines, cluster, h.FQDN)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(c.dir, "inventory.hcl"), inventory)
	write(filepath.Join(c.dir, "policy.hcl"), policyHCL)
	if w.config != "" {
		write(filepath.Join(c.home, ".ssh", "config"), w.config)
	}
	for name, text := range w.files {
		write(filepath.Join(c.home, name), text)
	}
	return c
}

// A host without systemd has files only.
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

policy "files" {
  template = "libvirt"
  listener "libvirt" {
    enabled = false
  }
  firewall {
    enabled = false
  }
}
`

func (c *configuration) exec(t *testing.T, args ...string) operator.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := c.site.lab.Command(ctx, operator.Program(), append([]string{"-C", c.dir}, args...)...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "SSH_AUTH_SOCK=") && !strings.HasPrefix(e, "HOME=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(append(cmd.Env, "NO_COLOR=1", "HOME="+c.home, "VT_PASSPHRASE=p4ss-of-the-lab"), c.env...)
	return operator.Exec(t, cmd, nil)
}

// run is exec with an exit status that must be met.
func (c *configuration) run(t *testing.T, code int, args ...string) operator.Result {
	t.Helper()
	r := c.exec(t, args...)
	r.Want(t, code, args...)
	return r
}

// drift changes a file on a host that virtrust puts back.
const drift = `[ ! -e /etc/pki/CA/cacert.pem ] || chmod 0640 /etc/pki/CA/cacert.pem`

// converge plans, applies and plans again over one way. Every target has
// something to change when it begins.
func (s *site) converge(t *testing.T, w way) {
	t.Helper()
	if w.prepare != nil {
		w.prepare(t, s)
	}
	c := s.newConfiguration(t, w)
	targets := w.targets
	if targets == nil {
		targets = s.targets
	}
	for _, h := range targets {
		operator.Sh(t, h, drift)
	}
	if r := c.run(t, 2, "plan", "--detailed-exitcode"); !strings.Contains(r.Stdout, ", 0 could not be read") {
		t.Fatalf("plan:\n%s", r.Stdout)
	}
	c.run(t, 0, "apply", "-y")
	if r := c.run(t, 0, "plan", "--detailed-exitcode"); !strings.Contains(r.Stdout, "Nothing to do") {
		t.Fatalf("a plan with nothing to do says:\n%s", r.Stdout)
	}
	if w.check != nil {
		w.check(t, c)
	}
	// The ledger goes on from case to case.
	s.trust = c.dir
}
