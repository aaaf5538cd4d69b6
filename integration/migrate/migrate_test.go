package migrate

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/dirtyguest"
	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

// TestMigration is one story over one lab: the parts need the state that the
// ones before leave.
func TestMigration(t *testing.T) {
	s := newSite(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *site)
	}{
		{"Peers", peers},
		{"SixDirections", sixDirections},
		{"Renewal", renewal},
		{"TimeLimit", timeLimit},
		{"Interrupt", interrupted},
		{"Proof", proof},
		{"Required", required},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(t, s) }) {
			return
		}
	}
}

func peers(t *testing.T, s *site) {
	type row struct {
		From, To   string
		TLS        bool
		Options    []string
		MigrateURI string `json:"migrate_uri"`
		Dest       string `json:"tls_destination"`
		Why        []string
	}
	rows := *operator.Decode[[]row](t, s.Run(t, 0, "peers", "--json").Stdout)
	if len(rows) != 6 {
		t.Fatalf("%d pairs", len(rows))
	}
	for _, r := range rows {
		if !r.TLS || r.Dest != r.To+"-mig."+lab.Domain || !strings.HasPrefix(r.MigrateURI, "tcp://10.78.0.") {
			t.Errorf("%+v", r)
		}
	}
	// The answer follows the hosts: without its key kvm3 can neither give nor take.
	operator.Sh(t, s.Hosts[2], "mv /etc/pki/qemu/server-key.pem /etc/pki/qemu/away.pem")
	rows = *operator.Decode[[]row](t, s.Run(t, 2, "peers", "--json").Stdout)
	for _, r := range rows {
		if r.To == "kvm3" && (r.TLS || !strings.Contains(strings.Join(r.Why, "; "), "server-key.pem")) {
			t.Errorf("without kvm3's server key: %+v", r)
		}
	}
	operator.Sh(t, s.Hosts[2], "mv /etc/pki/qemu/away.pem /etc/pki/qemu/server-key.pem")
}

// wire captures what a guest's memory looks like on the migration network.
func (s *site) wire(t *testing.T, during func()) (plain, handshakes int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "wire.pcap")
	c, err := s.Lab.Capture(t.Context(), lab.Migration, "tcp portrange 49152-49215", file)
	if err != nil {
		t.Fatal(err)
	}
	during()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	count := func(filter string) int {
		out, err := exec.CommandContext(t.Context(), "tcpdump", "-nr", file, filter).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(out), "\n")
	}
	const payload = "tcp[((tcp[12]&0xf0)>>2)"
	return count(payload + ":4]=0x5145564d"), count(payload + ":2]=0x1603")
}

func sixDirections(t *testing.T, s *site) {
	s.guest(t, s.Hosts[0], dirtyguest.Guest{Name: "tour", MiB: 64, Once: true})
	way := []int{0, 1, 2, 0, 2, 1, 0}
	plain, handshakes := s.wire(t, func() {
		for _, to := range way[1:] {
			m := operator.Decode[moved](t, s.Run(t, 0, "migrate", "tour", "--to", s.Hosts[to].Name, "--json").Stdout)
			if m.Result != "moved" || !m.TLS || len(m.RunsOn) != 1 || !strings.HasPrefix(m.RunsOn[0], s.Hosts[to].Name+" (running") {
				t.Fatalf("%+v", m)
			}
		}
	})
	t.Logf("six encrypted migrations: %d packets with QEVM, %d TLS handshake records", plain, handshakes)
	if plain != 0 || handshakes < 12 {
		t.Errorf("%d packets with QEVM, %d TLS handshake records", plain, handshakes)
	}
	// The same look at a migration in clear sees it.
	plain, handshakes = s.wire(t, func() {
		operator.Sh(t, s.Hosts[0], "virsh -q -c qemu:///system migrate --live --p2p --migrateuri tcp://"+s.Hosts[1].Addresses.Migration4.String()+" tour qemu+tls://"+s.Hosts[1].FQDN+"/system")
	})
	if plain == 0 || handshakes != 0 {
		t.Errorf("a migration in clear: %d packets with QEVM, %d TLS handshake records", plain, handshakes)
	}
	destroy(t, s.Hosts[1], "tour")
}

// A migration that is under way survives a renewal on both ends, and a restart
// that a changed setting asks for is held as long as it runs.
func renewal(t *testing.T, s *site) {
	from, to := s.Hosts[1], s.Hosts[2]
	s.guest(t, from, dirtyguest.Guest{Name: "slow", MiB: 128, Once: true})
	time.Sleep(2 * time.Second) // the guest fills its memory
	operator.Sh(t, from, "virsh -q -c qemu:///system migrate-setspeed slow 1")
	_, wait := s.Begin(t, "migrate", "slow", "--to", to.Name, "--json")
	operator.Until(t, 30*time.Second, "the job shows on both ends", func() bool {
		return job(t, from, "slow") == "migration out" && job(t, to, "slow") == "migration in"
	})
	before := operator.Sh(t, from, "readlink -f /etc/pki/qemu/server-cert.pem /etc/pki/libvirt/servercert.pem")
	s.Run(t, 0, "apply", "--yes", "--replace", "certificate.libvirt-server,certificate.qemu", "--limit", from.Name+","+to.Name)
	if after := operator.Sh(t, from, "readlink -f /etc/pki/qemu/server-cert.pem /etc/pki/libvirt/servercert.pem"); before == after {
		t.Errorf("nothing was renewed: %s", after)
	}
	if job(t, from, "slow") != "migration out" {
		t.Fatal("the job ended with the renewal")
	}
	process := operator.Sh(t, from, "systemctl show -p MainPID libvirtd.service")
	s.configure(t, "available", "  settings \"/etc/libvirt/libvirtd.conf\" {\n    max_clients = 4999\n  }\n")
	held := s.Run(t, 3, "apply", "--yes", "--limit", from.Name, "--wait-jobs", "3s")
	if !strings.Contains(held.Stdout, "slow") {
		t.Errorf("the report does not name the guest:\n%s", held.Stdout)
	}
	if got := operator.Sh(t, from, "systemctl show -p MainPID libvirtd.service"); got != process {
		t.Errorf("libvirtd was restarted under the job: %s, then %s", process, got)
	}
	if job(t, from, "slow") != "migration out" {
		t.Fatal("the job ended although the restart was held")
	}
	operator.Sh(t, from, "virsh -q -c qemu:///system migrate-setspeed slow 4096")
	r := wait()
	if m := operator.Decode[moved](t, r.Stdout); r.Code != 0 || m.Result != "moved" || !m.TLS {
		t.Errorf("%d: %+v\n%s", r.Code, m, r.Stderr)
	}
	// With the job over the restart goes through.
	s.Run(t, 0, "apply", "--yes", "--limit", from.Name)
	s.configure(t, "available", "")
	destroy(t, to, "slow")
}

// A guest that changes its memory faster than it is sent is given back to its
// host when the time is over; with post-copy or slowed processors it moves.
func timeLimit(t *testing.T, s *site) {
	from, to := s.Hosts[0], s.Hosts[1]
	s.guest(t, from, dirtyguest.Guest{Name: "busy", MiB: 64, Delay: 1})
	time.Sleep(time.Second)
	operator.Sh(t, from, "virsh -q -c qemu:///system migrate-setspeed busy 20")
	m := operator.Decode[moved](t, s.Run(t, 3, "migrate", "busy", "--to", to.Name, "--timeout", "6s", "--json").Stdout)
	if m.Result != "stayed" || m.Stopped != "limit" {
		t.Errorf("%+v", m)
	}
	if got := job(t, from, "busy"); got != "none" {
		t.Errorf("the guest is in a job: %q", got)
	}
	// An interrupt ends the job as well, and a killed program does not.
	p, wait := s.Begin(t, "migrate", "busy", "--to", to.Name, "--json", "--timeout", "40s")
	operator.Until(t, 20*time.Second, "the job shows", func() bool { return job(t, from, "busy") == "migration out" })
	_ = p.Signal(interrupt)
	if r := wait(); r.Code != 130 || operator.Decode[moved](t, r.Stdout).Stopped != "asked" {
		t.Errorf("interrupted: %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if got := job(t, from, "busy"); got != "none" {
		t.Errorf("interrupted, and the guest is in a job: %q", got)
	}
	p, wait = s.Begin(t, "migrate", "busy", "--to", to.Name, "--json", "--timeout", "8s")
	operator.Until(t, 20*time.Second, "the job shows", func() bool { return job(t, from, "busy") == "migration out" })
	_ = p.Signal(syscall.SIGKILL)
	wait()
	if got := job(t, from, "busy"); got != "migration out" {
		t.Errorf("the program was killed, and the job is %q", got)
	}
	operator.Until(t, 20*time.Second, "the limit holds without the program", func() bool { return job(t, from, "busy") == "none" })
	destroy(t, from, "busy")
	// What the killed program left the next job sweeps, ten minutes later: the
	// part that follows finds nothing.
	operator.Sh(t, from, "touch -d '20 minutes ago' /run/virtrust/migration-*/done")
}

// A proof that is interrupted, or whose program is killed, leaves nothing.
func interrupted(t *testing.T, s *site) {
	shows := func() bool {
		return strings.Contains(operator.Sh(t, s.Hosts[0], "virsh -q -c qemu:///system list --name"), "virtrust-proof-")
	}
	// The part before left a job's directory, which a proof that is interrupted
	// early enough has not swept.
	before, err := s.nothingLeft()
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []struct {
		name   string
		signal syscall.Signal
		within time.Duration
	}{{"interrupted", syscall.SIGINT, 2 * time.Second}, {"killed", syscall.SIGKILL, 60 * time.Second}} {
		p, wait := s.Begin(t, "verify", "--migrate", "--from", "kvm1", "--to", "kvm2")
		operator.Until(t, 20*time.Second, "the proof's guest shows", shows)
		time.Sleep(500 * time.Millisecond)
		_ = p.Signal(how.signal)
		if r := wait(); how.signal == syscall.SIGINT && r.Code != 130 {
			t.Errorf("%d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		for end := time.Now().Add(how.within + 10*time.Second); ; time.Sleep(500 * time.Millisecond) {
			left, err := s.nothingLeft()
			if err != nil {
				t.Fatal(err)
			}
			if left == "" || left == before {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s, and this is left:\n%s", how.name, left)
			}
		}
	}
}

func proof(t *testing.T, s *site) {
	// What an older proof left is removed; a guest of a like name is not.
	old := dirtyguest.Guest{Name: "virtrust-proof-20200101t000000z-00000000-1", MiB: 16, Once: true}
	other := dirtyguest.Guest{Name: "virtrust-proof-of-mine", MiB: 16, Once: true}
	s.guest(t, s.Hosts[0], old)
	s.guest(t, s.Hosts[0], other)
	r := s.Run(t, 0, "verify", "--migrate", "--from", "kvm1", "--to", "kvm3", "--json")
	if !strings.Contains(r.Stderr, old.Name) {
		t.Errorf("the removal is not said: %s", r.Stderr)
	}
	if got := operator.Sh(t, s.Hosts[0], "virsh -q -c qemu:///system list --name"); strings.TrimSpace(got) != other.Name {
		t.Errorf("kvm1 has %q", got)
	}
	destroy(t, s.Hosts[0], other.Name)
	p := operator.Decode[proofs](t, r.Stdout)
	if len(p.Migrations) != 1 || !p.Migrations[0].OK || p.Migrations[0].SecondsPlain == 0 || p.Migrations[0].SecondsTLS == 0 || len(p.creds()) != 2 {
		t.Errorf("%s", r.Stdout)
	}
	if left, err := s.nothingLeft(); err != nil || left != "" {
		t.Errorf("left: %s, %v", left, err)
	}
}

type proofs struct {
	Migrations []struct {
		OK           bool
		Text         string
		PlainRefused bool    `json:"plain_refused"`
		SecondsTLS   float64 `json:"seconds_tls"`
		SecondsPlain float64 `json:"seconds_plain"`
		Legs         []struct{ From, Creds string }
	}
}

func (p proofs) creds() []string {
	var out []string
	for _, m := range p.Migrations {
		for _, l := range m.Legs {
			if l.Creds != "" {
				out = append(out, l.From)
			}
		}
	}
	return out
}

// Where the policy is required a migration in clear is refused, by libvirt and
// by the program.
func required(t *testing.T, s *site) {
	s.configure(t, "required", "")
	s.Run(t, 0, "apply", "--yes")
	p := operator.Decode[proofs](t, s.Run(t, 0, "verify", "--migrate", "--json").Stdout)
	if len(p.Migrations) != 3 {
		t.Fatalf("%+v", p)
	}
	for _, m := range p.Migrations {
		if !m.OK || !m.PlainRefused || m.SecondsPlain != 0 {
			t.Errorf("%+v", m)
		}
	}
	s.guest(t, s.Hosts[0], dirtyguest.Guest{Name: "strict", MiB: 16, Once: true})
	operator.Sh(t, s.Hosts[1], "mv /etc/pki/qemu/server-key.pem /etc/pki/qemu/away.pem")
	r := s.Run(t, 4, "migrate", "strict", "--to", "kvm2", "--allow-plain")
	if !strings.Contains(r.Stderr, "server-key.pem") {
		t.Errorf("%s", r.Stderr)
	}
	operator.Sh(t, s.Hosts[1], "mv /etc/pki/qemu/away.pem /etc/pki/qemu/server-key.pem")
	s.Run(t, 0, "migrate", "strict", "--to", "kvm2")
	destroy(t, s.Hosts[1], "strict")
}
