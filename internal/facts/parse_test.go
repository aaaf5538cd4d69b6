package facts

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const n0 = "00112233445566778899aabbccddeeff"

func fr(kind, arg, data string) string {
	return n0 + " " + kind + " " + itoa(len(data)) + " " + arg + "\n" + data + "\n"
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

func TestParse(t *testing.T) {
	out := "Welcome!\n" + fr("version", "", "1") + fr("uid", "", "0") + fr("clock", "", "1700000000") + fr("uptime", "", "100.50 3") +
		fr("sockets", "", "   0: 0100007F:4082 00000000:0000 0A 00\n   1: 00000000000000000000000000000000:4082 0000:0000 0A 00") +
		fr("packages", "dpkg", "installed libvirt-daemon 11.3.0-3+deb13u3\nnot-installed openssl ") +
		fr("units", "", "Id=libvirtd.service\nLoadState=loaded\nActiveState=active\nMainPID=42\nExecMainStartTimestampMonotonic=50500000\n\nId=libvirtd-tls.socket\nUnitFileState=disabled\nListen=[::]:16514 (Stream)") +
		fr("guests", "", "/run/libvirt/qemu/g1.xml:<domstatus state='running'\n/run/libvirt/qemu/g1.xml:async='migration out'\n/run/libvirt/qemu/g2.xml:async='none'") +
		fr("space", "", "10 4096 100 50 /etc\n1 4096 0 0 /run") +
		fr("stat", "", "81a4 0 0 3 1 2026-11-22 02:48:11.250000000 +0000 7 1 803 root root /etc/a\na1ff 0 0 1 1 2026-11-22 02:48:11 +0000 7 1 803 root root /etc/l") +
		fr("link", "/etc/l", "a") + fr("order", "", "/etc/a\n") + fr("content", "", "xyz") + fr("end", "", "")
	h, err := Parse(n0, []byte(out))
	if err != nil {
		t.Fatal(err)
	}
	if h.Login != "Welcome!\n" {
		t.Errorf("login noise %q", h.Login)
	}
	if got, _ := h.Content("/etc/l"); string(got) != "xyz" {
		t.Errorf("content through the link: %q", got)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:16514"), netip.MustParseAddrPort("[::]:16514")}
	if len(h.Listening) != 2 || h.Listening[0] != want[0] || h.Listening[1] != want[1] {
		t.Errorf("listening: %v", h.Listening)
	}
	if got := h.Path("/etc/a").CTime; !got.Equal(time.Date(2026, 11, 22, 2, 48, 11, 250e6, time.UTC)) {
		t.Errorf("changed at %v", got)
	}
	if h.Packages["libvirt-daemon"] != "11.3.0-3+deb13u3" || len(h.Packages) != 1 {
		t.Errorf("packages: %v", h.Packages)
	}
	u := h.Units["libvirtd.service"]
	if u.MainPID != 42 || u.Started != 50500*time.Millisecond {
		t.Errorf("unit: %+v", u)
	}
	if got := h.Since(u.Started); !got.Equal(time.Unix(1700000000-50, 0)) {
		t.Errorf("started at %v", got)
	}
	if b := h.Busy(); len(b) != 1 || b[0].Name != "g1" || b[0].Job != "migration out" {
		t.Errorf("busy: %v", b)
	}
	if h.Spaces["/etc"] != (Space{40960, 50}) || h.Spaces["/run"].Inodes != -1 {
		t.Errorf("spaces: %v", h.Spaces)
	}
}

// What the programs that are asked first print.
func TestParseOtherAnswers(t *testing.T) {
	out := fr("version", "", "1") +
		fr("sockets", "ss", "LISTEN 0      128          0.0.0.0:22         0.0.0.0:*\nLISTEN 0 4096 127.0.0.53%lo:53 0.0.0.0:*\nLISTEN 0 64 [fe80::1]%eth0:80 [::]:*\n"+
			"LISTEN 0 64 *:16514 *:*\nLISTEN 0 64 [::ffff:10.0.0.1]:443 *:*\nESTAB 0 0 10.0.0.1:22 10.0.0.2:999\nLISTEN 0 0 22 *\nState Recv-Q Send-Q Local Address:Port") +
		fr("packages", "status", "Package: libvirt-daemon\nStatus: install ok installed\nSource: libvirt\nVersion: 11.3.0-3+deb13u3\n--\nPackage: openssl\nStatus: deinstall ok config-files\nVersion: 3.5\n\nPackage: cut\nStatus: install ok installed") +
		fr("end", "", "")
	h, err := Parse(n0, []byte(out))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range h.Listening {
		got = append(got, l.String())
	}
	if want := "0.0.0.0:22 127.0.0.53:53 [fe80::1]:80 [::]:16514 10.0.0.1:443"; strings.Join(got, " ") != want {
		t.Errorf("listening: %q, want %q", got, want)
	}
	if h.Packages["libvirt-daemon"] != "11.3.0-3+deb13u3" || len(h.Packages) != 1 {
		t.Errorf("packages: %v", h.Packages)
	}
}

func TestParseBroken(t *testing.T) {
	whole := fr("version", "", "1") + fr("stat", "", "81a4 0 0 3 1 2026-11-22 02:48:11.250000000 +0000 7 1 803 root root /etc/a") + fr("order", "", "/etc/a\n") + fr("content", "", "xyz") + fr("end", "", "")
	if _, err := Parse(n0, []byte(whole)); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if i == len(whole) {
			continue
		}
		_, err := Parse(n0, []byte(whole[:i]))
		if !errors.Is(err, ErrNoScript) && !errors.Is(err, ErrTorn) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	grown := strings.Replace(whole, "xyz\n", "xyzw\n", 1)
	if _, err := Parse(n0, []byte(grown)); !errors.Is(err, ErrTorn) {
		t.Errorf("a file that grew: %v", err)
	}
	shrunk := strings.Replace(whole, "xyz\n", "xy\n", 1)
	if _, err := Parse(n0, []byte(shrunk)); !errors.Is(err, ErrTorn) {
		t.Errorf("a file that shrank: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fr("version", "", "1") + fr("stat", "", "81a4 0 0 3 1 2026-11-22 02:48:11.250000000 +0000 7 1 803 root root /etc/a") + fr("order", "", "/etc/a\n") + fr("content", "", "xyz") + fr("end", "", "")))
	f.Add([]byte(fr("version", "", "1") + fr("units", "", "Id=a\nMainPID=9999999999999999999") + fr("sockets", "", "0: 0100007F:4082 0:0 0A") + fr("end", "", "")))
	f.Add([]byte(fr("version", "", "1") + fr("sockets", "ss", "LISTEN 0 1 [::]:1 *:*") + fr("packages", "status", "Package: a\nStatus: x installed\nVersion: 1") + fr("end", "", "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := Parse(n0, b)
		if err != nil {
			return
		}
		for p := range h.Paths {
			h.Resolve(p)
			h.Content(p)
		}
		h.Busy()
	})
}
