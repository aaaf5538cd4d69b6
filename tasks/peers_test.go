package tasks

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki/pkitest"
	"github.com/virtrust/virtrust/inventory"
)

// twoEnds are two hosts whose libvirt and QEMU accept each other over both
// networks.
type twoEnds struct {
	b             *pkitest.Builder
	libvirt, qemu *pkitest.Cert
	a, z          End
}

func newTwoEnds(t *testing.T) *twoEnds {
	t.Helper()
	b := pkitest.NewBuilder(time.Now())
	ca := func(name string) *pkitest.Cert {
		return b.Make(pkitest.Spec{Country: "UK", CommonName: name, Basic: "c ca", Usage: "c CS"})
	}
	e := &twoEnds{b: b, libvirt: ca("libvirt g1"), qemu: ca("qemu g1")}
	e.a, e.z = e.end("kvm1", "1"), e.end("kvm2", "2")
	return e
}

func (e *twoEnds) leaf(ca *pkitest.Cert, host string, names ...string) *pkitest.Cert {
	return e.b.Make(pkitest.Spec{CommonName: host, Names: names, Basic: "c leaf", Usage: "c DS KE", Purpose: "n server client", Signer: ca})
}

func (e *twoEnds) end(name, n string) End {
	h := &inventory.Host{
		Name: name, Address: name + ".example.test", Migration: inventory.MigrationAvailable,
		Nics: []inventory.Nic{
			{Network: "management", FQDN: name + ".example.test", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0." + n)}},
			{Network: "migration", FQDN: name + "-mig.example.test", Addresses: []netip.Addr{netip.MustParseAddr("10.9.0." + n)}},
		},
		Policy: inventory.Policy{Listeners: []inventory.Listener{{Name: "libvirt", Port: 16514}}},
	}
	seen := &facts.Host{Name: name, Clock: time.Now(), Paths: map[string]facts.Path{}, Keys: map[string][]byte{},
		Packages: map[string]string{"libvirt-daemon": "11.3.0-3+deb13u3", "qemu-system-x86": "1:10.0.13+ds-0+deb13u1"}}
	end := End{Host: h, Seen: seen}
	control := e.leaf(e.libvirt, name, h.Address)
	seen.Served = map[string]facts.Served{servedAt(16514): {Chain: [][]byte{control.X509.Raw}}}
	end.put(libvirtTrust, e.libvirt.PEM())
	end.put(libvirtDir+"/clientcert.pem", control.PEM())
	end.put(qemuConf, []byte("# none\nmigrate_tls_x509_cert_dir = \"/etc/pki/qemu\"\n"))
	e.identity(end, "/etc/pki/qemu", e.leaf(e.qemu, name, name+".example.test", name+"-mig.example.test"))
	return end
}

func (e *twoEnds) identity(end End, dir string, leaf *pkitest.Cert) {
	end.put(dir+"/ca-cert.pem", e.qemu.PEM())
	for _, role := range []string{"server", "client"} {
		end.put(dir+"/"+role+"-cert.pem", leaf.PEM())
		end.put(dir+"/"+role+"-key.pem", []byte("-"))
		end.Seen.Keys[dir+"/"+role+"-key.pem"] = leaf.X509.RawSubjectPublicKeyInfo
	}
}

func (e End) put(path string, content []byte) {
	e.Seen.Paths[path] = facts.Path{Type: facts.Regular, Size: int64(len(content)), HasData: true, Content: content}
}

func (e End) conf(lines ...string) { e.put(qemuConf, []byte(strings.Join(lines, "\n")+"\n")) }

func TestBetween(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*twoEnds)
		tls     bool
		uri     string // empty: the usual
		data    string
		checked string
		blocked string // a part of why nothing goes
		noTLS   string // a part of why not encrypted
		plain   bool   // PlainAllowed
	}{
		{name: "over the migration network", tls: true, data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", plain: true},
		{name: "one without the migration network", change: func(e *twoEnds) { e.a.Host.Nics = e.a.Host.Nics[:1] },
			tls: true, data: "tcp://kvm2.example.test", checked: "kvm2.example.test", plain: true},
		{name: "the destination names its host", change: func(e *twoEnds) {
			e.a.Host.Nics = nil
			e.z.conf(`migration_host = "kvm2-mig.example.test"`)
		}, tls: true, data: "", checked: "kvm2.example.test", plain: true},
		{name: "IPv6", change: func(e *twoEnds) {
			for i, end := range []End{e.a, e.z} {
				end.Host.Nics[1].Addresses = []netip.Addr{netip.MustParseAddr("fd00:78::" + string(rune('1'+i)))}
			}
			e.z.Host.Address = "fd00:77::2"
			leaf := e.leaf(e.libvirt, "kvm2", "fd00:77::2")
			e.z.Seen.Served[servedAt(16514)] = facts.Served{Chain: [][]byte{leaf.X509.Raw}}
		}, tls: true, uri: "qemu+tls://[fd00:77::2]/system", data: "tcp://[fd00:78::2]", checked: "kvm2-mig.example.test", plain: true},
		{name: "no address of a common family", change: func(e *twoEnds) {
			e.z.Host.Nics[1].Addresses = []netip.Addr{netip.MustParseAddr("fd00:78::2")}
		}, tls: true, data: "tcp://kvm2.example.test", checked: "kvm2.example.test", plain: true},
		{name: "it listens elsewhere", change: func(e *twoEnds) { e.z.conf(`migration_address = "10.0.0.2"`) },
			data: "", checked: "kvm2.example.test", blocked: "takes migrations on 10.0.0.2 alone", plain: true},
		{name: "it listens everywhere", change: func(e *twoEnds) { e.z.conf(`migration_address = "::"`) },
			tls: true, data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", plain: true},
		{name: "the certificate has one of the names", change: func(e *twoEnds) {
			e.identity(e.z, "/etc/pki/qemu", e.leaf(e.qemu, "kvm2", "kvm2.example.test"))
		}, tls: true, data: "tcp://10.9.0.2", checked: "kvm2.example.test", plain: true},
		{name: "the certificate has none of the names", change: func(e *twoEnds) {
			e.identity(e.z, "/etc/pki/qemu", e.leaf(e.qemu, "kvm2", "kvm7.example.test"))
		}, data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", noTLS: `is not for "kvm2-mig.example.test"`, plain: true},
		{name: "a libvirt without --tls-destination", change: func(e *twoEnds) {
			e.a.Seen.Packages["libvirt-daemon"] = "5.10.0-1"
		}, data: "tcp://10.9.0.2", checked: "", noTLS: `is not for "10.9.0.2"`, plain: true},
		{name: "no identity on the destination", change: func(e *twoEnds) { delete(e.z.Seen.Paths, "/etc/pki/qemu/server-cert.pem") },
			data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", noTLS: "kvm2: there is no /etc/pki/qemu/server-cert.pem", plain: true},
		{name: "a key that cannot be read", change: func(e *twoEnds) { delete(e.a.Seen.Keys, "/etc/pki/qemu/client-key.pem") },
			data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", noTLS: "kvm1: /etc/pki/qemu/client-key.pem is missing", plain: true},
		{name: "no client certificate", change: func(e *twoEnds) { delete(e.a.Seen.Paths, "/etc/pki/qemu/client-cert.pem") },
			data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", noTLS: "kvm1: there is no /etc/pki/qemu/client-cert.pem", plain: true},
		{name: "no client certificate, and none is asked for", change: func(e *twoEnds) {
			delete(e.a.Seen.Paths, "/etc/pki/qemu/client-cert.pem")
			e.z.conf("migrate_tls_x509_verify = 0")
		}, tls: true, data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", plain: true},
		{name: "authorities that differ", change: func(e *twoEnds) {
			own := e.qemu
			e.qemu = e.b.Make(pkitest.Spec{Country: "UK", CommonName: "another", Basic: "c ca", Usage: "c CS"})
			e.identity(e.z, "/etc/pki/qemu", e.leaf(e.qemu, "kvm2", "kvm2-mig.example.test"))
			e.qemu = own
		}, data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", noTLS: "QEMU of kvm1 refuses that of kvm2", plain: true},
		{name: "a directory of migrations alone comes first", change: func(e *twoEnds) {
			e.z.conf("# nothing")
			e.z.Seen.Paths[migrationOnlyDir] = facts.Path{Type: facts.Directory}
		}, data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", noTLS: "kvm2: there is no /etc/pki/libvirt-migrate/ca-cert.pem", plain: true},
		{name: "no listener", change: func(e *twoEnds) { e.z.Seen.Served[servedAt(16514)] = facts.Served{Problem: "refused"} },
			data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", blocked: "kvm2 serves no certificate on port 16514: refused", plain: true},
		{name: "an expired listener", change: func(e *twoEnds) { e.a.Seen.Clock = time.Now().AddDate(40, 0, 0) },
			data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test", blocked: "kvm1 refuses libvirt of kvm2", noTLS: "expired", plain: true},
		{name: "required on one side", change: func(e *twoEnds) { e.z.Host.Migration = inventory.MigrationRequired },
			tls: true, data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test"},
		{name: "forced on one side", change: func(e *twoEnds) { e.a.conf("migrate_tls_force = 1") },
			tls: true, data: "tcp://10.9.0.2", checked: "kvm2-mig.example.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newTwoEnds(t)
			if c.change != nil {
				c.change(e)
			}
			r := Between(e.a, e.z)
			uri := c.uri
			if uri == "" {
				uri = "qemu+tls://kvm2.example.test/system"
			}
			if r.TLS != c.tls || r.URI != uri || r.MigrateURI != c.data || r.TLSDestination != c.checked || r.PlainAllowed() != c.plain {
				t.Errorf("%+v", r)
			}
			if got := strings.Join(r.Blocked, "; "); (c.blocked == "") != (got == "") || !strings.Contains(got, c.blocked) {
				t.Errorf("blocked: %q", got)
			}
			if got := strings.Join(r.NoTLS, "; "); (c.noTLS == "") != (got == "") || !strings.Contains(got, c.noTLS) {
				t.Errorf("no TLS: %q", got)
			}
		})
	}
}

func TestRouteOptions(t *testing.T) {
	r := Route{MigrateURI: "tcp://10.9.0.2", TLSDestination: "kvm2-mig.example.test"}
	if got := strings.Join(r.Options(true), " "); got != "--live --p2p --tls --tls-destination kvm2-mig.example.test --migrateuri tcp://10.9.0.2" {
		t.Error(got)
	}
	if got := strings.Join(r.Options(false), " "); got != "--live --p2p --migrateuri tcp://10.9.0.2" {
		t.Error(got)
	}
}

func TestIdentityDir(t *testing.T) {
	for _, c := range []struct {
		conf, dir string
		usual     bool
	}{
		{"# none", "/etc/pki/qemu", true},
		{`default_tls_x509_cert_dir = "/etc/pki/own"`, "/etc/pki/own", false},
		{"default_tls_x509_cert_dir = \"/etc/pki/own\"\nmigrate_tls_x509_cert_dir = \"/etc/pki/qemu\"", "/etc/pki/qemu", true},
		{`migrate_tls_x509_cert_dir = "/etc/../root"`, "/etc/../root", true},
	} {
		e := End{Seen: &facts.Host{Paths: map[string]facts.Path{}}}
		e.conf(c.conf)
		if dir, usual := IdentityDir(e.Seen); dir != c.dir || usual != c.usual {
			t.Errorf("%s: %s, %v", c.conf, dir, usual)
		}
	}
}

func TestProofMachine(t *testing.T) {
	old := []string{"pc", "q35", "pc-i440fx-7.2", "pc-i440fx-2.4", "pc-i440fx-2.10", "pc-q35-2.4"}
	for _, c := range []struct {
		a, b []string
		want string
	}{
		{old, old, "pc-i440fx-2.4"},
		{old, []string{"pc-i440fx-10.0", "pc-i440fx-7.2", "pc-i440fx-2.10"}, "pc-i440fx-2.10"},
		{[]string{"pc-q35-rhel8.6.0", "pc-q35-rhel9.0.0", "q35"}, []string{"q35", "pc-q35-rhel9.0.0"}, "pc-q35-rhel9.0.0"},
		{old, []string{"pc", "q35", "pc-i440fx-11.1"}, ""},
		{[]string{"virt-9.2"}, []string{"virt-9.2"}, ""},
		{[]string{`pc-i440fx-7.2"/>`}, []string{`pc-i440fx-7.2"/>`}, ""},
	} {
		got, err := ProofMachine(c.a, c.b)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%v, %v: %q, %v", c.a, c.b, got, err)
		}
	}
}

func TestProofLeftovers(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	names := []string{
		"virtrust-proof-20261122t114900z-0123abcd-1", // eleven minutes
		"virtrust-proof-20261122t115900z-0123abcd-1",
		"virtrust-proof-20261122t114900z-0123abcd-1; reboot", "virtrust-proof-mine", "database", "virtrust-proof-99999999t999999z-0123abcd",
	}
	if got := ProofLeftovers(names, now, 10*time.Minute); !slices.Equal(got, names[:1]) {
		t.Error(got)
	}
}

// Why a guest cannot go to another cluster is said first.
func TestBetweenClusters(t *testing.T) {
	e := newTwoEnds(t)
	other := e.b.Make(pkitest.Spec{Country: "UK", CommonName: "libvirt-rack2 g1", Basic: "c ca", Usage: "c CS"})
	for end, name := range map[*End]string{&e.a: "libvirt-rack1", &e.z: "libvirt-rack2"} {
		end.Host.Policy.Trusts = []inventory.TrustFile{{Path: libvirtTrust, Authorities: []string{name}}}
		end.Host.Policy.Certificates = []inventory.Certificate{{Name: "libvirt-client", Authority: name, Usages: []string{"client"}, Install: inventory.Install{Directory: libvirtDir}}}
	}
	if r := Between(e.a, e.z); len(r.Blocked) > 0 {
		t.Errorf("hosts that still know each other: %v", r.Blocked)
	}
	control := e.leaf(other, "kvm2", e.z.Host.Address)
	e.z.Seen.Served[servedAt(16514)] = facts.Served{Chain: [][]byte{control.X509.Raw}}
	e.z.put(libvirtTrust, other.PEM())
	if r := Between(e.a, e.z); r.TLS || len(r.Blocked) < 2 || !strings.Contains(r.Blocked[0], "keeps clusters apart") {
		t.Errorf("hosts of two clusters: %v", r.Blocked)
	}
}
