package faults

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/plan"
)

const passphrase = "correct-horse"

// site is one host with a configuration of its own.
type site struct {
	t     testing.TB
	lab   *lab.Lab
	host  *lab.Host
	proxy *proxy
	dir   string
	key   string // fingerprint of the host's key

	virtrust string
	round    int // makes every wanted state differ from the last
	names    int
	settings int
	doors    int

	knocks *knocks

	client net.Conn
	in     *bufio.Reader
	stop   context.CancelFunc
}

func newSite(t testing.TB, l *lab.Lab, h *lab.Host) *site {
	t.Helper()
	s := &site{t: t, lab: l, host: h, proxy: newProxy(t, l, h), dir: t.TempDir(), virtrust: bin.virtrust, settings: 5000}
	out := s.must("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2")
	s.key = strings.TrimSpace(out)
	s.must(pristineScript)
	s.write()
	s.authorities()
	content, err := os.ReadFile(bin.observer)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.WriteFile(t.Context(), "/var/tmp/observer", content, 0o755); err != nil {
		t.Fatal(err)
	}
	s.observe()
	s.knocks = startKnocking(t, l, h)
	t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
	})
	return s
}

// made is one set of authorities with its ledger, which every site gets a copy
// of: sealing keys takes seconds.
var made struct {
	sync.Once
	dir string
}

func (s *site) authorities() {
	s.t.Helper()
	made.Do(func() {
		if r := s.run(programLimit, "ca", "init"); r.code != 0 {
			s.t.Errorf("ca init: %s", r.stderr)
			return
		}
		for _, a := range []string{"libvirt", "qemu"} {
			cheapKey(s.t, filepath.Join(s.dir, "authorities", a, "g1.key.age"))
		}
		dir := filepath.Join(bin.dir, "made")
		if err := errors.Join(os.Mkdir(dir, 0o700), copyState(s.dir, dir)); err != nil {
			s.t.Error(err)
			return
		}
		made.dir = dir
	})
	if made.dir == "" {
		s.t.Fatal("there are no authorities")
	}
	if _, err := os.Stat(filepath.Join(s.dir, "authorities")); err == nil {
		return // the first site's own
	}
	if err := copyState(made.dir, s.dir); err != nil {
		s.t.Fatal(err)
	}
}

// copyState copies authorities and ledger with their modes.
func copyState(from, to string) error {
	out, err := exec.Command("cp", "-a", filepath.Join(from, "authorities"), filepath.Join(from, ".virtrust"), to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// cheapKey seals an authority's key again with a passphrase that is quick to
// derive: hundreds of runs open it.
func cheapKey(t testing.TB, path string) {
	t.Helper()
	sealed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := age.NewScryptIdentity(passphrase)
	to, _ := age.NewScryptRecipient(passphrase)
	to.SetWorkFactor(8)
	plain, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), id)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	text := armor.NewWriter(&out)
	w, err := age.Encrypt(text, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, plain); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), text.Close(), os.WriteFile(path, out.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// write writes the configuration for what is wanted now.
func (s *site) write() {
	inventory := fmt.Sprintf(`cluster "rack1" {
  policy    = policy.standard
  migration = "available"
}
ssh {
  known_hosts = %q
  identity    = [%q]
}
host %q {
  address  = %q
  cluster  = cluster.rack1
  names    = [%q, "127.0.0.1", "alt%d.example.test"]
  host_key = [%q]
  ssh {
    port = %d
  }
}
`, s.lab.KnownHosts(), s.lab.IdentityFile(), s.host.Name, lab.ControllerAddresses.Management4, s.host.FQDN, s.names, s.key, s.proxy.port)
	policy := fmt.Sprintf(`authority "libvirt" {
  organization    = "Example"
  passphrase_from = "env:VT_PASS"
}
authority "qemu" {
  organization    = "Example"
  passphrase_from = "env:VT_PASS"
}
policy "standard" {
  template = "libvirt"
  firewall {
    allow "libvirt-tls" {
      port = 16514
      from = [%q, %q]
    }
  }
  settings "/etc/libvirt/libvirtd.conf" {
    max_clients = %d
  }
}
`, always, s.door(), s.settings)
	if err := errors.Join(os.WriteFile(filepath.Join(s.dir, "inventory.hcl"), []byte(inventory), 0o600),
		os.WriteFile(filepath.Join(s.dir, "policy.hcl"), []byte(policy), 0o600)); err != nil {
		s.t.Fatal(err)
	}
}

// always gets in on 16514 whatever is wanted; of doors, one does.
const always = "10.77.0.0/24"

var doors = []string{"198.51.100.0/24", "203.0.113.0/24"}

func (s *site) door() string { return doors[s.doors%len(doors)] }

// wall says what the firewall has to let in now, live and after a boot.
func (s *site) wall() string {
	if s.host.Firewall == lab.FirewallOff {
		return ""
	}
	var is struct{ Live, Kept []string }
	s.ask(&is, "wall")
	want := []string{always, s.door()}
	slices.Sort(want)
	kept := slices.DeleteFunc(is.Kept, func(n string) bool { return n != always && !slices.Contains(doors, n) })
	if !slices.Equal(is.Live, want) || !slices.Equal(kept, want) {
		return fmt.Sprintf("16514 is open to %v, and after a boot to %v, not to %v", is.Live, kept, want)
	}
	return ""
}

// result is what a run of virtrust said.
type result struct {
	code           int // -1 when a signal ended it
	stdout, stderr string
	took           time.Duration
	report         *plan.Report
}

// host is the result of the one host.
func (r result) host() *plan.HostReport {
	if r.report == nil || len(r.report.Hosts) != 1 {
		return nil
	}
	return &r.report.Hosts[0]
}

func (r result) String() string {
	what := "no report"
	if h := r.host(); h != nil {
		what = string(h.Result) + " at " + h.Step
		if h.Failure != nil {
			what += fmt.Sprintf(" (%s: %s)", h.Failure.Class, h.Failure.Text)
		}
	}
	return fmt.Sprintf("exit %d after %.1f s, %s", r.code, r.took.Seconds(), what)
}

// said is the result in one word.
func (r result) said() string {
	h := r.host()
	switch {
	case h != nil:
		return string(h.Result)
	case r.code < 0:
		return "died"
	case r.code == 130:
		return "interrupted"
	}
	return fmt.Sprintf("exit %d", r.code)
}

// child is a run of virtrust that goes on.
type child struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
	began    time.Time
	cancel   context.CancelFunc
}

func (s *site) start(limit time.Duration, args ...string) *child {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), limit)
	c := &child{began: time.Now(), cancel: cancel}
	c.cmd = s.lab.Command(ctx, s.virtrust, args...)
	c.cmd.Dir = s.dir
	c.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + s.dir, "VT_PASS=" + passphrase, "NO_COLOR=1"}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	if err := c.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (c *child) wait() result {
	defer c.cancel()
	_ = c.cmd.Wait()
	r := result{code: c.cmd.ProcessState.ExitCode(), stdout: c.out.String(), stderr: c.err.String(), took: time.Since(c.began)}
	var rep plan.Report
	if json.Unmarshal(c.out.Bytes(), &rep) == nil && rep.Run != "" {
		r.report = &rep
	}
	return r
}

func (s *site) run(limit time.Duration, args ...string) result {
	return s.start(limit, args...).wait()
}

// applyArgs is an apply with a window of its own.
func applyArgs(window string) []string {
	return []string{"apply", "--yes", "--json", "--revert-after", window}
}

// programLimit is when a run of virtrust must have ended, whatever happened.
const programLimit = 5 * time.Minute

func (s *site) apply() result { return s.run(programLimit, applyArgs("2m")...) }

// must runs a script on the host.
func (s *site) must(script string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 3*time.Minute)
	defer cancel()
	r, err := s.host.Script(ctx, script)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		s.t.Errorf("%s: %s: %v", s.host.Name, script, err)
	}
	return r.Stdout
}

// observe starts the observer, also after a reboot.
func (s *site) observe() {
	s.t.Helper()
	if s.stop != nil {
		s.stop()
		s.client.Close()
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	s.stop = cancel
	l, err := s.lab.Listen(ctx, "tcp", netip.AddrPortFrom(lab.ControllerAddresses.Management4, 0).String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer l.Close()
	var done sync.WaitGroup
	done.Go(func() { _, _ = s.host.Run(ctx, "/var/tmp/observer", l.Addr().String()) })
	s.stop = func() { cancel(); done.Wait() }
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	c, err := l.Accept()
	if err != nil {
		s.t.Fatalf("%s: the observer does not start: %v", s.host.Name, err)
	}
	s.client, s.in = c, bufio.NewReader(c)
}

// ask asks the observer.
func (s *site) ask(answer any, op string, more ...string) {
	s.t.Helper()
	req := map[string]any{"op": op}
	if s.host.Firewall != lab.FirewallOff {
		req["wall"] = s.host.Firewall
	}
	for _, m := range more {
		req[m] = true
	}
	line, _ := json.Marshal(req)
	_ = s.client.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := s.client.Write(append(line, '\n')); err != nil {
		s.t.Fatalf("%s: observer: %v", s.host.Name, err)
	}
	text, err := s.in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		s.t.Fatalf("%s: observer: %s: %v", s.host.Name, op, err)
	}
}

func (s *site) snapshot() map[string]string {
	var m map[string]string
	s.ask(&m, "snapshot")
	return m
}

// leftovers are what no run may leave behind, on disk or in libvirtd's memory.
func (s *site) leftovers() []string {
	var l []string
	s.ask(&l, "leftovers")
	if wrong := s.must(`m=$(sed -n 's/^max_clients *= *//p' /etc/libvirt/libvirtd.conf)
		virt-admin server-clients-info libvirtd | grep -e '^nclients_max' -e '^nclients_unauth_max' | grep -v -x -e "nclients_max  *: ${m:-5000}" -e 'nclients_unauth_max  *: 20' || :`); wrong != "" {
		l = append(l, "libvirtd's limits: "+wrong)
	}
	return l
}

// watched is what the observers saw of a run.
type watched struct {
	Samples, Opens, Connects, Failed, Walls int
	Longest, Outside                        float64
	Served, Disk                            string
	Violations                              []struct {
		Observer string
		At       float64
		Text     string
	}
}
