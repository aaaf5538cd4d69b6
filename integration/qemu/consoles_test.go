package qemu

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/dirtyguest"
	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

const consoleGuest = `<domain type="qemu"><name>%s</name><memory unit="MiB">32</memory><vcpu>1</vcpu><os><type machine="pc-i440fx-7.2">hvm</type></os>
<devices><graphics type="vnc" port="%d" autoport="no" listen="0.0.0.0"/><video><model type="vga"/></video></devices></domain>`

// viewer is a VNC client with an encrypted console open.
type viewer struct {
	*tls.Conn
	leaf  string // sha256 of the certificate that the console showed
	pixel int64  // bytes of one
}

// open opens a console as a viewer does, up to the first picture.
func (s *site) open(t *testing.T, h *lab.Host, port int) (*viewer, error) {
	t.Helper()
	raw, err := s.Lab.Dial(t.Context(), "tcp", fmt.Sprintf("%s:%d", h.Addresses.Management4, port))
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
	v.pixel = int64(b[8]) / 8
	_, err = io.ReadFull(v, make([]byte, b[27])) // the guest's name
	return v, err
}

// picture asks for a part of the screen and reads it, which a connection that
// lives gives.
func (v *viewer) picture() error {
	_ = v.SetDeadline(time.Now().Add(time.Minute))
	if _, err := v.Write([]byte{3, 0, 0, 0, 0, 0, 0, 16, 0, 16}); err != nil {
		return err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(v, head); err != nil {
		return err
	}
	if head[0] != 0 {
		return fmt.Errorf("the console sends message %d and no picture", head[0])
	}
	for range int(binary.BigEndian.Uint16(head[2:])) {
		r := make([]byte, 12)
		if _, err := io.ReadFull(v, r); err != nil {
			return err
		}
		if encoding := binary.BigEndian.Uint32(r[8:]); encoding != 0 {
			return fmt.Errorf("the console sends encoding %d", int32(encoding))
		}
		size := int64(binary.BigEndian.Uint16(r[4:])) * int64(binary.BigEndian.Uint16(r[6:])) * v.pixel
		if _, err := io.CopyN(io.Discard, v, size); err != nil {
			return err
		}
	}
	return nil
}

// onDisk is the sha256 of the leaf that consoles should show.
func onDisk(t *testing.T, h *lab.Host) string {
	t.Helper()
	block, _ := pem.Decode([]byte(operator.Sh(t, h, "cat /etc/pki/libvirt-vnc/server-cert.pem")))
	if block == nil {
		t.Fatal("no certificate in /etc/pki/libvirt-vnc")
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

// consoles: a guest that started before the setting is told, those that start
// afterwards are encrypted, and a renewal reaches them as they run.
func consoles(t *testing.T, s *site) {
	for _, h := range s.Hosts {
		create(t, h, "before", 5901)
	}
	s.policy(t, "  listener \"vnc\" {\n  }\n")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do", "console-not-encrypted: kvm1, kvm2, kvm3", "console of before is not encrypted")
	for _, h := range s.Hosts {
		operator.Sh(t, h, "virsh -q destroy before")
		create(t, h, "screen", 5902)
	}
	if text := s.run(t, 0, "plan"); strings.Contains(text, "console-") {
		t.Errorf("%s", text)
	}
	opened := map[*lab.Host]*viewer{}
	processes := map[*lab.Host]string{}
	for _, h := range s.Hosts {
		v, err := s.open(t, h, 5902)
		if err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if v.leaf != onDisk(t, h) {
			t.Errorf("%s: the console shows another certificate than the one on disk", h.Name)
		}
		opened[h], processes[h] = v, operator.Sh(t, h, "cat /run/libvirt/qemu/screen.pid")
	}
	operator.Contains(t, s.run(t, 0, "plan", "--replace", "certificate.vnc"), "reload per VM on 3 hosts", "reload VNC consoles")
	// All of them at once, under whatever a renewal must not disturb.
	finish := s.busy(t, opened)
	operator.Contains(t, s.run(t, 0, "apply", "--yes", "--replace", "certificate.vnc,certificate.qemu,certificate.libvirt-server,certificate.libvirt-client"),
		"3 changed", "new leaf on the console of screen")
	finish()
	for _, h := range s.Hosts {
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
		if now := operator.Sh(t, h, "cat /run/libvirt/qemu/screen.pid"); now != processes[h] {
			t.Errorf("%s: the guest was restarted", h.Name)
		}
	}
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")

	// What runs counts, not the file: a console that goes on with the old
	// certificate is in the plan.
	h := s.Hosts[2]
	operator.Sh(t, h, "cd /etc/pki/libvirt-vnc/.virtrust/vnc && ln -s 1 new && mv -T new current && virsh -q domdisplay-reload screen && ln -s 2 new && mv -T new current")
	operator.Contains(t, s.run(t, 0, "plan", "--limit", h.Name), "console of screen shows another certificate")
	s.run(t, 0, "apply", "--yes", "--limit", h.Name)
	operator.Contains(t, s.run(t, 0, "plan", "--limit", h.Name), "Nothing to do")

	s.refused(t, s.Hosts[0])
	for _, h := range s.Hosts {
		operator.Sh(t, h, "virsh -q destroy screen")
	}
}

// busy begins a migration that lasts, a login of one host to another that stays,
// and viewers that ask for pictures all the time. finish lets them end and fails
// unless each went on, on the same daemons, which show new certificates.
func (s *site) busy(t *testing.T, opened map[*lab.Host]*viewer) (finish func()) {
	t.Helper()
	a, b, c := s.Hosts[0], s.Hosts[1], s.Hosts[2]
	g := dirtyguest.Guest{Name: "slow", MiB: 128, Once: true, Machine: "pc-i440fx-7.2", Image: "/var/lib/libvirt/images/slow.img"}
	for _, h := range s.Hosts[:2] {
		if err := h.WriteFile(t.Context(), g.Image, g.Floppy(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.WriteFile(t.Context(), "/root/slow.xml", []byte(g.XML()), 0o644); err != nil {
		t.Fatal(err)
	}
	operator.Sh(t, a, "virsh -q create /root/slow.xml && sleep 2 && virsh -q migrate-setspeed slow 1")
	operator.Sh(t, c, `rm -f /run/go /run/said; nohup sh -c '{ echo hostname; n=0; while [ ! -e /run/go ] && [ $n -lt 1800 ]; do sleep 0.1; n=$((n+1)); done; echo hostname; } |
timeout 240 virsh -q -c qemu+tls://`+a.FQDN+`/system >/run/said 2>&1; echo ended $? >>/run/said' >/dev/null 2>&1 &`)
	said := func() string { return operator.On(t, c, "cat /run/said").Stdout }
	until(t, "the open connection has its first answer", func() bool { return strings.Count(said(), a.FQDN) == 1 })
	operator.Sh(t, a, "rm -f /run/migrated; nohup sh -c 'timeout 300 virsh -q migrate --live --p2p --tls slow qemu+tls://"+b.FQDN+"/system >/run/migrated 2>&1; echo ended $? >>/run/migrated' >/dev/null 2>&1 &")
	moving := func() bool {
		return operator.On(t, b, "grep -q \"async='migration in'\" /run/libvirt/qemu/slow.xml").Code == 0
	}
	until(t, "the migration is in flight", moving)
	state := func(h *lab.Host) (process, leaf string) {
		return operator.Sh(t, h, "systemctl show -p MainPID -p InvocationID --value libvirtd.service"),
			operator.Sh(t, h, "openssl s_client -connect 127.0.0.1:16514 </dev/null 2>/dev/null | openssl x509 -noout -serial")
	}
	processes, leaves := map[*lab.Host]string{}, map[*lab.Host]string{}
	stop := make(chan struct{})
	var viewing sync.WaitGroup
	pictures := make([]atomic.Int64, len(s.Hosts))
	for i, h := range s.Hosts {
		processes[h], leaves[h] = state(h)
		viewing.Go(func() {
			for {
				if err := opened[h].picture(); err != nil {
					t.Errorf("%s: the open console after %d pictures: %v", h.Name, pictures[i].Load(), err)
					return
				}
				pictures[i].Add(1)
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	return func() {
		t.Helper()
		if !moving() {
			t.Errorf("the migration was over before the renewal: %s", operator.On(t, a, "cat /run/migrated").Stdout)
		}
		for i, h := range s.Hosts {
			process, leaf := state(h)
			if process != processes[h] {
				t.Errorf("libvirtd of %s is %s, was %s", h.Name, process, processes[h])
			}
			if leaf == leaves[h] {
				t.Errorf("%s serves the old leaf %s", h.Name, leaf)
			}
			now := pictures[i].Load()
			until(t, "the console of "+h.Name+" goes on after the renewal", func() bool { return pictures[i].Load() > now+1 || t.Failed() })
		}
		close(stop)
		viewing.Wait()
		operator.Sh(t, c, "touch /run/go")
		until(t, "the open connection ends", func() bool { return strings.Contains(said(), "ended") })
		if text := said(); strings.Count(text, a.FQDN) != 2 || !strings.Contains(text, "ended 0") {
			t.Errorf("the open connection said:\n%s", text)
		}
		operator.Sh(t, a, "virsh -q migrate-setspeed slow 1000")
		until(t, "the migration ends", func() bool { return strings.Contains(operator.On(t, a, "cat /run/migrated").Stdout, "ended") })
		if text := operator.Sh(t, a, "cat /run/migrated"); strings.TrimSpace(text) != "ended 0" {
			t.Errorf("the migration said: %s", text)
		}
		operator.Sh(t, b, "virsh -q domstate slow | grep -q running && virsh -q destroy slow")
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

// refused: virsh ends well although QEMU answers with an error. The certificate
// is put back then.
func (s *site) refused(t *testing.T, h *lab.Host) {
	before := onDisk(t, h)
	operator.Sh(t, h, `cat >/usr/sbin/virsh <<'E'
#!/bin/sh
case "$*" in *'"display-reload"'*) echo '{"id":"libvirt-9","error":{"class":"GenericError","desc":"no such credentials"}}'; exit 0 ;; esac
exec /usr/bin/virsh "$@"
E
chmod 0755 /usr/sbin/virsh`)
	out := s.run(t, 3, "apply", "--yes", "--limit", h.Name, "--replace", "certificate.vnc")
	operator.Sh(t, h, "rm /usr/sbin/virsh")
	operator.Contains(t, out, "guest screen does not take the new certificate of its console", "no such credentials")
	if onDisk(t, h) != before {
		t.Errorf("%s: the certificate was not put back", h.Name)
	}
	operator.Contains(t, s.run(t, 0, "plan", "--limit", h.Name), "Nothing to do")
}

func create(t *testing.T, h *lab.Host, name string, port int) {
	t.Helper()
	operator.Sh(t, h, fmt.Sprintf("cat >/root/%s.xml <<'E'\n%s\nE\nvirsh -q create /root/%[1]s.xml", name, fmt.Sprintf(consoleGuest, name, port)))
}
