package tasks

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/facts"
)

const elPasswd = "root:x:0:0:root:/root:/bin/bash\nqemu:x:107:107:qemu user:/:/sbin/nologin\n"
const elGroup = "root:x:0:\nkvm:x:36:qemu\nqemu:x:107:\n"

// recorded reads a file of facts: parts that begin with "-- KIND ARGUMENT", as
// the script on the host answers them, and files of the host.
func (w *world) recorded(name string) *facts.Host {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "layouts", name+".txt"))
	if err != nil {
		w.t.Fatal(err)
	}
	const nonce = "0123456789abcdef0123456789abcdef"
	var out strings.Builder
	frame := func(kind, arg, body string) {
		fmt.Fprintf(&out, "%s %s %d %s\n%s\n", nonce, kind, len(body), arg, body)
	}
	frame("version", "", fmt.Sprint(facts.Version))
	files := map[string]string{}
	for _, part := range strings.Split("\n"+string(text), "\n-- ")[1:] {
		head, body, _ := strings.Cut(part, "\n")
		kind, arg, _ := strings.Cut(head, " ")
		if kind == "file" {
			files[arg] = body + "\n"
			continue
		}
		frame(kind, arg, strings.TrimRight(body, "\n"))
	}
	frame("end", "", "")
	said, err := facts.Parse(nonce, []byte(out.String()))
	if err != nil {
		w.t.Fatal(err)
	}
	h := w.seen()
	h.Units, h.Processes, h.Packages = said.Units, said.Processes, said.Packages
	w.dir(h, "/etc/sysconfig")
	for p, content := range files {
		w.file(h, p, []byte(content), 0o644)
	}
	return h
}

// The distributions' ways, from facts as their hosts answer.
func TestLayouts(t *testing.T) {
	for _, c := range []struct {
		name     string
		kind     layoutKind
		listener string
		file     string // with the arguments of the listener's service
		variable string
		libvirt  string // beginning of the version
		el       bool
		ops      []string // beside certificates and bundles
	}{
		{"ubuntu-24.04", bySockets, libvirtdService, "/etc/default/libvirtd", "LIBVIRTD_ARGS", "10.0.0", false,
			[]string{"write-file /etc/libvirt/libvirtd.conf", "set-unit libvirtd-tls.socket", "activate libvirtd.service"}},
		{"ubuntu-20.04-listen", byListen, libvirtdService, "/etc/default/libvirtd", "libvirtd_opts", "6.6.0", false,
			[]string{"write-file /etc/libvirt/libvirtd.conf", "write-file /etc/default/libvirtd", "activate libvirtd.service"}},
		{"el-8-listen", byListen, libvirtdService, "/etc/sysconfig/libvirtd", "LIBVIRTD_ARGS", "8.0.0", true,
			[]string{"write-file /etc/libvirt/libvirtd.conf", "write-file /etc/sysconfig/libvirtd", "activate libvirtd.service"}},
		{"el-9", modular, virtproxydService, "/etc/sysconfig/virtproxyd", "VIRTPROXYD_ARGS", "10.10.0", true,
			[]string{"write-file /etc/libvirt/virtproxyd.conf", "set-unit virtproxyd-tls.socket", "activate virtproxyd.service"}},
		{"el-9-upgraded", bySockets, libvirtdService, "/etc/sysconfig/libvirtd", "LIBVIRTD_ARGS", "9.5.0", true,
			[]string{"write-file /etc/libvirt/libvirtd.conf", "set-unit libvirtd-tls.socket", "activate libvirtd.service"}},
		{"suse", modular, virtproxydService, "/etc/sysconfig/virtproxyd", "VIRTPROXYD_ARGS", "10.0.0", true,
			[]string{"write-file /etc/libvirt/virtproxyd.conf", "set-unit virtproxyd-tls.socket", "activate virtproxyd.service"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			inv, h := w.host("kvm1"), w.recorded(c.name)
			if c.el {
				w.qemuSeen(h, "", elPasswd, elGroup, 107, 107)
				if a, why := qemuAccount(h); why != "" || a.keyAccess() != (access{"root", "qemu", 0o640}) {
					t.Errorf("QEMU's key is for %v, %s", a.keyAccess(), why)
				}
			}
			if c.kind == modular {
				delete(h.Paths, libvirtdConf)
				w.file(h, virtproxydConf, []byte("#listen_tcp = 1\n"), 0o644)
			}
			l := layoutOf(h)
			file, name, ok := variableOf(h, c.listener)
			if l.kind != c.kind || l.listener != c.listener || !ok || file != c.file || name != c.variable {
				t.Errorf("%s, %s, %s in %s", l.kind, l.listener, name, file)
			}
			if v := libvirtVersion(h); !strings.HasPrefix(v, c.libvirt) {
				t.Errorf("libvirt %q", v)
			}
			p := w.plan(inv, h, Options{})
			if p.Held() {
				t.Fatalf("held: %+v", p.Findings)
			}
			var ops []string
			for _, o := range kinds(p.Ops) {
				if !strings.Contains(o, "/etc/pki") {
					ops = append(ops, o)
				}
			}
			if !slices.Equal(ops, c.ops) {
				t.Errorf("operations %q, want %q", ops, c.ops)
			}
			w.apply(h, p.Ops)
			if again := w.plan(inv, h, Options{}); len(again.Ops) > 0 {
				t.Errorf("after apply: %q, because %s", kinds(again.Ops), again.Ops[0].About().Reason)
			}
			if c.kind == byListen {
				value, _, _ := environmentValue(h, c.file, c.variable)
				if value != "--listen" || !runsListening(h) {
					t.Errorf("%s has %s = %q, libvirtd runs with %q", c.file, c.variable, value, h.Processes[h.Units[libvirtdService].MainPID])
				}
			}
		})
	}
}
