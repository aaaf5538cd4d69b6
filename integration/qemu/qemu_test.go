package qemu

import (
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

const key = "/etc/pki/qemu/server-key.pem"

// TestQEMU tells one story on one lab: each part begins where the last ended.
func TestQEMU(t *testing.T) {
	s := newSite(t)
	s.inventory(t, "available", "")
	s.run(t, 0, "ca", "init")
	for _, h := range s.Hosts {
		operator.Sh(t, h, "useradd -G kvm kate")
	}
	operator.Contains(t, s.run(t, 0, "apply", "--yes"), "3 changed", "accepted by the host's QEMU")
	for _, h := range s.Hosts {
		operator.Contains(t, s.run(t, 0, "plan", "--limit", h.Name), "Nothing to do")
	}
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	parts := []struct {
		name string
		do   func(*testing.T, *site)
	}{
		{"key", keyIsQEMUs}, {"group", groupGainsMember}, {"stolen", stolenKey}, {"check", checkReverts},
		{"consoles", consoles}, {"required", required}, {"held", heldForOne},
	}
	for _, p := range parts {
		if !t.Run(p.name, func(t *testing.T) { p.do(t, s) }) {
			return
		}
	}
}

// keyIsQEMUs: QEMU's account reads the key through each of its names, a member
// of group kvm does not.
func keyIsQEMUs(t *testing.T, s *site) {
	for _, h := range s.Hosts {
		for _, name := range []string{key, "/etc/pki/qemu/client-key.pem"} {
			group := strings.TrimSpace(operator.Sh(t, h, "stat -c %g /var/lib/libvirt/qemu"))
			operator.Contains(t, operator.Sh(t, h, "setpriv --reuid=libvirt-qemu --regid="+group+" --init-groups cat "+name), "PRIVATE KEY")
			if r := operator.On(t, h, "setpriv --reuid=kate --regid=kate --init-groups cat "+name); r.Code == 0 || strings.Contains(r.Stdout, "PRIVATE") {
				t.Errorf("%s: a member of kvm reads %s: %s", h.Name, name, r.Stdout)
			}
		}
	}
}

// groupGainsMember: the key is exposed to a new member until the next apply,
// which makes another that belongs to QEMU's user alone.
func groupGainsMember(t *testing.T, s *site) {
	h := s.Hosts[1]
	group := strings.TrimSpace(operator.Sh(t, h, "stat -c %G /var/lib/libvirt/qemu"))
	before := operator.Sh(t, h, "sha256sum <"+key)
	operator.Sh(t, h, "gpasswd -a kate "+group)
	operator.Contains(t, s.run(t, 0, "plan", "--limit", h.Name), "has other members: kate")
	s.run(t, 0, "apply", "--yes", "--limit", h.Name)
	if got := operator.Sh(t, h, "stat -L -c '%U %a' "+key); got != "libvirt-qemu 400" {
		t.Errorf("the key is %s", got)
	}
	if before == operator.Sh(t, h, "sha256sum <"+key) {
		t.Error("the exposed key is still in use")
	}
	if r := operator.On(t, h, "setpriv --reuid=kate --regid=kate --init-groups cat "+key); r.Code == 0 {
		t.Error("the member reads the new key, too")
	}
	operator.Sh(t, h, "gpasswd -d kate "+group)
	operator.Contains(t, s.run(t, 0, "plan", "--limit", h.Name), "Nothing to do")
}

// stolenKey: QEMU's pair of any host opens no libvirtd, libvirt's own does.
func stolenKey(t *testing.T, s *site) {
	for _, from := range s.Hosts {
		operator.Sh(t, from, `rm -rf /root/stolen /root/own; mkdir -m 0700 /root/stolen /root/own
cat /etc/pki/CA/cacert.pem /etc/pki/qemu/ca-cert.pem | tee /root/stolen/cacert.pem >/root/own/cacert.pem
cp /etc/pki/qemu/client-cert.pem /root/stolen/clientcert.pem; cp /etc/pki/qemu/client-key.pem /root/stolen/clientkey.pem
cp /etc/pki/libvirt/clientcert.pem /root/own/clientcert.pem; cp /etc/pki/libvirt/private/clientkey.pem /root/own/clientkey.pem`)
		for _, to := range s.Hosts {
			dial := func(dir string) lab.Result {
				return operator.On(t, from, "timeout 20 virsh -q -c 'qemu+tls://"+to.FQDN+"/system?pkipath="+dir+"' hostname")
			}
			if r := dial("/root/own"); r.Code != 0 {
				t.Errorf("%s is refused by %s with its own pair: %s", from.Name, to.Name, r.Stderr)
			}
			if r := dial("/root/stolen"); r.Code == 0 || r.Code == 124 {
				t.Errorf("%s logs in to %s with QEMU's pair (%d): %s%s", from.Name, to.Name, r.Code, r.Stdout, r.Stderr)
			}
		}
		operator.Sh(t, from, "rm -rf /root/stolen /root/own")
	}
}

// checkReverts: what QEMU on the host does not accept is put back.
func checkReverts(t *testing.T, s *site) {
	h := s.Hosts[0]
	before := operator.Sh(t, h, "readlink -f "+key)
	operator.Sh(t, h, "printf '#!/bin/sh\\necho qemu-system-x86_64: no such credentials >&2\\nexit 1\\n' >/usr/sbin/qemu-system-x86_64; chmod 0755 /usr/sbin/qemu-system-x86_64")
	out := s.run(t, 3, "apply", "--yes", "--limit", h.Name, "--replace", "certificate.qemu")
	operator.Sh(t, h, "rm /usr/sbin/qemu-system-x86_64")
	operator.Contains(t, out, "does not accept /etc/pki/qemu as a server", "no such credentials")
	if after := operator.Sh(t, h, "readlink -f "+key); after != before {
		t.Errorf("the key is %s, was %s", after, before)
	}
	operator.Contains(t, s.run(t, 0, "plan", "--limit", h.Name), "Nothing to do")
}

const guest = `<domain type="qemu"><name>g1</name><memory unit="MiB">64</memory><vcpu>1</vcpu><os><type machine="pc-i440fx-7.2">hvm</type></os></domain>`

// required: a migration without TLS is refused in every direction that is
// tried, one with TLS is not; back on available both go.
func required(t *testing.T, s *site) {
	a, b := s.Hosts[1], s.Hosts[0]
	operator.Sh(t, a, "cat >/root/g1.xml <<'E'\n"+guest+"\nE\nvirsh -q create /root/g1.xml")
	migrate := func(from, to *lab.Host, flags string) lab.Result {
		return operator.On(t, from, "timeout 60 virsh -q migrate --live --p2p "+flags+" g1 qemu+tls://"+to.FQDN+"/system")
	}
	if r := migrate(a, b, ""); r.Code != 0 {
		t.Fatalf("plain, before: %s", r.Stderr)
	}
	s.inventory(t, "required", "")
	operator.Contains(t, s.run(t, 0, "plan"), "migrate_tls_force", "proved its credentials")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	if r := migrate(b, a, ""); r.Code == 0 || !strings.Contains(r.Stderr, "VIR_MIGRATE_TLS") {
		t.Errorf("plain, required: %d %s", r.Code, r.Stderr)
	}
	if r := migrate(b, a, "--tls"); r.Code != 0 {
		t.Fatalf("with TLS, required: %s", r.Stderr)
	}
	s.inventory(t, "available", "")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	if r := migrate(a, b, ""); r.Code != 0 {
		t.Errorf("plain, available again: %s", r.Stderr)
	}
	operator.Sh(t, b, "virsh -q destroy g1")
	for _, h := range s.Hosts {
		if r := operator.On(t, h, "grep -q '^migrate_tls_force' /etc/libvirt/qemu.conf || test -e /var/lib/virtrust/migrate_tls_force"); r.Code == 0 {
			t.Errorf("%s still has the setting", h.Name)
		}
	}
}

// heldForOne: a host that nobody ever reached holds what names it and nothing
// else; away takes it out; a host that is down counts by its last proof.
func heldForOne(t *testing.T, s *site) {
	ghost := "\nhost \"kvm9\" {\n  address = \"kvm9.example.test\"\n  cluster = cluster.rack1\n}\n"
	s.inventory(t, "required", ghost)
	serial := func() string {
		return operator.Sh(t, s.Hosts[0], "openssl x509 -noout -serial -in /etc/pki/qemu/server-cert.pem")
	}
	before := serial()
	out := s.run(t, 3, "apply", "--yes", "--limit", "kvm1", "--replace", "certificate.qemu")
	operator.Contains(t, out, "Held for other hosts", "kvm9: it cannot be read and was never proved", "1 changed")
	if serial() == before {
		t.Error("the renewal did not go through around the host that is down")
	}
	if r := operator.On(t, s.Hosts[0], "grep -q '^migrate_tls_force' /etc/libvirt/qemu.conf"); r.Code == 0 {
		t.Error("migrate_tls_force is set although a member was never proved")
	}
	// kvm3 was proved and goes down: it holds nobody.
	if err := s.Hosts[2].PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.inventory(t, "required", strings.Replace(ghost, "  cluster", "  away = \"2099-01-01: not delivered yet\"\n  cluster", 1))
	s.run(t, 0, "apply", "--yes", "--limit", "kvm1,kvm2")
	for _, h := range s.Hosts[:2] {
		operator.Sh(t, h, "grep -q '^migrate_tls_force = 1' /etc/libvirt/qemu.conf")
	}
}
