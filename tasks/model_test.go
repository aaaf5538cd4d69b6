package tasks

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/netip"
	"path"
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

// world is a fleet of hosts in memory: what an apply would do to their facts,
// so that "empty after apply" can be asked of every start.
type world struct {
	t     testing.TB
	now   time.Time
	trust pki.Trust
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey
	// signers are the generations by key id.
	signers map[string]signer
}

type signer struct {
	ca  *x509.Certificate
	key *ecdsa.PrivateKey
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	w.addGeneration(1)
	return w
}

// addGeneration makes the next generation of authority libvirt, which signs
// from then on.
func (w *world) addGeneration(n int) {
	w.t.Helper()
	var err error
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		w.t.Fatal(err)
	}
	serial, err := pki.NewSerial(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ca, err = pki.NewAuthority(w.now, pki.CAProfile{Name: "libvirt", Organization: "Example", Number: n, Lifetime: pki.DefaultCALifetime}, w.key, serial)
	if err != nil {
		w.t.Fatal(err)
	}
	g := pki.NewGeneration(n, pki.PhaseIssuing, w.ca)
	if w.signers == nil {
		w.signers = map[string]signer{}
	}
	w.signers[g.SubjectKeyID] = signer{w.ca, w.key}
	if len(w.trust.Authorities) == 0 {
		w.trust.Authorities = []pki.Authority{{Name: "libvirt"}}
	}
	a := &w.trust.Authorities[0]
	for i := range a.Generations {
		a.Generations[i].Phase = pki.PhaseDraining
	}
	a.Generations = append(a.Generations, g)
}

// host is a host of the inventory with the policy that the template gives.
func (w *world) host(name string) *inventory.Host {
	cert := func(c, usage, file, key string) inventory.Certificate {
		return inventory.Certificate{
			Name: c, Authority: "libvirt", Usages: []string{usage}, Lifetime: 90 * 24 * time.Hour, RenewBefore: 30 * 24 * time.Hour,
			KeyUsage: "compatible", KeyAlgorithm: "ecdsa-p256", DNSNames: []string{name + ".example.test"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
			Install: inventory.Install{Directory: "/etc/pki/libvirt", Cert: file, Key: key, Owner: "root", Group: "root", KeyMode: 0o600},
		}
	}
	return &inventory.Host{
		Name: name, Address: name + ".example.test", Managed: true,
		Policy: inventory.Policy{
			Certificates: []inventory.Certificate{
				cert("libvirt-server", "server", "servercert.pem", "private/serverkey.pem"),
				cert("libvirt-client", "client", "clientcert.pem", "private/clientkey.pem"),
			},
			Trusts:    []inventory.TrustFile{{Path: libvirtTrust, Authorities: []string{"libvirt"}, Foreign: "keep"}},
			Settings:  []inventory.Settings{{Path: libvirtdConf, Values: []inventory.Setting{{Key: "listen_tcp", Value: conffile.Int(0)}}}},
			Listeners: []inventory.Listener{{Name: "libvirt", Port: 16514, Mode: "auto"}},
		},
	}
}

// seen is a fresh Debian host with libvirt.
func (w *world) seen() *facts.Host {
	h := &facts.Host{
		Clock: w.now, Uptime: time.Hour, Init: "systemd", MachineID: "m1", HostKey: "SHA256:x",
		Tools:    map[string]bool{"flock": true, "stat": true, "openssl": true, "systemctl": true, "systemd-run": true, "virt-admin": true},
		Packages: map[string]string{"libvirt-daemon": "11.3.0-3+deb13u3"},
		Spaces:   map[string]facts.Space{"/etc": {Bytes: 1 << 30, Inodes: 1 << 20}, "/var/lib": {Bytes: 1 << 30, Inodes: 1 << 20}},
		Units: map[string]facts.UnitInfo{
			libvirtdService: {Load: "loaded", Active: "active", File: "enabled", MainPID: 100, Invocation: "i1", Started: time.Minute,
				Command: []string{"/usr/sbin/libvirtd", "$LIBVIRTD_ARGS"}, Environment: []string{"LIBVIRTD_ARGS=--timeout 120"}, EnvironmentFiles: []string{"/etc/default/libvirtd"}},
			libvirtdSocket:    {Load: "loaded", Active: "active", File: "enabled"},
			libvirtdTLSSocket: {Load: "loaded", Active: "inactive", File: "disabled", Listen: []string{"[::]:16514 (Stream)"}},
			libvirtdTCPSocket: {Load: "loaded", Active: "inactive", File: "disabled"},
		},
		Processes: map[int][]string{100: {"/usr/sbin/libvirtd", "--timeout", "120"}},
		Paths:     map[string]facts.Path{}, Keys: map[string][]byte{}, Dirs: map[string][]string{}, Served: map[string]facts.Served{},
	}
	w.dir(h, "/etc")
	w.dir(h, "/var/lib")
	w.dir(h, "/etc/libvirt")
	w.dir(h, "/etc/default")
	w.file(h, libvirtdConf, []byte("# libvirt's own file\n#listen_tcp = 1\n"), 0o644)
	f := h.Paths[libvirtdConf]
	f.CTime = w.now.Add(-24 * time.Hour)
	h.Paths[libvirtdConf] = f
	return h
}

func (w *world) dir(h *facts.Host, p string) {
	h.Paths[p] = facts.Path{Type: facts.Directory, Mode: 0o755, Owner: "root", Group: "root", CTime: w.now}
}

func (w *world) file(h *facts.Host, p string, content []byte, mode uint32) {
	h.Paths[p] = facts.Path{Type: facts.Regular, Mode: mode, Owner: "root", Group: "root", Content: content, HasData: true, Size: int64(len(content)), CTime: w.now}
}

func (w *world) link(h *facts.Host, p, target string) {
	h.Paths[p] = facts.Path{Type: facts.Symlink, Mode: 0o777, Owner: "root", Group: "root", Target: target, CTime: w.now}
}

// apply carries operations out on the facts, as the host transaction would.
func (w *world) apply(h *facts.Host, ops plan.Ops) {
	w.t.Helper()
	restarted := map[string]bool{}
	for _, o := range ops {
		for _, e := range o.Expects() {
			if _, isDir := o.(plan.MakeDir); !isDir && h.Path(path.Dir(e.Path)).Type == facts.Absent && e.State.Type != facts.Absent {
				w.t.Errorf("%s %s: its directory does not exist", o.Kind(), e.Path)
			}
		}
		switch o := o.(type) {
		case plan.MakeDir:
			if h.Path(o.Path).Type != facts.Absent || h.Path(path.Dir(o.Path)).Type != facts.Directory {
				w.t.Errorf("mkdir %s: is there, or its parent is not", o.Path)
			}
			w.dir(h, o.Path)
		case plan.WriteFile:
			content, err := Render(o, h.Path(o.Path).Content)
			if err != nil {
				w.t.Fatal(err)
			}
			if plan.Digest(content) != o.After.Digest {
				w.t.Errorf("%s: the content is not what the plan promised", o.Path)
			}
			w.file(h, o.Path, content, o.After.Mode)
		case plan.Link:
			w.link(h, o.Path, o.Target)
		case plan.Remove:
			delete(h.Paths, o.Path)
		case plan.Enrol:
			w.enrol(h, o)
		case plan.SetUnit:
			u := h.Units[o.Unit]
			u.Active, u.File = "active", "enabled"
			service := o.Service
			if service == "" {
				u.MainPID, service = 100, o.Unit
			}
			h.Units[o.Unit] = u
			if o.Service != "" {
				h.Listening = append(h.Listening, netip.MustParseAddrPort("[::]:16514"))
			}
			restarted[service] = true
			w.restart(h, service)
		case plan.Activate:
			if o.How == plan.Restart && !restarted[o.Unit] && h.Units[o.Unit].MainPID != 0 {
				w.restart(h, o.Unit)
			}
			content := ""
			for l := range strings.Lines(string(h.Path(loadedFile).Content)) {
				if f := strings.Fields(l); !slices.ContainsFunc(o.Loads, func(n plan.Load) bool { return f[0] == o.Unit && f[2] == n.Item }) {
					content += l
				}
			}
			for _, l := range o.Loads {
				content += o.Unit + " " + h.Units[o.Unit].Invocation + " " + l.Item + " " + l.Digest + "\n"
			}
			if content != "" {
				w.file(h, loadedFile, []byte(content), 0o600)
			}
			w.serve(h)
		}
	}
}

// restart starts a service with the arguments that its files give it.
func (w *world) restart(h *facts.Host, service string) {
	u := h.Units[service]
	u.Invocation += "'"
	u.Started = h.Uptime
	h.Units[service] = u
	if file, name, ok := variableOf(h, service); ok && u.MainPID != 0 {
		words, _ := argumentsIn(h, service, file, name)
		h.Processes[u.MainPID] = append(u.Command[:1:1], words...)
		if slices.Contains(words, "--listen") {
			if !masked(h.Units[libvirtdSocket]) {
				w.t.Error("libvirtd was started with --listen and socket units")
			}
			h.Listening = []netip.AddrPort{netip.MustParseAddrPort("[::]:16514"), netip.MustParseAddrPort("0.0.0.0:16514")}
		}
	}
	w.serve(h)
}

func (w *world) serve(h *facts.Host) {
	if !listening(h, 16514) {
		return
	}
	content, _ := h.Content("/etc/pki/libvirt/servercert.pem")
	if b, _ := pem.Decode(content); b != nil {
		h.Served[servedAt(16514)] = facts.Served{Chain: [][]byte{b.Bytes}}
	}
}

func (w *world) enrol(h *facts.Host, o plan.Enrol) {
	w.t.Helper()
	if o.Adopt != nil {
		cert, _ := h.Content(o.Adopt.Cert)
		key, _ := h.PublicKey(o.Adopt.Key)
		w.generation(h, o, o.Generation+"a", cert, key)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	by := *w
	by.ca, by.key = w.signers[o.Issuer].ca, w.signers[o.Issuer].key
	leaf := by.sign(o.Profile, key, w.now)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	w.generation(h, o, o.Generation, pki.RenderCerts(leaf), der)
	w.link(h, o.Tree+"/current", o.Generation)
	current := o.Tree + "/current/"
	h.Paths[current+"cert.pem"], h.Paths[current+"key.pem"] = h.Paths[o.Tree+"/"+o.Generation+"/cert.pem"], h.Paths[o.Tree+"/"+o.Generation+"/key.pem"]
	for _, l := range o.Links {
		w.link(h, l.Path, l.Target)
		// The name as the host resolves it: not cleaned.
		real := path.Dir(l.Path) + "/" + l.Target
		h.Paths[real] = h.Paths[o.Tree+"/"+o.Generation+"/"+path.Base(l.Target)]
		h.Keys[real] = der
	}
	for _, base := range []string{"/etc/pki/libvirt/private/../", "/etc/pki/libvirt/"} {
		real := base + ".virtrust/" + path.Base(o.Tree) + "/current/"
		for _, f := range []string{"cert.pem", "key.pem"} {
			if _, ok := h.Paths[real+f]; ok {
				h.Paths[real+f] = h.Paths[o.Tree+"/"+o.Generation+"/"+f]
				h.Keys[real+f] = der
			}
		}
	}
}

func (w *world) generation(h *facts.Host, o plan.Enrol, name string, cert, key []byte) {
	dir := o.Tree + "/" + name
	w.dir(h, dir)
	w.file(h, dir+"/cert.pem", cert, 0o644)
	h.Paths[dir+"/key.pem"] = facts.Path{Type: facts.Regular, Mode: o.KeyMode, Owner: o.Owner, Group: o.Group, Size: 200, CTime: w.now}
	h.Keys[dir+"/key.pem"] = key
	h.Dirs[o.Tree] = append(h.Dirs[o.Tree], name)
}

// sign signs a leaf of the profile at a moment.
func (w *world) sign(p pki.Profile, key *ecdsa.PrivateKey, at time.Time) *x509.Certificate {
	w.t.Helper()
	raw, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "request"}}, key)
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := pki.ParseCSR(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	serial, err := pki.NewSerial(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	leaf, err := pki.SignLeaf(at, w.ca, w.key, csr, p, serial)
	if err != nil {
		w.t.Fatal(err)
	}
	return leaf.Cert
}

// plan compares a host with its tasks at the world's moment.
func (w *world) plan(h *inventory.Host, seen *facts.Host, opts Options) plan.HostPlan {
	w.t.Helper()
	all, err := For(h, w.trust, opts)
	if err != nil {
		w.t.Fatal(err)
	}
	return plan.MakeHost(h.Name, "", all, seen, w.now)
}
