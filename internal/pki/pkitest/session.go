package pkitest

import (
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// A Session is a pair of identities that meet in a handshake.
type Session struct {
	Name                     string
	ServerCA, ClientCA       []byte // PEM files that each side trusts
	Server, Client           *Cert
	Host                     string
	CheckDN                  bool
	AllowedDNs               []string
	ServerFails, ClientFails bool // whether that side refuses its peer
}

// Sessions are those of libvirt's tests/virnettlssessiontest.c.
func Sessions(now time.Time) []Session {
	b := NewBuilder(now)
	ca := b.Make(perfectCA("libvirt CA"))
	alt := b.Make(Spec{Country: "UK", CommonName: "libvirt CA 1", Basic: "c ca"})
	leaf := func(ca *Cert, cn string, role pki.Usage, names ...string) *Cert {
		return b.Make(Spec{Country: "UK", CommonName: cn, Names: names, Basic: "c leaf", Usage: "c DS KE", Purpose: "c " + string(role), Signer: ca})
	}
	addresses := []string{"192.168.122.1", "fec0::dead:beaf"}
	server := leaf(ca, "libvirt.org", pki.UsageServer)
	client := leaf(ca, "libvirt", pki.UsageClient)
	altClient := leaf(alt, "libvirt", pki.UsageClient)
	alt1 := leaf(ca, "libvirt.org", pki.UsageServer, append([]string{"www.libvirt.org", "libvirt.org"}, addresses...)...)
	alt2 := leaf(ca, "libvirt.org", pki.UsageServer, append([]string{"www.libvirt.org", "wiki.libvirt.org"}, addresses...)...)
	level := func(cn string, signer *Cert) *Cert {
		s := perfectCA(cn)
		s.Signer = signer
		return b.Make(s)
	}
	root := level("root", nil)
	l1a, l1b := level("level 1a", root), level("level 1b", root)
	l2a := level("level 2a", l1a)
	var chain []byte
	for _, c := range []*Cert{root, l1a, l1b, l2a} {
		chain = append(chain, c.PEM()...)
	}
	plain := func(name string, server *Cert, host string, clientFails bool) Session {
		return Session{Name: name, ServerCA: ca.PEM(), ClientCA: ca.PEM(), Server: server, Client: client, Host: host, ClientFails: clientFails}
	}
	listed := func(name string, serverFails bool, dns ...string) Session {
		s := plain(name, server, "libvirt.org", false)
		s.CheckDN, s.AllowedDNs, s.ServerFails = true, dns, serverFails
		return s
	}
	return []Session{
		plain("perfect", server, "libvirt.org", false),
		{Name: "other CA", ServerCA: ca.PEM(), ClientCA: alt.PEM(), Server: server, Client: altClient, Host: "libvirt.org", ServerFails: true, ClientFails: true},
		plain("altname1 CN", alt1, "libvirt.org", false),
		plain("altname1 www", alt1, "www.libvirt.org", false),
		plain("altname1 wiki", alt1, "wiki.libvirt.org", true),
		plain("altname2 CN", alt2, "libvirt.org", true),
		plain("altname2 www", alt2, "www.libvirt.org", false),
		plain("altname2 wiki", alt2, "wiki.libvirt.org", false),
		listed("other DN", true, "C=UK,CN=dogfood"),
		listed("same DN", false, "C=UK,CN=libvirt"),
		listed("two DNs", false, "C=UK,CN=dogfood", "C=UK,CN=libvirt"),
		listed("longer DN", true, "C=UK,CN=libvirtstuff"),
		listed("DN glob", false, "C=UK,CN=libvirt*"),
		listed("DN two globs", false, "C=UK,CN=*virt*"),
		{Name: "chain", ServerCA: chain, ClientCA: chain, Server: leaf(l2a, "libvirt.org", pki.UsageServer), Client: leaf(l1b, "libvirt client level 2b", pki.UsageClient), Host: "libvirt.org"},
	}
}
