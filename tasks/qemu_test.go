package tasks

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

const (
	debianPasswd = "root:x:0:0:root:/root:/bin/bash\nsync:x:4:65534::/bin:/bin/sync\nlibvirt-qemu:x:64055:991::/var/lib/libvirt:/usr/sbin/nologin\nkate:x:1000:1000::/home/kate:/bin/sh\n"
	debianGroup  = "root:x:0:\nkvm:x:991:\nlibvirt-qemu:x:64055:libvirt-qemu\nkate:x:1000:\n"
)

// qemuSeen gives a host QEMU's account and configuration.
func (w *world) qemuSeen(h *facts.Host, conf, passwd, group string, uid, gid int) {
	w.file(h, qemuConf, []byte(conf), 0o600)
	f := h.Paths[qemuConf]
	f.CTime = w.now.Add(-24 * time.Hour)
	h.Paths[qemuConf] = f
	w.file(h, passwdFile, []byte(passwd), 0o644)
	w.file(h, groupFile, []byte(group), 0o644)
	h.Paths[qemuState] = facts.Path{Type: facts.Directory, Mode: 0o751, UID: uid, GID: gid, CTime: w.now}
	h.Packages["qemu-system-x86"] = "1:10.0.13+ds-0+deb13u1"
}

func TestAccount(t *testing.T) {
	member := strings.Replace(debianGroup, "kvm:x:991:", "kvm:x:991:kate", 1)
	primary := strings.Replace(debianPasswd, "kate:x:1000:1000", "kate:x:1000:991", 1)
	cases := []struct {
		name                string
		conf, passwd, group string
		uid, gid            int
		want                access
		why                 string // part of what is said when there is no account
	}{
		{"as Debian 13 has it", "", debianPasswd, debianGroup, 64055, 64055, access{"root", "libvirt-qemu", 0o640}, ""},
		{"group kvm without other members", "", debianPasswd, debianGroup, 64055, 991, access{"root", "kvm", 0o640}, ""},
		{"a member of kvm", "", debianPasswd, member, 64055, 991, access{"libvirt-qemu", "kvm", 0o400}, ""},
		{"kvm is somebody's own group", "", primary, debianGroup, 64055, 991, access{"libvirt-qemu", "kvm", 0o400}, ""},
		{"set in qemu.conf", "user = \"kate\"\ngroup = \"kate\"\n", debianPasswd, debianGroup, 64055, 64055, access{"root", "kate", 0o640}, ""},
		{"the first assignment wins", "user = \"kate\"\nuser = \"root\"\n", debianPasswd, debianGroup, 64055, 64055, access{"kate", "libvirt-qemu", 0o400}, ""},
		{"numbers", "user = \"+1000\"\ngroup = \"1000\"\n", debianPasswd, debianGroup, 64055, 64055, access{"root", "kate", 0o640}, ""},
		{"a number without a name", "user = \"+77\"\ngroup = \"+88\"\n", debianPasswd, debianGroup, 64055, 64055, access{"77", "88", 0o400}, ""},
		{"root", "user = \"root\"\ngroup = \"root\"\n", debianPasswd, debianGroup, 64055, 64055, access{"root", "root", 0o640}, ""},
		{"a name that is not there", "user = \"qemu\"\n", debianPasswd, debianGroup, 64055, 64055, access{}, `user = "qemu"`},
		{"no files were shown", "", "", "", 64055, 991, access{"64055", "991", 0o400}, ""},
	}
	w := newWorld(t)
	for _, c := range cases {
		h := w.seen()
		w.qemuSeen(h, c.conf, c.passwd, c.group, c.uid, c.gid)
		a, why := qemuAccount(h)
		if c.why != "" {
			if !strings.Contains(why, c.why) {
				t.Errorf("%s: %q", c.name, why)
			}
			continue
		}
		if got := a.keyAccess(); why != "" || got != c.want {
			t.Errorf("%s: %v %q, want %v", c.name, got, why, c.want)
		}
	}
	if _, why := qemuAccount(w.seen()); why == "" {
		t.Error("a host without libvirt's QEMU driver has an account")
	}
}

func TestExposed(t *testing.T) {
	alone := account{uid: 64055, gid: 991, user: "libvirt-qemu", group: "kvm"}
	shared := alone
	shared.others = []string{"kate"}
	cases := []struct {
		a        account
		uid, gid int
		mode     uint32
		want     string // part of it; empty: right
	}{
		{alone, 0, 991, 0o640, ""},
		{alone, 0, 991, 0o440, ""},
		{alone, 64055, 991, 0o400, ""},
		{alone, 64055, 0, 0o600, ""},
		{shared, 64055, 991, 0o400, ""},
		{shared, 0, 991, 0o640, "has other members: kate"},
		{alone, 0, 991, 0o644, "everyone"},
		{alone, 0, 991, 0o660, "could change"},
		{alone, 0, 1000, 0o640, "could read the key"},
		{alone, 1000, 991, 0o640, "QEMU runs as"},
		{alone, 0, 0, 0o600, "cannot read the key"},
		{alone, 64055, 991, 0o040, ""},
	}
	for _, c := range cases {
		got := c.a.exposed(facts.Path{Type: facts.Regular, UID: c.uid, GID: c.gid, Mode: c.mode, Owner: "o", Group: "g"})
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%d:%d %04o: %q, want %q", c.uid, c.gid, c.mode, got, c.want)
		}
	}
}

// qemuHost is a host with QEMU's identity, of a cluster with others.
func (w *world) qemuHost(name string, m inventory.Migration) *inventory.Host {
	h := w.host(name)
	h.Cluster, h.Migration = "rack1", m
	c := h.Policy.Certificates[0]
	c.Name, c.Authority, c.Usages, c.NeededFor = "qemu", "qemu", []string{"client", "server"}, "migration"
	c.Install = inventory.Install{Directory: qemuDir, Cert: "server-cert.pem", Key: "server-key.pem", Owner: inventory.QEMUAccount,
		Aliases: []inventory.Alias{{Cert: "client-cert.pem", Key: "client-key.pem"}}}
	h.Policy.Certificates = append(h.Policy.Certificates, c)
	h.Policy.Trusts = append(h.Policy.Trusts, inventory.TrustFile{Path: qemuTrust(qemuDir), Authorities: []string{"qemu"}, Foreign: "keep"})
	h.Policy.Settings = append(h.Policy.Settings, inventory.Settings{Path: qemuConf, Values: []inventory.Setting{{Key: "migrate_tls_x509_cert_dir", Value: conffile.String(qemuDir)}}})
	return h
}

// withQEMU gives the world an authority for QEMU: here with the same key.
func (w *world) withQEMU() {
	a := w.trust.Authorities[0]
	a.Name = "qemu"
	a.Generations = slices.Clone(a.Generations)
	w.trust.Authorities = append(w.trust.Authorities, a)
}

func TestQEMUIdentity(t *testing.T) {
	w := newWorld(t)
	w.withQEMU()
	inv, seen := w.qemuHost("a", inventory.MigrationAvailable), w.seen()
	w.qemuSeen(seen, "", debianPasswd, debianGroup, 64055, 64055)
	w.dir(seen, "/etc/pki")
	w.dir(seen, "/etc/pki/libvirt-vnc")
	p := w.plan(inv, seen, Options{})
	if p.Held() {
		t.Fatalf("held: %+v", p.Findings)
	}
	i := slices.IndexFunc(p.Ops, func(o plan.Op) bool { e, ok := o.(plan.Enrol); return ok && e.Certificate == "qemu" })
	if i < 0 {
		t.Fatalf("%v", kinds(p.Ops))
	}
	e := p.Ops[i].(plan.Enrol)
	if e.Owner != "root" || e.Group != "libvirt-qemu" || e.KeyMode != 0o640 || e.Tree != "/etc/pki/qemu/.virtrust/qemu" || len(e.Links) != 4 || e.Check == nil || e.Check.User != "libvirt-qemu" || e.When != nil {
		t.Errorf("%+v", e)
	}
	for _, l := range e.Links {
		if !strings.HasPrefix(l.Target, ".virtrust/qemu/current/") || strings.Contains(l.Path, "key") != strings.HasSuffix(l.Target, "key.pem") {
			t.Errorf("%s -> %s", l.Path, l.Target)
		}
	}
	if !slices.Contains(codes(p), "shadowing-directory") {
		t.Errorf("findings %v", codes(p))
	}
	if s := p.Standing; len(s) != 2 || s[0].Ready || s[1].Ready || !s[1].Fresh {
		t.Errorf("standing %+v", s)
	}
	// A host that does not say as whom QEMU runs is held.
	delete(seen.Paths, qemuState)
	if p := w.plan(inv, seen, Options{}); !p.Held() || !slices.Contains(codes(p), "no-qemu-account") {
		t.Errorf("findings %v", codes(p))
	}
	// One authority for both purposes.
	inv.Policy.Trusts[0].Authorities = []string{"libvirt", "qemu"}
	w.qemuSeen(seen, "migration_host = \"elsewhere\"\n", debianPasswd, debianGroup, 64055, 64055)
	p = w.plan(inv, seen, Options{})
	for _, code := range []string{"qemu-key-opens-libvirt", "migration-host-not-named"} {
		if !slices.Contains(codes(p), code) {
			t.Errorf("no %s in %v", code, codes(p))
		}
	}
}

func TestForce(t *testing.T) {
	const on = "migrate_tls_x509_cert_dir = \"/etc/pki/qemu\"\nmigrate_tls_force = 1\n"
	const off = "migrate_tls_x509_cert_dir = \"/etc/pki/qemu\"\n"
	away := &inventory.Away{Until: time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC), Reason: "mainboard"}
	cases := []struct {
		name   string
		stance inventory.Migration
		conf   string
		mark   bool
		away   *inventory.Away // of the third host
		edit   string          // "old>new" of migrate_tls_force, empty for none
		hosts  []string        // named by the condition
		code   string
	}{
		{"required", inventory.MigrationRequired, off, false, nil, ">1", []string{"b", "c"}, ""},
		{"required, and set to 0 by someone", inventory.MigrationRequired, off + "migrate_tls_force = 0\n", false, nil, "0>1", []string{"b", "c"}, ""},
		{"required, one is away", inventory.MigrationRequired, off, false, away, ">1", []string{"b"}, ""},
		{"required and set", inventory.MigrationRequired, on, true, nil, "", nil, ""},
		{"required, set by someone", inventory.MigrationRequired, on, false, nil, "", nil, ""},
		{"available", inventory.MigrationAvailable, off, false, nil, "", nil, ""},
		{"available again", inventory.MigrationAvailable, on, true, nil, "1>", nil, ""},
		{"available, set by someone", inventory.MigrationAvailable, on, false, nil, "", nil, "force-not-ours"},
		{"off again", inventory.MigrationOff, on, true, nil, "1>", nil, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.withQEMU()
			all := []inventory.Host{*w.qemuHost("a", c.stance), *w.qemuHost("b", c.stance), *w.qemuHost("c", c.stance), *w.qemuHost("d", c.stance)}
			all[2].Away, all[3].Cluster = c.away, "rack2"
			if c.stance == inventory.MigrationOff {
				all[0] = *w.host("a")
			}
			seen := w.seen()
			w.qemuSeen(seen, c.conf, debianPasswd, debianGroup, 64055, 64055)
			if c.mark {
				w.file(seen, forceMark, []byte("x"), 0o600)
			}
			task := build{host: &all[0], trust: w.trust, opts: Options{Hosts: all}}.force()
			ops, found := task.Diff(seen, w.now)
			got, hosts := "", []string(nil)
			for _, o := range ops {
				if when := o.About().When; when != nil {
					hosts = when.Hosts
				}
				if f, ok := o.(plan.WriteFile); ok && f.Path == qemuConf {
					got = f.Edits[0].Old + ">" + f.Edits[0].New
					content, err := Render(f, seen.Path(qemuConf).Content)
					if err != nil || plan.Digest(content) != f.After.Digest {
						t.Errorf("the edit does not give what it promises: %v\n%s", err, content)
					}
				}
			}
			if got != c.edit || !slices.Equal(hosts, c.hosts) {
				t.Errorf("edit %q for %v, want %q for %v", got, hosts, c.edit, c.hosts)
			}
			if c.edit != "" && len(ops) < 2 {
				t.Errorf("nothing activates it: %v", kinds(ops))
			}
			if (c.code == "") != (len(found) == 0) || c.code != "" && found[0].Code != c.code {
				t.Errorf("findings %+v", found)
			}
		})
	}
}

// TestNewGeneration has a leaf of a second generation wait for the peers, one
// that follows a leaf of the same generation for nobody.
func TestNewGeneration(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	opts := Options{Hosts: []inventory.Host{*a, *b}}
	seen := w.seen()
	first := w.plan(a, seen, opts)
	if len(first.Conditions()) != 0 {
		t.Fatalf("the first generation waits: %+v", first.Conditions())
	}
	w.apply(seen, first.Ops)
	w.addGeneration(2)
	w.now = w.now.Add(time.Hour)
	seen.Clock, seen.Uptime = w.now, seen.Uptime+time.Hour
	p := w.plan(a, seen, opts)
	c := p.Conditions()
	if len(c) != 2 || c[0].Kind != plan.Trusted || !slices.Equal(c[0].Hosts, []string{"b"}) || c[0].CA != w.trust.Authorities[0].Generations[1].SubjectKeyID {
		t.Fatalf("%+v", c)
	}
	if i := slices.IndexFunc(p.Ops, func(o plan.Op) bool {
		f, ok := o.(plan.WriteFile)
		return ok && f.Path == libvirtTrust && f.When == nil
	}); i < 0 {
		t.Error("the bundle waits, too")
	}
	ids := p.Standing[0].Loaded
	if len(ids) != 1 || ids[0] != w.trust.Authorities[0].Generations[0].SubjectKeyID {
		t.Errorf("loaded: %v", ids)
	}
	w.apply(seen, p.Ops)
	w.trust.Authorities[0].Generations[0].Phase = pki.PhaseDraining
	p = w.plan(a, seen, Options{Hosts: opts.Hosts, Replace: []string{"certificate.libvirt-server"}})
	if len(p.Conditions()) != 0 || len(p.Ops) == 0 {
		t.Errorf("a renewal in the same generation: %+v", p.Ops)
	}
	if ids := p.Standing[0].Loaded; len(ids) != 2 {
		t.Errorf("loaded: %v", ids)
	}
}
