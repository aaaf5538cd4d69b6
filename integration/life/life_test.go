package life

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/dirtyguest"
	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

// TestLife tells one story on one lab: each part begins where the last ended.
func TestLife(t *testing.T) {
	s := newSite(t)
	operator.Contains(t, s.run(t, 0, "apply", "--yes"), "3 changed")
	// The first run has seen nobody yet, the second has nothing to ask.
	operator.Contains(t, s.run(t, 0, "renew"), "nothing to renew", "3 of 3 hosts contacted")
	operator.Contains(t, s.run(t, 0, "renew"), "nothing to renew", "0 of 3 hosts contacted")
	if out := s.run(t, 0, "renew", "--quiet"); out != "" {
		t.Errorf("--quiet said: %s", out)
	}
	parts := []struct {
		name string
		do   func(*testing.T, *site)
	}{
		{"renewal", renewal}, {"window", window}, {"backoff", backoff}, {"revocation", revocation}, {"leaving", leaving}, {"scheduled", scheduled}, {"expired", expired}, {"rollover", rollover}, {"company", company},
	}
	for _, p := range parts {
		if !t.Run(p.name, func(t *testing.T) { p.do(t, s) }) {
			return
		}
	}
}

// renewal: what is due is renewed beside an open connection, a guest and a
// migration in flight. All go on, the leaf changes, libvirtd does not.
func renewal(t *testing.T, s *site) {
	a, b, c := s.Hosts[0], s.Hosts[1], s.Hosts[2]
	s.age(t, s.Hosts, 75*day)
	g := dirtyguest.Guest{Name: "g1", MiB: 192, Delay: 1, Once: true, Machine: "pc-i440fx-7.2", Image: "/var/lib/libvirt/images/dirty.img"}
	for _, h := range s.Hosts[:2] {
		install(t, h, g)
	}
	operator.Sh(t, a, "virsh -q create /root/g1.xml && sleep 3")
	guest(t, c, "quiet")
	// A client that asks before the renewal and once more after it.
	operator.Sh(t, c, `rm -f /run/go /run/said; nohup sh -c '{ echo hostname; n=0; while [ ! -e /run/go ] && [ $n -lt 1800 ]; do sleep 0.1; n=$((n+1)); done; echo hostname; } |
timeout 200 virsh -q -c qemu+tls://`+a.FQDN+`/system >/run/said 2>&1; echo ended $? >>/run/said' >/dev/null 2>&1 &`)
	said := func() string { return operator.On(t, c, "cat /run/said").Stdout }
	operator.Until(t, limit, "the open connection has its first answer", func() bool { return strings.Count(said(), a.FQDN) == 1 })
	// A migration that lasts until it is let go.
	operator.Sh(t, a, "virsh -q migrate-setspeed g1 1")
	operator.Sh(t, a, "rm -f /run/migrated; nohup sh -c 'timeout 300 virsh -q migrate --live --p2p --tls g1 qemu+tls://"+b.FQDN+"/system >/run/migrated 2>&1; echo ended $? >>/run/migrated' >/dev/null 2>&1 &")
	operator.Until(t, limit, "the migration is in flight", func() bool {
		return operator.On(t, b, "grep -q \"async='migration in'\" /run/libvirt/qemu/g1.xml").Code == 0
	})

	before := map[string][2]string{}
	for _, h := range s.Hosts {
		before[h.Name] = [2]string{serial(t, h), process(t, h)}
	}
	operator.Contains(t, s.run(t, 0, "renew"), "3 hosts renewed", "libvirt-server, libvirt-client, qemu")
	if operator.On(t, b, "grep -q \"async='migration in'\" /run/libvirt/qemu/g1.xml").Code != 0 {
		t.Errorf("the migration was over before the renewal: %s", operator.On(t, a, "cat /run/migrated").Stdout)
	}
	for _, h := range s.Hosts {
		if now := serial(t, h); now == before[h.Name][0] {
			t.Errorf("%s serves the old leaf %s", h.Name, now)
		}
		if now := process(t, h); now != before[h.Name][1] {
			t.Errorf("libvirtd of %s is %s, was %s", h.Name, now, before[h.Name][1])
		}
	}
	operator.Sh(t, c, "touch /run/go")
	operator.Until(t, limit, "the open connection has its second answer and ends", func() bool { return strings.Contains(said(), "ended") })
	if text := said(); strings.Count(text, a.FQDN) != 2 || !strings.Contains(text, "ended 0") {
		t.Errorf("the open connection said:\n%s", text)
	}
	operator.Sh(t, a, "virsh -q migrate-setspeed g1 1000")
	operator.Until(t, limit, "the migration ends", func() bool { return strings.Contains(operator.On(t, a, "cat /run/migrated").Stdout, "ended") })
	if text := operator.Sh(t, a, "cat /run/migrated"); strings.TrimSpace(text) != "ended 0" {
		t.Errorf("the migration said: %s", text)
	}
	operator.Sh(t, b, "virsh -q domstate g1 | grep -q running && virsh -q destroy g1")
	operator.Sh(t, c, "virsh -q domstate quiet | grep -q running && virsh -q destroy quiet")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}

func install(t *testing.T, h *lab.Host, g dirtyguest.Guest) {
	t.Helper()
	operator.Sh(t, h, fmt.Sprintf("mkdir -p $(dirname %[1]s); base64 -d >%[1]s <<'E'\n%[2]s\nE\ntruncate -s %[3]d %[1]s; chmod 0644 %[1]s; cat >/root/g1.xml <<'E'\n%[4]sE\n",
		g.Image, base64.StdEncoding.EncodeToString(g.Sector()), len(g.Floppy()), g.XML()))
}

// window: outside of its window a host is not even contacted, in an emergency
// the window does not count.
func window(t *testing.T, s *site) {
	s.age(t, s.Hosts[:1], 75*day)
	start := time.Now().UTC().Add(3 * time.Hour).Format("15:04")
	s.Write(t, "window.hcl", fmt.Sprintf("window \"later\" {\n  start  = %q\n  length = \"1h\"\n}\n", start))
	s.policy(t, "", "    windows = [window.later]\n")
	old := serial(t, s.Hosts[0])
	operator.Contains(t, s.run(t, 0, "renew"), "nothing to renew", "0 of 3 hosts contacted")
	if serial(t, s.Hosts[0]) != old {
		t.Error("renewed outside of the window")
	}
	s.age(t, s.Hosts[:1], 88*day)
	operator.Contains(t, s.run(t, 0, "renew"), "1 host renewed", "1 of 3 hosts contacted")
	if err := os.Remove(filepath.Join(s.Dir, "window.hcl")); err != nil {
		t.Fatal(err)
	}
	s.policy(t, "", "")
}

// backoff: after a failure the next run waits, unless something else is wanted.
func backoff(t *testing.T, s *site) {
	h := s.Hosts[1]
	s.age(t, s.Hosts[1:2], 75*day)
	operator.Sh(t, h, "mkdir -p /root/aside && mv /usr/bin/qemu-system-x86_64 /root/aside/ && printf '#!/bin/sh\\necho qemu-system-x86_64: no such credentials >&2\\nexit 1\\n' >/usr/bin/qemu-system-x86_64; chmod 0755 /usr/bin/qemu-system-x86_64")
	operator.Contains(t, s.run(t, 3, "renew"), "1 host failed", "no such credentials")
	operator.Contains(t, s.run(t, 3, "renew"), "the last attempt failed", "1 host held")
	operator.Sh(t, h, "mv /root/aside/qemu-system-x86_64 /usr/bin/qemu-system-x86_64")
	operator.Contains(t, s.run(t, 3, "renew"), "the last attempt failed", "no such credentials")
	// Another wish does not wait for the failures of the last one.
	s.policy(t, "  certificate \"libvirt-server\" {\n    lifetime = \"89d\"\n  }\n  certificate \"libvirt-client\" {\n    lifetime = \"89d\"\n  }\n  certificate \"qemu\" {\n    lifetime = \"89d\"\n  }\n", "")
	operator.Contains(t, s.run(t, 0, "renew"), "1 host renewed")
	s.policy(t, "", "")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
}

// revocation: a revoked client is refused by every host and release.
func revocation(t *testing.T, s *site) {
	thief := s.Hosts[2]
	operator.Sh(t, thief, `mkdir -m 0700 /root/old /root/oldqemu
cp -L /etc/pki/CA/cacert.pem /etc/pki/libvirt/clientcert.pem /root/old/; cp -L /etc/pki/libvirt/private/clientkey.pem /root/old/`)
	for _, h := range s.Hosts {
		if r := dial(t, thief, h, "?pkipath=/root/old"); r.Code != 0 {
			t.Fatalf("%s refuses before the revocation: %s", h.Name, r.Stderr)
		}
	}
	before := map[string]string{}
	for _, h := range s.Hosts {
		before[h.Name] = process(t, h)
	}
	operator.Contains(t, s.run(t, 4, "ca", "revoke", "--host", thief.Name, "--certificate", "libvirt-client", "--yes"), "is in use", "--in-use")
	operator.Contains(t, s.run(t, 0, "ca", "revoke", "--host", thief.Name, "--certificate", "libvirt-client", "--in-use", "--yes", "--reason", "stolen"), "list 2 of generation 1", "revoked certificates")
	operator.Contains(t, s.run(t, 0, "plan"), "/etc/pki/CA/cacrl.pem", "it is revoked", "certificates of O=Example,CN=Example libvirt g1")
	operator.Contains(t, s.run(t, 2, "status"), "emergency: it is revoked", "no revocation list in /etc/pki/CA/cacrl.pem")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	s.run(t, 0, "status")
	for _, h := range s.Hosts {
		if r := dial(t, thief, h, "?pkipath=/root/old"); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s (%s) accepts the revoked client: %d %s", h.Name, h.Suite, r.Code, r.Stdout)
		}
		if r := dial(t, thief, h, ""); r.Code != 0 {
			t.Errorf("%s refuses the new certificate: %s", h.Name, r.Stderr)
		}
		if now := process(t, h); now != before[h.Name] {
			t.Errorf("libvirtd of %s is %s, was %s", h.Name, now, before[h.Name])
		}
	}
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	// QEMU's own: the receiving end refuses a revoked source at once, whatever its
	// release.
	operator.Contains(t, s.run(t, 0, "ca", "revoke", "qemu", "--host", thief.Name, "--in-use", "--yes"), "list 2 of generation 1")
	s.run(t, 0, "apply", "--yes", "--limit", s.Hosts[0].Name+","+s.Hosts[1].Name)
	guest(t, thief, "quiet")
	migrate := func(to *lab.Host) lab.Result {
		return operator.On(t, thief, "timeout 90 virsh -q migrate --live --p2p --tls quiet qemu+tls://"+to.FQDN+"/system")
	}
	for _, to := range s.Hosts[:2] {
		if r := migrate(to); r.Code == 0 || r.Code == 124 {
			t.Errorf("a migration to %s (%s) with revoked credentials: %d", to.Name, to.Suite, r.Code)
		}
	}
	other := s.Hosts[1]
	s.run(t, 0, "ca", "revoke", "qemu", "--host", other.Name, "--in-use", "--yes")
	s.run(t, 0, "apply", "--yes", "--limit", thief.Name)
	guest(t, other, "other")
	if r := operator.On(t, other, "timeout 90 virsh -q migrate --live --p2p --tls other qemu+tls://"+thief.FQDN+"/system"); r.Code == 0 || r.Code == 124 {
		t.Errorf("a migration to %s (%s) with revoked credentials: %d", thief.Name, thief.Suite, r.Code)
	}
	operator.Sh(t, other, "virsh -q destroy other")
	operator.Contains(t, s.run(t, 0, "renew"), "hosts renewed")
	if r := migrate(s.Hosts[0]); r.Code != 0 {
		t.Errorf("a migration with the new credentials: %s", r.Stderr)
	}
	operator.Sh(t, s.Hosts[0], "virsh -q destroy quiet")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
}

// leaving: what on_replace follows is refused after the same run, a host that
// left is listed and then revoked, and a machine is forgotten.
func leaving(t *testing.T, s *site) {
	a, gone := s.Hosts[0], s.Hosts[2]
	operator.Sh(t, gone, `rm -rf /root/old; mkdir -m 0700 /root/old
cp -L /etc/pki/CA/cacert.pem /etc/pki/libvirt/clientcert.pem /root/old/; cp -L /etc/pki/libvirt/private/clientkey.pem /root/old/`)
	s.policy(t, "  certificate \"libvirt-client\" {\n    on_replace = \"revoke\"\n  }\n", "")
	operator.Contains(t, s.run(t, 0, "apply", "--yes", "--replace", "certificate.libvirt-client"), "Revoked:", "a former libvirt-client of ")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	for _, h := range s.Hosts {
		if r := dial(t, gone, h, "?pkipath=/root/old"); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s accepts a client that was replaced: %d", h.Name, r.Code)
		}
	}
	s.policy(t, "", "")
	s.inventory(t, s.Hosts[:2])
	operator.Contains(t, s.run(t, 0, "plan"), "orphan-certificates", gone.Name+" is not in the inventory", "removed { host = ")
	if r := dial(t, gone, a, ""); r.Code != 0 {
		t.Fatalf("a host that left is refused before it is revoked: %s", r.Stderr)
	}
	s.Write(t, "removed.hcl", fmt.Sprintf("removed {\n  host   = %q\n  revoke = true\n}\n", gone.Name))
	operator.Contains(t, s.run(t, 2, "plan", "--detailed-exitcode"), "Revoked for good", "libvirt-server of "+gone.Name)
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan", "--detailed-exitcode"), "Nothing to do")
	for _, h := range s.Hosts[:2] {
		if r := dial(t, gone, h, ""); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s accepts the host that left: %d", h.Name, r.Code)
		}
	}
	operator.Contains(t, s.run(t, 0, "verify"), "2 of 2 dials accepted")
	// The machine comes back: nothing of what it has is accepted, so all is new.
	if err := os.Remove(filepath.Join(s.Dir, "removed.hcl")); err != nil {
		t.Fatal(err)
	}
	s.inventory(t, s.Hosts)
	operator.Contains(t, s.run(t, 0, "forget", gone.Name, "--yes"), "Forgot "+gone.Name)
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}

// scheduled: one renew at a time in a cluster, none that disrupts more than it
// may, events for programs, and what a renewal followed is refused after it.
func scheduled(t *testing.T, s *site) {
	h := s.Hosts[0]
	s.policy(t, "  certificate \"libvirt-client\" {\n    on_replace = \"revoke\"\n  }\n", "")
	s.age(t, s.Hosts[:1], 75*day)
	operator.Sh(t, h, `rm -rf /root/old; mkdir -m 0700 /root/old
cp -L /etc/pki/CA/cacert.pem /etc/pki/libvirt/clientcert.pem /root/old/; cp -L /etc/pki/libvirt/private/clientkey.pem /root/old/`)
	before := serial(t, h)
	lock, err := os.OpenFile(filepath.Join(s.Dir, ".virtrust", "renew-rack1.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.run(t, 5, "renew")
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	operator.Contains(t, s.run(t, 3, "renew", "--max-disruption", "none"), "--max-disruption allows none", "1 host held")
	if now := serial(t, h); now != before {
		t.Errorf("renewed although it may not be: %s, then %s", before, now)
	}
	types := map[string]int{}
	var last struct {
		Type    string
		Result  string
		Host    string
		Summary struct {
			Renewed  []struct{ Host string }
			ExitCode int `json:"exit_code"`
		}
	}
	for line := range strings.Lines(s.run(t, 0, "renew", "--json")) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		types[last.Type]++
	}
	if types["start"] != 1 || types["host"] == 0 || types["summary"] != 1 || last.Type != "summary" || len(last.Summary.Renewed) != 1 || last.Summary.Renewed[0].Host != h.Name || last.Summary.ExitCode != 0 {
		t.Errorf("events %v, and last %+v", types, last)
	}
	for _, to := range s.Hosts {
		if r := dial(t, h, to, "?pkipath=/root/old"); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s accepts a client that a renewal followed: %d", to.Name, r.Code)
		}
	}
	s.policy(t, "", "")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")

	// The machine under this name is another one now.
	operator.Sh(t, h, `rm -rf /root/old; mkdir -m 0700 /root/old
cp -L /etc/pki/CA/cacert.pem /etc/pki/libvirt/clientcert.pem /root/old/; cp -L /etc/pki/libvirt/private/clientkey.pem /root/old/`)
	operator.Contains(t, s.run(t, 0, "forget", h.Name, "--revoke", "--yes"), "Forgot "+h.Name, "certificates revoked")
	// Two at once: one of them does it, and nothing is done twice.
	_, second := s.Begin(t, "apply", "--yes")
	a, b := s.Exec(t, "apply", "--yes"), second()
	if a.Code != 0 && b.Code != 0 {
		t.Errorf("two at once:\n%+v\n%+v", a, b)
	}
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	for _, to := range s.Hosts {
		if r := dial(t, h, to, "?pkipath=/root/old"); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s accepts the former machine: %d", to.Name, r.Code)
		}
	}
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}

// expired: everything has ended and libvirtd is down; apply brings it back.
func expired(t *testing.T, s *site) {
	s.age(t, s.Hosts, 100*day)
	for _, h := range s.Hosts {
		operator.Sh(t, h, "systemctl stop libvirtd-tls.socket libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service 2>/dev/null; ! systemctl is-active libvirtd.service")
	}
	operator.Contains(t, s.run(t, 0, "plan"), "expired")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}
