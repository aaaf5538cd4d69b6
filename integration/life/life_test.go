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
)

// TestLife tells one story on one lab: each part begins where the last ended.
func TestLife(t *testing.T) {
	s := newSite(t)
	contains(t, s.run(t, 0, "apply", "--yes"), "3 changed")
	// The first run has seen nobody yet, the second has nothing to ask.
	contains(t, s.run(t, 0, "renew"), "nothing to renew", "3 of 3 hosts contacted")
	contains(t, s.run(t, 0, "renew"), "nothing to renew", "0 of 3 hosts contacted")
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
	a, b, c := s.hosts[0], s.hosts[1], s.hosts[2]
	s.age(t, s.hosts, 75*day)
	g := dirtyguest.Guest{Name: "g1", MiB: 192, Delay: 1, Once: true, Machine: "pc-i440fx-7.2", Image: "/var/lib/libvirt/images/dirty.img"}
	for _, h := range s.hosts[:2] {
		install(t, h, g)
	}
	must(t, a, "virsh -q create /root/g1.xml && sleep 3")
	must(t, c, "cat >/root/quiet.xml <<'E'\n<domain type=\"qemu\"><name>quiet</name><memory unit=\"MiB\">64</memory><vcpu>1</vcpu><os><type machine=\"pc-i440fx-7.2\">hvm</type></os></domain>\nE\nvirsh -q create /root/quiet.xml")
	// A client that asks before the renewal and once more after it.
	must(t, c, `rm -f /run/go /run/said; nohup sh -c '{ echo hostname; n=0; while [ ! -e /run/go ] && [ $n -lt 1800 ]; do sleep 0.1; n=$((n+1)); done; echo hostname; } |
timeout 200 virsh -q -c qemu+tls://`+a.FQDN+`/system >/run/said 2>&1; echo ended $? >>/run/said' >/dev/null 2>&1 &`)
	said := func() string { return on(t, c, "cat /run/said").Stdout }
	until(t, "the open connection has its first answer", func() bool { return strings.Count(said(), a.FQDN) == 1 })
	// A migration that lasts until it is let go.
	must(t, a, "virsh -q migrate-setspeed g1 1")
	must(t, a, "rm -f /run/migrated; nohup sh -c 'timeout 300 virsh -q migrate --live --p2p --tls g1 qemu+tls://"+b.FQDN+"/system >/run/migrated 2>&1; echo ended $? >>/run/migrated' >/dev/null 2>&1 &")
	until(t, "the migration is in flight", func() bool { return on(t, b, "grep -q \"async='migration in'\" /run/libvirt/qemu/g1.xml").Code == 0 })

	before := map[string][2]string{}
	for _, h := range s.hosts {
		before[h.Name] = [2]string{serial(t, h), process(t, h)}
	}
	contains(t, s.run(t, 0, "renew"), "3 hosts renewed", "libvirt-server, libvirt-client, qemu")
	if on(t, b, "grep -q \"async='migration in'\" /run/libvirt/qemu/g1.xml").Code != 0 {
		t.Errorf("the migration was over before the renewal: %s", on(t, a, "cat /run/migrated").Stdout)
	}
	for _, h := range s.hosts {
		if now := serial(t, h); now == before[h.Name][0] {
			t.Errorf("%s serves the old leaf %s", h.Name, now)
		}
		if now := process(t, h); now != before[h.Name][1] {
			t.Errorf("libvirtd of %s is %s, was %s", h.Name, now, before[h.Name][1])
		}
	}
	must(t, c, "touch /run/go")
	until(t, "the open connection has its second answer and ends", func() bool { return strings.Contains(said(), "ended") })
	if text := said(); strings.Count(text, a.FQDN) != 2 || !strings.Contains(text, "ended 0") {
		t.Errorf("the open connection said:\n%s", text)
	}
	must(t, a, "virsh -q migrate-setspeed g1 1000")
	until(t, "the migration ends", func() bool { return strings.Contains(on(t, a, "cat /run/migrated").Stdout, "ended") })
	if text := must(t, a, "cat /run/migrated"); strings.TrimSpace(text) != "ended 0" {
		t.Errorf("the migration said: %s", text)
	}
	must(t, b, "virsh -q domstate g1 | grep -q running && virsh -q destroy g1")
	must(t, c, "virsh -q domstate quiet | grep -q running && virsh -q destroy quiet")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}

func install(t *testing.T, h *lab.Host, g dirtyguest.Guest) {
	t.Helper()
	must(t, h, fmt.Sprintf("mkdir -p $(dirname %[1]s); base64 -d >%[1]s <<'E'\n%[2]s\nE\ntruncate -s %[3]d %[1]s; chmod 0644 %[1]s; cat >/root/g1.xml <<'E'\n%[4]sE\n",
		g.Image, base64.StdEncoding.EncodeToString(g.Sector()), len(g.Floppy()), g.XML()))
}

// window: outside of its window a host is not even contacted, in an emergency
// the window does not count.
func window(t *testing.T, s *site) {
	s.age(t, s.hosts[:1], 75*day)
	start := time.Now().UTC().Add(3 * time.Hour).Format("15:04")
	s.write(t, "window.hcl", fmt.Sprintf("window \"later\" {\n  start  = %q\n  length = \"1h\"\n}\n", start))
	s.policy(t, "", "    windows = [window.later]\n")
	old := serial(t, s.hosts[0])
	contains(t, s.run(t, 0, "renew"), "nothing to renew", "0 of 3 hosts contacted")
	if serial(t, s.hosts[0]) != old {
		t.Error("renewed outside of the window")
	}
	s.age(t, s.hosts[:1], 88*day)
	contains(t, s.run(t, 0, "renew"), "1 host renewed", "1 of 3 hosts contacted")
	if err := os.Remove(filepath.Join(s.dir, "window.hcl")); err != nil {
		t.Fatal(err)
	}
	s.policy(t, "", "")
}

// backoff: after a failure the next run waits, unless something else is wanted.
func backoff(t *testing.T, s *site) {
	h := s.hosts[1]
	s.age(t, s.hosts[1:2], 75*day)
	must(t, h, "mkdir -p /root/aside && mv /usr/bin/qemu-system-x86_64 /root/aside/ && printf '#!/bin/sh\\necho qemu-system-x86_64: no such credentials >&2\\nexit 1\\n' >/usr/bin/qemu-system-x86_64; chmod 0755 /usr/bin/qemu-system-x86_64")
	contains(t, s.run(t, 3, "renew"), "1 host failed", "no such credentials")
	contains(t, s.run(t, 3, "renew"), "the last attempt failed", "1 host held")
	must(t, h, "mv /root/aside/qemu-system-x86_64 /usr/bin/qemu-system-x86_64")
	contains(t, s.run(t, 3, "renew"), "the last attempt failed", "no such credentials")
	// Another wish does not wait for the failures of the last one.
	s.policy(t, "  certificate \"libvirt-server\" {\n    lifetime = \"89d\"\n  }\n  certificate \"libvirt-client\" {\n    lifetime = \"89d\"\n  }\n  certificate \"qemu\" {\n    lifetime = \"89d\"\n  }\n", "")
	contains(t, s.run(t, 0, "renew"), "1 host renewed")
	s.policy(t, "", "")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
}

// revocation: a revoked client is refused by every host and release.
func revocation(t *testing.T, s *site) {
	thief := s.hosts[2]
	must(t, thief, `mkdir -m 0700 /root/old /root/oldqemu
cp -L /etc/pki/CA/cacert.pem /etc/pki/libvirt/clientcert.pem /root/old/; cp -L /etc/pki/libvirt/private/clientkey.pem /root/old/`)
	for _, h := range s.hosts {
		if r := dial(t, thief, h, "?pkipath=/root/old"); r.Code != 0 {
			t.Fatalf("%s refuses before the revocation: %s", h.Name, r.Stderr)
		}
	}
	before := map[string]string{}
	for _, h := range s.hosts {
		before[h.Name] = process(t, h)
	}
	contains(t, s.run(t, 4, "ca", "revoke", "--host", thief.Name, "--certificate", "libvirt-client", "--yes"), "is in use", "--in-use")
	contains(t, s.run(t, 0, "ca", "revoke", "--host", thief.Name, "--certificate", "libvirt-client", "--in-use", "--yes", "--reason", "stolen"), "list 2 of generation 1", "revoked certificates")
	contains(t, s.run(t, 0, "plan"), "/etc/pki/CA/cacrl.pem", "it is revoked", "certificates of O=Example,CN=Example libvirt g1")
	contains(t, s.run(t, 2, "status"), "emergency: it is revoked", "no revocation list in /etc/pki/CA/cacrl.pem")
	s.run(t, 0, "apply", "--yes")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	s.run(t, 0, "status")
	for _, h := range s.hosts {
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
	contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	// QEMU's own: the receiving end refuses a revoked source at once, whatever its
	// release.
	contains(t, s.run(t, 0, "ca", "revoke", "qemu", "--host", thief.Name, "--in-use", "--yes"), "list 2 of generation 1")
	s.run(t, 0, "apply", "--yes", "--limit", s.hosts[0].Name+","+s.hosts[1].Name)
	must(t, thief, "cat >/root/quiet.xml <<'E'\n<domain type=\"qemu\"><name>quiet</name><memory unit=\"MiB\">64</memory><vcpu>1</vcpu><os><type machine=\"pc-i440fx-7.2\">hvm</type></os></domain>\nE\nvirsh -q create /root/quiet.xml")
	migrate := func(to *lab.Host) lab.Result {
		return on(t, thief, "timeout 90 virsh -q migrate --live --p2p --tls quiet qemu+tls://"+to.FQDN+"/system")
	}
	for _, to := range s.hosts[:2] {
		if r := migrate(to); r.Code == 0 || r.Code == 124 {
			t.Errorf("a migration to %s (%s) with revoked credentials: %d", to.Name, to.Suite, r.Code)
		}
	}
	other := s.hosts[1]
	s.run(t, 0, "ca", "revoke", "qemu", "--host", other.Name, "--in-use", "--yes")
	s.run(t, 0, "apply", "--yes", "--limit", thief.Name)
	must(t, other, "cat >/root/other.xml <<'E'\n<domain type=\"qemu\"><name>other</name><memory unit=\"MiB\">64</memory><vcpu>1</vcpu><os><type machine=\"pc-i440fx-7.2\">hvm</type></os></domain>\nE\nvirsh -q create /root/other.xml")
	if r := on(t, other, "timeout 90 virsh -q migrate --live --p2p --tls other qemu+tls://"+thief.FQDN+"/system"); r.Code == 0 || r.Code == 124 {
		t.Errorf("a migration to %s (%s) with revoked credentials: %d", thief.Name, thief.Suite, r.Code)
	}
	must(t, other, "virsh -q destroy other")
	contains(t, s.run(t, 0, "renew"), "hosts renewed")
	if r := migrate(s.hosts[0]); r.Code != 0 {
		t.Errorf("a migration with the new credentials: %s", r.Stderr)
	}
	must(t, s.hosts[0], "virsh -q destroy quiet")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
}

// leaving: what on_replace follows is refused after the same run, a host that
// left is listed and then revoked, and a machine is forgotten.
func leaving(t *testing.T, s *site) {
	a, gone := s.hosts[0], s.hosts[2]
	must(t, gone, `rm -rf /root/old; mkdir -m 0700 /root/old
cp -L /etc/pki/CA/cacert.pem /etc/pki/libvirt/clientcert.pem /root/old/; cp -L /etc/pki/libvirt/private/clientkey.pem /root/old/`)
	s.policy(t, "  certificate \"libvirt-client\" {\n    on_replace = \"revoke\"\n  }\n", "")
	contains(t, s.run(t, 0, "apply", "--yes", "--replace", "certificate.libvirt-client"), "Revoked:", "a former libvirt-client of ")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	for _, h := range s.hosts {
		if r := dial(t, gone, h, "?pkipath=/root/old"); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s accepts a client that was replaced: %d", h.Name, r.Code)
		}
	}
	s.policy(t, "", "")
	s.inventory(t, s.hosts[:2])
	contains(t, s.run(t, 0, "plan"), "orphan-certificates", gone.Name+" is not in the inventory", "removed { host = ")
	if r := dial(t, gone, a, ""); r.Code != 0 {
		t.Fatalf("a host that left is refused before it is revoked: %s", r.Stderr)
	}
	s.write(t, "removed.hcl", fmt.Sprintf("removed {\n  host   = %q\n  revoke = true\n}\n", gone.Name))
	contains(t, s.run(t, 2, "plan", "--detailed-exitcode"), "Revoked for good", "libvirt-server of "+gone.Name)
	s.run(t, 0, "apply", "--yes")
	contains(t, s.run(t, 0, "plan", "--detailed-exitcode"), "Nothing to do")
	for _, h := range s.hosts[:2] {
		if r := dial(t, gone, h, ""); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s accepts the host that left: %d", h.Name, r.Code)
		}
	}
	contains(t, s.run(t, 0, "verify"), "2 of 2 dials accepted")
	// The machine comes back: nothing of what it has is accepted, so all is new.
	if err := os.Remove(filepath.Join(s.dir, "removed.hcl")); err != nil {
		t.Fatal(err)
	}
	s.inventory(t, s.hosts)
	contains(t, s.run(t, 0, "forget", gone.Name, "--yes"), "Forgot "+gone.Name)
	s.run(t, 0, "apply", "--yes")
	contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}

// scheduled: one renew at a time in a cluster, none that disrupts more than it
// may, events for programs, and what a renewal followed is refused after it.
func scheduled(t *testing.T, s *site) {
	h := s.hosts[0]
	s.policy(t, "  certificate \"libvirt-client\" {\n    on_replace = \"revoke\"\n  }\n", "")
	s.age(t, s.hosts[:1], 75*day)
	must(t, h, `rm -rf /root/old; mkdir -m 0700 /root/old
cp -L /etc/pki/CA/cacert.pem /etc/pki/libvirt/clientcert.pem /root/old/; cp -L /etc/pki/libvirt/private/clientkey.pem /root/old/`)
	before := serial(t, h)
	lock, err := os.OpenFile(filepath.Join(s.dir, ".virtrust", "renew-rack1.lock"), os.O_RDWR|os.O_CREATE, 0o600)
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
	contains(t, s.run(t, 3, "renew", "--max-disruption", "none"), "--max-disruption allows none", "1 host held")
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
	for _, to := range s.hosts {
		if r := dial(t, h, to, "?pkipath=/root/old"); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s accepts a client that a renewal followed: %d", to.Name, r.Code)
		}
	}
	s.policy(t, "", "")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")

	// The machine under this name is another one now.
	must(t, h, `rm -rf /root/old; mkdir -m 0700 /root/old
cp -L /etc/pki/CA/cacert.pem /etc/pki/libvirt/clientcert.pem /root/old/; cp -L /etc/pki/libvirt/private/clientkey.pem /root/old/`)
	contains(t, s.run(t, 0, "forget", h.Name, "--revoke", "--yes"), "Forgot "+h.Name, "certificates revoked")
	// Two at once: one of them does it, and nothing is done twice.
	type ended struct {
		code int
		said string
	}
	second := make(chan ended, 1)
	go func() {
		code, said := s.exec(t.Context(), "apply", "--yes")
		second <- ended{code, said}
	}()
	code, said := s.exec(t.Context(), "apply", "--yes")
	b := <-second
	t.Logf("two at once ended with %d and %d", code, b.code)
	if code != 0 && b.code != 0 {
		t.Errorf("two at once:\n%d %s\n%d %s", code, said, b.code, b.said)
	}
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	for _, to := range s.hosts {
		if r := dial(t, h, to, "?pkipath=/root/old"); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s accepts the former machine: %d", to.Name, r.Code)
		}
	}
	contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}

// expired: everything has ended and libvirtd is down; apply brings it back.
func expired(t *testing.T, s *site) {
	s.age(t, s.hosts, 100*day)
	for _, h := range s.hosts {
		must(t, h, "systemctl stop libvirtd-tls.socket libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service 2>/dev/null; ! systemctl is-active libvirtd.service")
	}
	contains(t, s.run(t, 0, "plan"), "expired")
	s.run(t, 0, "apply", "--yes")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}
