package qemu

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

const consoleGuest = `<domain type="qemu"><name>%s</name><memory unit="MiB">32</memory><vcpu>1</vcpu><os><type machine="pc-i440fx-7.2">hvm</type></os>
<devices><graphics type="vnc" port="%d" autoport="no" listen="0.0.0.0"/><video><model type="vga"/></video></devices></domain>`

// viewer is a VNC client with an encrypted console open.
type viewer struct {
	*tls.Conn
	leaf string // sha256 of the certificate that the console showed
}

// open opens a console as a viewer does, up to the first picture.
func (s *site) open(t *testing.T, h *lab.Host, port int) (*viewer, error) {
	t.Helper()
	raw, err := s.lab.Dial(t.Context(), "tcp", fmt.Sprintf("%s:%d", h.Addresses.Management4, port))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	// Write, then how much to read and its last byte.
	for _, step := range []struct {
		say  string
		read int
		last byte
	}{{"", 12, '\n'}, {"RFB 003.008\n", 2, 19}, {"\x13", 2, 2}, {"\x00\x02", 1, 0}, {"", 5, 4}, {"\x00\x00\x01\x04", 1, 1}} {
		b := make([]byte, step.read)
		if _, err := io.WriteString(raw, step.say); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(raw, b); err != nil {
			return nil, err
		}
		if b[len(b)-1] != step.last {
			return nil, fmt.Errorf("the console answers %q to %q", b, step.say)
		}
	}
	v := &viewer{Conn: tls.Client(raw, &tls.Config{InsecureSkipVerify: true})}
	if err := v.Handshake(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(v.ConnectionState().PeerCertificates[0].Raw)
	v.leaf = hex.EncodeToString(sum[:])
	b := make([]byte, 4+24)
	if _, err := io.ReadFull(v, b[:4]); err != nil { // the result of logging in
		return nil, err
	}
	if _, err := v.Write([]byte{1}); err != nil { // shared with others
		return nil, err
	}
	if _, err := io.ReadFull(v, b[4:]); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(v, make([]byte, b[27])) // the guest's name
	return v, err
}

// picture asks for a part of the screen, which a connection that lives gives.
func (v *viewer) picture() error {
	_ = v.SetDeadline(time.Now().Add(time.Minute))
	if _, err := v.Write([]byte{3, 0, 0, 0, 0, 0, 0, 16, 0, 16}); err != nil {
		return err
	}
	_, err := io.ReadFull(v, make([]byte, 4))
	return err
}

// onDisk is the sha256 of the leaf that consoles should show.
func onDisk(t *testing.T, h *lab.Host) string {
	t.Helper()
	block, _ := pem.Decode([]byte(must(t, h, "cat /etc/pki/libvirt-vnc/server-cert.pem")))
	if block == nil {
		t.Fatal("no certificate in /etc/pki/libvirt-vnc")
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

// consoles: a guest that started before the setting is told, those that start
// afterwards are encrypted, and a renewal reaches them as they run.
func consoles(t *testing.T, s *site) {
	for _, h := range s.hosts {
		create(t, h, "before", 5901)
	}
	s.policy(t, "  listener \"vnc\" {\n  }\n")
	s.run(t, 0, "apply", "--yes")
	contains(t, s.run(t, 0, "plan"), "Nothing to do", "console-not-encrypted: kvm1, kvm2, kvm3", "console of before is not encrypted")
	for _, h := range s.hosts {
		must(t, h, "virsh -q destroy before")
		create(t, h, "screen", 5902)
	}
	if text := s.run(t, 0, "plan"); strings.Contains(text, "console-") {
		t.Errorf("%s", text)
	}
	opened := map[*lab.Host]*viewer{}
	processes := map[*lab.Host]string{}
	for _, h := range s.hosts {
		v, err := s.open(t, h, 5902)
		if err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if v.leaf != onDisk(t, h) {
			t.Errorf("%s: the console shows another certificate than the one on disk", h.Name)
		}
		opened[h], processes[h] = v, must(t, h, "cat /run/libvirt/qemu/screen.pid")
	}
	contains(t, s.run(t, 0, "plan", "--replace", "certificate.vnc"), "reload per VM on 3 hosts", "reload VNC consoles")
	contains(t, s.run(t, 0, "apply", "--yes", "--replace", "certificate.vnc"), "3 changed", "new leaf on the console of screen")
	for _, h := range s.hosts {
		v, err := s.open(t, h, 5902)
		switch {
		case err != nil:
			t.Errorf("%s: %v", h.Name, err)
		case v.leaf == opened[h].leaf:
			t.Errorf("%s: the console still shows the old certificate", h.Name)
		case v.leaf != onDisk(t, h):
			t.Errorf("%s: the console shows neither the old nor the new certificate", h.Name)
		}
		if err := opened[h].picture(); err != nil {
			t.Errorf("%s: the console that was open is gone: %v", h.Name, err)
		}
		if now := must(t, h, "cat /run/libvirt/qemu/screen.pid"); now != processes[h] {
			t.Errorf("%s: the guest was restarted", h.Name)
		}
	}
	contains(t, s.run(t, 0, "plan"), "Nothing to do")

	// What runs counts, not the file: a console that goes on with the old
	// certificate is in the plan.
	h := s.hosts[2]
	must(t, h, "cd /etc/pki/libvirt-vnc/.virtrust/vnc && ln -s 1 new && mv -T new current && virsh -q domdisplay-reload screen && ln -s 2 new && mv -T new current")
	contains(t, s.run(t, 0, "plan", "--limit", h.Name), "console of screen shows another certificate")
	s.run(t, 0, "apply", "--yes", "--limit", h.Name)
	contains(t, s.run(t, 0, "plan", "--limit", h.Name), "Nothing to do")

	s.refused(t, s.hosts[0])
	for _, h := range s.hosts {
		must(t, h, "virsh -q destroy screen")
	}
}

// refused: virsh ends well although QEMU answers with an error. The certificate
// is put back then.
func (s *site) refused(t *testing.T, h *lab.Host) {
	before := onDisk(t, h)
	must(t, h, `cat >/usr/sbin/virsh <<'E'
#!/bin/sh
case "$*" in *'"display-reload"'*) echo '{"id":"libvirt-9","error":{"class":"GenericError","desc":"no such credentials"}}'; exit 0 ;; esac
exec /usr/bin/virsh "$@"
E
chmod 0755 /usr/sbin/virsh`)
	out := s.run(t, 3, "apply", "--yes", "--limit", h.Name, "--replace", "certificate.vnc")
	must(t, h, "rm /usr/sbin/virsh")
	contains(t, out, "guest screen does not take the new certificate of its console", "no such credentials")
	if onDisk(t, h) != before {
		t.Errorf("%s: the certificate was not put back", h.Name)
	}
	contains(t, s.run(t, 0, "plan", "--limit", h.Name), "Nothing to do")
}

func create(t *testing.T, h *lab.Host, name string, port int) {
	t.Helper()
	must(t, h, fmt.Sprintf("cat >/root/%s.xml <<'E'\n%s\nE\nvirsh -q create /root/%[1]s.xml", name, fmt.Sprintf(consoleGuest, name, port)))
}
