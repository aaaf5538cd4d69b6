package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTwoHosts(t *testing.T) {
	l, hosts := start(t, HostSpec{}, HostSpec{})
	ctx := t.Context()
	if len(nspawnLocks(t, l.ID)) == 0 {
		t.Error("the search for locks of systemd-nspawn finds none of a running lab")
	}
	own, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(own, []byte("mgmt:")) {
		t.Error("the lab's bridge is in the machine's own network")
	}
	ids := map[string]bool{}
	for i, h := range hosts {
		other := hosts[1-i]
		for _, address := range []string{h.FQDN, h.Addresses.Management4.String(), h.Addresses.Management6.String(), h.Name + "-mig." + Domain} {
			c, err := login(t, l, "root", net.JoinHostPort(address, "22"))
			if err != nil {
				t.Fatalf("ssh %s: %v", address, err)
			}
			if got := output(t, c, "hostname -f"); got != h.FQDN {
				t.Errorf("ssh %s: hostname -f is %q", address, got)
			}
		}
		if got := must(t)(h.Run(ctx, "virsh", "-c", "qemu:///system", "uri")); got != "qemu:///system" {
			t.Errorf("%s: virsh uri: %q", h.Name, got)
		}
		if got := must(t)(h.Script(ctx, "systemctl is-active libvirtd.socket; systemctl is-active libvirtd-tls.socket || true")); got != "active\ninactive" {
			t.Errorf("%s: libvirtd.socket and libvirtd-tls.socket are %q", h.Name, got)
		}
		if units, err := h.FailedUnits(ctx); err != nil || len(units) > 0 {
			t.Errorf("%s: failed units %q, %v", h.Name, units, err)
		}
		for _, address := range append(other.Addresses.list(), other.FQDN, other.Name+"-mig."+Domain, ControllerName) {
			must(t)(h.Run(ctx, "ping", "-c1", "-W2", address))
		}
		uuid := must(t)(h.Script(ctx, `virsh -c qemu:///system capabilities | sed -n 's/.*<uuid>\(.*\)<.*/\1/p'`))
		id := must(t)(h.Run(ctx, "cat", "/etc/machine-id"))
		if len(id) != 32 || ids[id] || ids[uuid] || uuid == "" {
			t.Errorf("%s: machine-id %q, libvirt's UUID %q, seen before: %v", h.Name, id, uuid, ids)
		}
		ids[id], ids[uuid] = true, true
	}
	out, err := l.Command(ctx, "ssh", "-o", "UserKnownHostsFile="+l.KnownHosts(), "-o", "StrictHostKeyChecking=yes",
		"-o", "BatchMode=yes", "-i", l.IdentityFile(), "root@kvm2.example.test", "hostname").CombinedOutput()
	if strings.TrimSpace(string(out)) != "kvm2" || err != nil {
		t.Errorf("ssh in the controller namespace: %v: %s", err, out)
	}
	if r, err := hosts[0].Run(ctx, "sh", "-c", "echo out; echo err >&2; exit 7"); err != nil || r != (Result{"out\n", "err\n", 7}) {
		t.Errorf("Run: %+v, %v", r, err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := hosts[0].Run(short, "sh", "-c", "sleep 31337 & wait"); err == nil {
		t.Error("a command outlived its deadline")
	}
	if got, _ := hosts[0].Run(ctx, "pgrep", "-f", "sleep 31337"); got.Code != 1 {
		t.Errorf("after the deadline: %+v", got)
	}
	listener, err := l.Listen(ctx, "tcp", ControllerAddresses.Management4.String()+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if c, err := listener.Accept(); err == nil {
			c.Write([]byte("hello\n"))
			c.Close()
		}
	}()
	if got := must(t)(hosts[0].Run(ctx, "bash", "-c", "cat </dev/tcp/"+ControllerName+"/8080")); got != "hello" {
		t.Errorf("a host read %q from this process", got)
	}
	third, err := l.Start(ctx, HostSpec{Files: map[string]File{"/etc/lab/added": {Mode: 0o640, Content: []byte("x")}}})
	if err != nil {
		t.Fatal(err)
	}
	must(t)(hosts[0].Run(ctx, "ping", "-c1", "-W2", third[0].FQDN))
	if got := must(t)(third[0].Run(ctx, "stat", "-c", "%a %U %s", "/etc/lab/added")); got != "640 root 1" {
		t.Errorf("the added file: %s", got)
	}
}

// A guest migrates, and the capture tells that it did so in plain text.
func TestMigrationIsSeen(t *testing.T) {
	l, hosts := start(t, HostSpec{}, HostSpec{})
	ctx := t.Context()
	must(t)(hosts[1].Script(ctx, `echo 'auth_tcp = "none"' >>/etc/libvirt/libvirtd.conf
systemctl stop libvirtd.service && systemctl start libvirtd-tcp.socket && systemctl start libvirtd.service`))
	guest := `<domain type="qemu"><name>guest</name><memory unit="MiB">64</memory><os><type arch="x86_64">hvm</type></os></domain>`
	if err := hosts[0].WriteFile(ctx, "/root/guest.xml", []byte(guest), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t)(hosts[0].Run(ctx, "virsh", "-c", "qemu:///system", "create", "/root/guest.xml"))
	file := filepath.Join(t.TempDir(), "mig.pcap")
	capture, err := l.Capture(ctx, Migration, "tcp", file)
	if err != nil {
		t.Fatal(err)
	}
	must(t)(hosts[0].Run(ctx, "virsh", "-c", "qemu:///system", "migrate", "--live", "guest", "qemu+tcp://kvm2.example.test/system", "tcp://kvm2-mig.example.test"))
	if err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := must(t)(hosts[1].Run(ctx, "virsh", "-c", "qemu:///system", "domstate", "guest")); got != "running" {
		t.Errorf("the guest is %q on its new host", got)
	}
	packets, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(packets) < 24 || binary.LittleEndian.Uint32(packets) != 0xa1b2c3d4 || !bytes.Contains(packets, []byte("QEVM")) {
		t.Errorf("a capture of %d bytes has no QEVM", len(packets))
	}
}

func TestAddresses(t *testing.T) {
	for last, want := range map[int]string{1: "fd00:77::1", 11: "fd00:77::11", 105: "fd00:77::105", 250: "fd00:77::250"} {
		a := addressesOf(last)
		if a.Management6.String() != want || a.Migration4.String() != "10.78.0."+strconv.Itoa(last) {
			t.Errorf("%d: %v", last, a.list())
		}
	}
}
