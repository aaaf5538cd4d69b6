package tasks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/plan"
)

func kinds(ops plan.Ops) []string {
	var out []string
	for _, o := range ops {
		out = append(out, o.Kind()+" "+o.Subject())
	}
	return out
}

func codes(h plan.HostPlan) []string {
	var out []string
	for _, f := range h.Findings {
		out = append(out, f.Code)
	}
	slices.Sort(out)
	return out
}

func TestFreshHost(t *testing.T) {
	w := newWorld(t)
	inv, seen := w.host("kvm1"), w.seen()
	p := w.plan(inv, seen, Options{})
	want := []string{
		"make-dir /etc/pki", "make-dir /etc/pki/CA", "write-file /etc/pki/CA/cacert.pem",
		"make-dir /etc/pki/libvirt", "make-dir /etc/pki/libvirt/.virtrust", "make-dir /etc/pki/libvirt/.virtrust/client",
		"make-dir /etc/pki/libvirt/.virtrust/server", "make-dir /etc/pki/libvirt/private",
		"enrol /etc/pki/libvirt/.virtrust/server", "enrol /etc/pki/libvirt/.virtrust/client",
		"write-file /etc/libvirt/libvirtd.conf", "set-unit libvirtd-tls.socket", "activate libvirtd.service",
	}
	if got := kinds(p.Ops); !slices.Equal(got, want) {
		t.Errorf("operations:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(p.Findings) > 0 {
		t.Errorf("findings: %+v", p.Findings)
	}
	if p.Disrupts() != plan.DisruptRestart {
		t.Errorf("disrupts %s", p.Disrupts())
	}
}

// TestEmptyAfterApply asks of many starts: carried out once, is the plan
// empty, and does it stay so until the earliest renewal?
func TestEmptyAfterApply(t *testing.T) {
	starts := map[string]func(*world, *facts.Host){
		"fresh": func(*world, *facts.Host) {},
		"idle libvirtd": func(_ *world, h *facts.Host) {
			u := h.Units[libvirtdService]
			u.Active, u.MainPID = "inactive", 0
			h.Units[libvirtdService] = u
		},
		"directories exist": func(w *world, h *facts.Host) {
			for _, d := range []string{"/etc/pki", "/etc/pki/CA", "/etc/pki/libvirt", "/etc/pki/libvirt/private"} {
				w.dir(h, d)
			}
		},
		"foreign CA": func(w *world, h *facts.Host) {
			other := newWorld(w.t)
			w.dir(h, "/etc/pki")
			w.dir(h, "/etc/pki/CA")
			w.file(h, libvirtTrust, pki.RenderCerts(other.ca), 0o644)
		},
		"setting is there already": func(w *world, h *facts.Host) {
			w.file(h, libvirtdConf, []byte("listen_tcp = 0\n"), 0o644)
		},
		"pair of someone else": func(w *world, h *facts.Host) { w.foreignPair(h, 0o600) },
		"world-readable key":   func(w *world, h *facts.Host) { w.foreignPair(h, 0o644) },
		"--listen":             listenHost,
		"--listen, idle daemon": func(w *world, h *facts.Host) {
			listenHost(w, h)
			u := h.Units[libvirtdService]
			u.Active, u.File, u.MainPID = "inactive", "disabled", 0
			h.Units[libvirtdService] = u
		},
		"--listen, told in the file and not running so": func(w *world, h *facts.Host) {
			listenHost(w, h)
			w.file(h, "/etc/default/libvirtd", []byte("LIBVIRTD_ARGS=\"--listen\"\n"), 0o644)
		},
		"--listen, and switched off in libvirtd.conf": func(w *world, h *facts.Host) {
			listenHost(w, h)
			w.file(h, libvirtdConf, []byte("listen_tls = 0\nlisten_tcp = 1\ntls_port = \"4711\"\n"), 0o644)
		},
		"--listen, and a time-out": func(w *world, h *facts.Host) {
			listenHost(w, h)
			w.file(h, "/etc/default/libvirtd", []byte("LIBVIRTD_ARGS=\"--verbose --listen --timeout 120\"\n"), 0o644)
			h.Processes[100] = []string{"/usr/sbin/libvirtd", "--verbose", "--listen", "--timeout", "120"}
		},
		"modular": modularHost,
		"modular, virtproxyd runs": func(w *world, h *facts.Host) {
			modularHost(w, h)
			h.Units[virtproxydService] = facts.UnitInfo{Load: "loaded", Active: "active", File: "disabled", MainPID: 300, Invocation: "p1", Started: time.Minute}
		},
		"socket enabled, dead": func(_ *world, h *facts.Host) {
			u := h.Units[libvirtdTLSSocket]
			u.File = "enabled"
			h.Units[libvirtdTLSSocket] = u
		},
	}
	for name, start := range starts {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			inv, seen := w.host("kvm1"), w.seen()
			start(w, seen)
			p := w.plan(inv, seen, Options{})
			if p.Held() {
				t.Fatalf("held: %+v", p.Findings)
			}
			w.apply(seen, p.Ops)
			again := w.plan(inv, seen, Options{})
			if len(again.Ops) > 0 {
				t.Fatalf("after apply: %q, because %s", kinds(again.Ops), again.Ops[0].About().Reason)
			}
			w.now = again.Due.Add(-time.Second)
			seen.Clock = w.now
			if p := w.plan(inv, seen, Options{}); len(p.Ops) > 0 {
				t.Errorf("before the renewal is due: %q", kinds(p.Ops))
			}
			w.now = again.Due
			seen.Clock = w.now
			if p := w.plan(inv, seen, Options{}); !slices.ContainsFunc(p.Ops, func(o plan.Op) bool { return o.Kind() == "enrol" }) {
				t.Error("nothing is renewed when it is due")
			}
		})
	}
}

// listenHost masks libvirtd's socket units, as CloudStack's agent and oVirt do.
func listenHost(_ *world, h *facts.Host) {
	for _, s := range []string{libvirtdSocket, libvirtdTLSSocket, libvirtdTCPSocket} {
		h.Units[s] = facts.UnitInfo{Load: "masked", Active: "inactive", File: "masked"}
	}
}

// modularHost is a host as EL 9 has it.
func modularHost(w *world, h *facts.Host) {
	for u := range h.Units {
		h.Units[u] = facts.UnitInfo{Load: "masked", Active: "inactive", File: "masked"}
	}
	h.Units[virtqemudService] = facts.UnitInfo{Load: "loaded", Active: "active", File: "enabled", MainPID: 200, Invocation: "q1", Started: time.Minute}
	h.Units[virtqemudSocket] = facts.UnitInfo{Load: "loaded", Active: "active", File: "enabled"}
	h.Units[virtproxydService] = facts.UnitInfo{Load: "loaded", Active: "inactive", File: "disabled"}
	h.Units[virtproxydSocket] = facts.UnitInfo{Load: "loaded", Active: "active", File: "enabled"}
	h.Units[virtproxydTLS] = facts.UnitInfo{Load: "loaded", Active: "inactive", File: "disabled", Listen: []string{"[::]:16514 (Stream)"}}
	h.Units[virtproxydTCP] = facts.UnitInfo{Load: "loaded", Active: "inactive", File: "disabled"}
	delete(h.Paths, libvirtdConf)
	w.file(h, virtproxydConf, []byte("#listen_tcp = 1\n"), 0o644)
}

// foreignPair lays down a server pair as regular files of another authority.
func (w *world) foreignPair(h *facts.Host, mode uint32) {
	other := newWorld(w.t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	leaf := other.sign(pki.Profile{Name: "x", CommonName: "x", DNSNames: []string{"kvm1.example.test"}, Usages: []pki.Usage{pki.UsageServer}, Lifetime: time.Hour * 24 * 30}, key, w.now)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range []string{"/etc/pki", "/etc/pki/libvirt", "/etc/pki/libvirt/private"} {
		w.dir(h, d)
	}
	w.file(h, "/etc/pki/libvirt/servercert.pem", pki.RenderCerts(leaf), 0o644)
	w.file(h, "/etc/pki/libvirt/private/serverkey.pem", nil, mode)
	h.Keys["/etc/pki/libvirt/private/serverkey.pem"] = der
}

func TestAdoption(t *testing.T) {
	w := newWorld(t)
	inv, seen := w.host("kvm1"), w.seen()
	w.foreignPair(seen, 0o600)
	p := w.plan(inv, seen, Options{})
	i := slices.IndexFunc(p.Ops, func(o plan.Op) bool { return o.Subject() == "/etc/pki/libvirt/.virtrust/server" && o.Kind() == "enrol" })
	if i < 0 {
		t.Fatal("no enrolment")
	}
	e := p.Ops[i].(plan.Enrol)
	if e.Adopt == nil || e.Old == nil || len(e.Links) != 2 {
		t.Errorf("the pair is not taken over: %+v", e)
	}
}

func TestReasons(t *testing.T) {
	const server = "/etc/pki/libvirt/.virtrust/server"
	tests := map[string]struct {
		change func(w *world, h *facts.Host, o *Options)
		want   string // begin of the reason of the server certificate
		ops    int
	}{
		"asked for":      {func(_ *world, _ *facts.Host, o *Options) { o.Replace = []string{"certificate.libvirt-server"} }, "asked for", 2},
		"new generation": {func(w *world, _ *facts.Host, _ *Options) { w.addGeneration(2) }, "generation 1 of authority libvirt, which signed it, is draining", 4},
		"key readable": {func(_ *world, h *facts.Host, _ *Options) {
			p := "/etc/pki/libvirt/private/../.virtrust/server/current/key.pem"
			f := h.Paths[p]
			f.Mode = 0o640
			h.Paths[p] = f
		}, "others could read the key (mode 0640)", 2},
		"key of someone else": {func(_ *world, h *facts.Host, _ *Options) {
			h.Keys["/etc/pki/libvirt/private/../.virtrust/server/current/key.pem"] = []byte("x")
		}, "the key does not belong to the certificate", 2},
		"link replaced": {func(w *world, h *facts.Host, _ *Options) {
			content, _ := h.Content("/etc/pki/libvirt/servercert.pem")
			w.file(h, "/etc/pki/libvirt/servercert.pem", content, 0o644)
		}, "drift: /etc/pki/libvirt/servercert.pem is not the link", 2},
		"certificate gone": {func(_ *world, h *facts.Host, _ *Options) { delete(h.Paths, "/etc/pki/libvirt/servercert.pem") }, "new", 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			inv, seen := w.host("kvm1"), w.seen()
			w.apply(seen, w.plan(inv, seen, Options{}).Ops)
			var o Options
			test.change(w, seen, &o)
			p := w.plan(inv, seen, o)
			i := slices.IndexFunc(p.Ops, func(o plan.Op) bool { return o.Kind() == "enrol" && o.Subject() == server })
			if i < 0 {
				t.Fatalf("no new certificate: %q %v", kinds(p.Ops), codes(p))
			}
			if got := p.Ops[i].About().Reason; !strings.HasPrefix(got, test.want) {
				t.Errorf("reason %q, want %q", got, test.want)
			}
			if len(p.Ops) < test.ops {
				t.Errorf("%d operations: %q", len(p.Ops), kinds(p.Ops))
			}
			if p.Disrupts() != plan.DisruptReload {
				t.Errorf("disrupts %s: a renewal restarts nothing", p.Disrupts())
			}
		})
	}
}

func TestActivationIsSeen(t *testing.T) {
	w := newWorld(t)
	inv, seen := w.host("kvm1"), w.seen()
	w.apply(seen, w.plan(inv, seen, Options{}).Ops)
	t.Run("another leaf is served", func(t *testing.T) {
		other := newWorld(t)
		seen.Served[servedAt(16514)] = facts.Served{Chain: [][]byte{other.ca.Raw}}
		p := w.plan(inv, seen, Options{})
		if got := kinds(p.Ops); !slices.Equal(got, []string{"activate libvirtd.service"}) {
			t.Errorf("operations %q", got)
		}
		w.serve(seen)
	})
	t.Run("bundle not read", func(t *testing.T) {
		delete(seen.Paths, loadedFile)
		f := seen.Paths[libvirtTrust]
		f.CTime = w.now.Add(time.Minute)
		seen.Paths[libvirtTrust] = f
		p := w.plan(inv, seen, Options{})
		if got := kinds(p.Ops); !slices.Contains(got, "activate libvirtd.service") {
			t.Errorf("operations %q", got)
		}
	})
	t.Run("a daemon that stopped reads what lies there", func(t *testing.T) {
		u := seen.Units[libvirtdService]
		u.MainPID, u.Active = 0, "inactive"
		seen.Units[libvirtdService] = u
		if p := w.plan(inv, seen, Options{}); len(p.Ops) > 0 {
			t.Errorf("operations %q", kinds(p.Ops))
		}
	})
}

func TestFindings(t *testing.T) {
	tests := map[string]struct {
		change func(w *world, h *facts.Host)
		code   string
		holds  bool
	}{
		"not root":            {func(_ *world, h *facts.Host) { h.UID = 1000 }, "not-root", true},
		"no systemd":          {func(_ *world, h *facts.Host) { h.Init = "init" }, "no-systemd", true},
		"no flock":            {func(_ *world, h *facts.Host) { delete(h.Tools, "flock") }, "missing-program", true},
		"no openssl":          {func(_ *world, h *facts.Host) { delete(h.Tools, "openssl") }, "missing-program", true},
		"read-only":           {func(_ *world, h *facts.Host) { h.ReadOnly = []string{"/etc"} }, "read-only", true},
		"no space":            {func(_ *world, h *facts.Host) { h.Spaces["/etc"] = facts.Space{Bytes: 1000, Inodes: 1000} }, "no-space", true},
		"no inodes":           {func(_ *world, h *facts.Host) { h.Spaces["/var/lib"] = facts.Space{Bytes: 1 << 30, Inodes: 3} }, "no-inodes", true},
		"clock far off":       {func(_ *world, h *facts.Host) { h.Skew = time.Hour }, "clock", true},
		"clock a little off":  {func(_ *world, h *facts.Host) { h.Skew = -2 * time.Minute }, "clock", false},
		"cert is a directory": {func(w *world, h *facts.Host) { w.dir(h, "/etc/pki/libvirt/servercert.pem") }, "in-the-way", true},
		"bundle is a FIFO":    {func(_ *world, h *facts.Host) { h.Paths[libvirtTrust] = facts.Path{Type: facts.Other} }, "in-the-way", true},
		"directory of others": {func(w *world, h *facts.Host) {
			w.dir(h, "/etc/pki")
			f := h.Paths["/etc/pki"]
			f.Mode = 0o777
			h.Paths["/etc/pki"] = f
		}, "directory-writable", true},
		"no configuration file": {func(_ *world, h *facts.Host) { delete(h.Paths, libvirtdConf) }, "settings-missing", true},
		"broken configuration":  {func(w *world, h *facts.Host) { w.file(h, libvirtdConf, []byte("a = [\n"), 0o644) }, "settings-unreadable", true},
		"own certificate paths": {func(w *world, h *facts.Host) {
			w.file(h, libvirtdConf, []byte("ca_file = \"/root/ca.pem\"\ncert_file = \"/root/c.pem\"\nkey_file = \"/root/k.pem\"\n"), 0o644)
		}, "other-paths", true},
		"no libvirt":           {func(_ *world, h *facts.Host) { h.Units[libvirtdService] = facts.UnitInfo{Load: "not-found"} }, "no-libvirt", true},
		"--listen and sockets": {func(_ *world, h *facts.Host) { h.Processes[100] = []string{"libvirtd", "--listen"} }, "listen-with-sockets", true},
		"--listen in the file and sockets": {func(w *world, h *facts.Host) {
			w.file(h, "/etc/default/libvirtd", []byte("LIBVIRTD_ARGS=--listen\n"), 0o644)
		}, "listen-with-sockets", true},
		"masked sockets, no file of arguments": {func(w *world, h *facts.Host) {
			listenHost(w, h)
			u := h.Units[libvirtdService]
			u.EnvironmentFiles = nil
			h.Units[libvirtdService] = u
		}, "no-arguments-file", true},
		"arguments with quotes": {func(w *world, h *facts.Host) {
			listenHost(w, h)
			w.file(h, "/etc/default/libvirtd", []byte("LIBVIRTD_ARGS=\"--config \\\"/etc/a b\\\"\"\n"), 0o644)
		}, "arguments-unreadable", true},
		"modular without virtproxyd": {func(w *world, h *facts.Host) {
			modularHost(w, h)
			delete(h.Units, virtproxydService)
		}, "no-libvirt", true},
		"virtproxyd without sockets": {func(w *world, h *facts.Host) {
			modularHost(w, h)
			h.Units[virtproxydSocket] = facts.UnitInfo{Load: "masked", File: "masked"}
		}, "layout-not-supported", true},
		"modular, plain listener": {func(w *world, h *facts.Host) {
			modularHost(w, h)
			h.Units[virtproxydTCP] = facts.UnitInfo{Load: "loaded", Active: "active"}
		}, "plain-listener", false},
		"plain listener": {func(_ *world, h *facts.Host) {
			h.Units[libvirtdTCPSocket] = facts.UnitInfo{Load: "loaded", Active: "active"}
		}, "plain-listener", false},
		"foreign CA": {func(w *world, h *facts.Host) {
			w.file(h, libvirtTrust, pki.RenderCerts(newWorld(w.t).ca), 0o644)
		}, "foreign-ca", false},
		"expired foreign CA": {func(w *world, h *facts.Host) {
			other := newWorld(w.t)
			other.now = w.now.Add(-20 * 365 * 24 * time.Hour)
			other.addGeneration(2)
			w.file(h, libvirtTrust, pki.RenderCerts(other.ca), 0o644)
		}, "ca-expired", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			inv, seen := w.host("kvm1"), w.seen()
			test.change(w, seen)
			p := w.plan(inv, seen, Options{})
			i := slices.IndexFunc(p.Findings, func(f plan.Finding) bool { return f.Code == test.code })
			if i < 0 {
				t.Fatalf("findings %v, want %s", codes(p), test.code)
			}
			f := p.Findings[i]
			if f.Holds != test.holds || p.Changes() == test.holds {
				t.Errorf("holds %v, changes %v", f.Holds, p.Changes())
			}
			if f.Text == "" || strings.Contains(f.Text, "%!") {
				t.Errorf("text %q", f.Text)
			}
		})
	}
}

// TestOneHostOnly: nothing in an operation of a host derives from what
// another said.
func TestOneHostOnly(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("kvm1"), w.host("kvm2")
	others := []*facts.Host{w.seen(), w.seen(), w.seen()}
	w.foreignPair(others[1], 0o644)
	others[2].Packages["libvirt-daemon"] = "9.0.0"
	others[2].Hostname = "kvm1"
	var first string
	for i, o := range others {
		seen := w.seen()
		o.MachineID = fmt.Sprint(i)
		parts := []plan.HostPlan{w.plan(a, seen, Options{}), w.plan(b, o, Options{})}
		p := plan.Make("test", "", w.trust, parts, Rules(), w.now)
		raw, err := json.Marshal(p.Hosts[0].Ops)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = string(raw)
		} else if string(raw) != first {
			t.Errorf("the operations of kvm1 depend on kvm2:\n%s\n%s", first, raw)
		}
	}
}

func TestSameMachine(t *testing.T) {
	w := newWorld(t)
	parts := []plan.HostPlan{w.plan(w.host("kvm1"), w.seen(), Options{}), w.plan(w.host("kvm2"), w.seen(), Options{})}
	p := plan.Make("test", "", w.trust, parts, Rules(), w.now)
	for _, h := range p.Hosts {
		if !h.Held() || !slices.Contains(codes(h), "same-machine") {
			t.Errorf("%s is not held: %v", h.Host, codes(h))
		}
	}
}

func TestMoved(t *testing.T) {
	tests := map[string]func(*world, *facts.Host){
		"content":     func(w *world, h *facts.Host) { w.file(h, libvirtdConf, []byte("x = 1\n"), 0o644) },
		"mode":        func(w *world, h *facts.Host) { f := h.Paths[libvirtdConf]; f.Mode = 0o600; h.Paths[libvirtdConf] = f },
		"owner":       func(w *world, h *facts.Host) { f := h.Paths[libvirtdConf]; f.Owner = "x"; h.Paths[libvirtdConf] = f },
		"gone":        func(w *world, h *facts.Host) { delete(h.Paths, libvirtdConf) },
		"added file":  func(w *world, h *facts.Host) { w.file(h, libvirtTrust, []byte("x"), 0o644) },
		"added link":  func(w *world, h *facts.Host) { w.link(h, "/etc/pki/libvirt/servercert.pem", "x") },
		"added dir":   func(w *world, h *facts.Host) { w.dir(h, "/etc/pki") },
		"machine":     func(_ *world, h *facts.Host) { h.MachineID = "other" },
		"host key":    func(_ *world, h *facts.Host) { h.HostKey = "SHA256:other" },
		"generation":  func(w *world, h *facts.Host) { w.dir(h, "/etc/pki/libvirt/.virtrust/server/1") },
		"current set": func(w *world, h *facts.Host) { w.link(h, "/etc/pki/libvirt/.virtrust/server/current", "7") },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			seen := w.seen()
			p := w.plan(w.host("kvm1"), seen, Options{})
			if moved := plan.Moved(&p, seen); len(moved) > 0 {
				t.Fatalf("moved before anything changed: %q", moved)
			}
			change(w, seen)
			if moved := plan.Moved(&p, seen); len(moved) != 1 {
				t.Errorf("moved: %q", moved)
			}
		})
	}
}

func TestPlanJSON(t *testing.T) {
	w := newWorld(t)
	seen := w.seen()
	w.foreignPair(seen, 0o600)
	p := plan.Make("test", "digest", w.trust, []plan.HostPlan{w.plan(w.host("kvm1"), seen, Options{})}, Rules(), w.now)
	var out strings.Builder
	if err := p.Write(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "PRIVATE") || strings.Contains(out.String(), "libvirt's own file") {
		t.Error("the plan holds a key or a host's whole configuration")
	}
	back, err := plan.ReadPlan(strings.NewReader(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	var again strings.Builder
	if err := back.Write(&again); err != nil {
		t.Fatal(err)
	}
	if again.String() != out.String() {
		t.Error("a plan that was read and written again differs")
	}
	for _, bad := range []string{"", "{}", out.String() + "x", strings.Replace(out.String(), `"format": 1`, `"format": 2`, 1),
		strings.Replace(out.String(), `"kind": "make-dir"`, `"kind": "run-command"`, 1), strings.Replace(out.String(), `"kind": "make-dir"`, `"kind": "make-dir", "key": "x"`, 1)} {
		if bad == out.String() {
			t.Fatal("the test changed nothing")
		}
		if _, err := plan.ReadPlan(strings.NewReader(bad)); err == nil {
			t.Errorf("read: %.60q", bad)
		}
	}
}

// Where there is no service that reads the settings, none is restarted: a
// policy of files alone needs no systemd.
func TestSettingsWithoutService(t *testing.T) {
	for name, u := range map[string]facts.UnitInfo{"no systemd": {}, "not installed": {Load: "not-found", Active: "inactive"}} {
		w := newWorld(t)
		inv, seen := w.host("kvm1"), w.seen()
		inv.Policy.Listeners, inv.Policy.Firewall = nil, nil
		seen.Units = map[string]facts.UnitInfo{libvirtdService: u}
		got := kinds(w.plan(inv, seen, Options{}).Ops)
		if !slices.Contains(got, "write-file "+libvirtdConf) || slices.Contains(got, "activate "+libvirtdService) {
			t.Errorf("%s: %s", name, strings.Join(got, "\n"))
		}
	}
}
