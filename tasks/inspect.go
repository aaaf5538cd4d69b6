package tasks

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/firewall"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// Inspection is what is there on a host, whatever the policy wants.
type Inspection struct {
	Host     string `json:"host"`
	Hostname string `json:"hostname"`
	System   string `json:"system"` // as /etc/os-release names it
	// Versions are those of the packages, by what they bring: libvirt, qemu,
	// openssh, openssl.
	Versions map[string]string `json:"versions"`
	Layout   Layout            `json:"layout"`
	// Listening are the addresses on which libvirt's TLS port and its port in
	// plain text (16509) are open.
	Listening    []netip.AddrPort          `json:"listening"`
	Plain        []netip.AddrPort          `json:"plain,omitempty"`
	Served       *plan.Leaf                `json:"served,omitempty"`
	NotServed    string                    `json:"not_served,omitempty"` // why no certificate was seen
	Certificates []FoundCertificate        `json:"certificates"`
	Bundles      []FoundBundle             `json:"bundles"`
	Settings     []FoundSettings           `json:"settings"`
	Firewall     string                    `json:"firewall"`
	Beside       []string                  `json:"beside,omitempty"` // further firewalls with rules
	SELinux      bool                      `json:"selinux"`
	AppArmor     bool                      `json:"apparmor"`
	CryptoPolicy string                    `json:"crypto_policy,omitempty"` // EL's system-wide one
	Interfaces   map[string][]netip.Prefix `json:"interfaces"`
	Networks     map[string][]netip.Addr   `json:"networks,omitempty"` // the host's addresses in each network of the inventory
	Guests       int                       `json:"guests"`
	Busy         int                       `json:"busy"`              // guests in a job
	Missing      []string                  `json:"missing,omitempty"` // programs that virtrust needs
}

// Layout is how a host runs libvirt.
type Layout struct {
	Kind     string `json:"kind"`
	Listener string `json:"listener,omitempty"` // the service that owns the TLS port
	QEMU     string `json:"qemu,omitempty"`     // the service that runs guests
	// Units are the states of the units that matter, as "enabled, active".
	Units map[string]string `json:"units,omitempty"`
	// Arguments are what the listener's program runs with.
	Arguments []string `json:"arguments,omitempty"`
}

// FoundCertificate is a certificate at a path that libvirt or QEMU reads.
type FoundCertificate struct {
	Path   string    `json:"path"`
	Leaf   plan.Leaf `json:"leaf"`
	Usages []string  `json:"usages,omitempty"` // server, client
	Key    string    `json:"key"`              // of its key file: ok, or what is wrong
	Target string    `json:"target,omitempty"` // where the name leads, if it is a link
	Mine   bool      `json:"mine"`             // it lies in a generation that virtrust made
}

// FoundBundle is a file of authorities.
type FoundBundle struct {
	Path        string      `json:"path"`
	Authorities []plan.Leaf `json:"authorities"`
}

// FoundSettings are the settings that are set in a configuration file.
type FoundSettings struct {
	Path    string      `json:"path"`
	Values  [][2]string `json:"values"`
	Problem string      `json:"problem,omitempty"`
}

// pairs are the names at which libvirt and QEMU look for identities
// (libvirt.md §3).
var pairs = func() [][2]string {
	out := [][2]string{
		{libvirtDir + "/servercert.pem", libvirtDir + "/private/serverkey.pem"},
		{libvirtDir + "/clientcert.pem", libvirtDir + "/private/clientkey.pem"},
	}
	for _, d := range qemuDirs {
		out = append(out, [2]string{d + "/server-cert.pem", d + "/server-key.pem"}, [2]string{d + "/client-cert.pem", d + "/client-key.pem"})
	}
	return out
}()

// InspectQueries is what Inspect needs to know of a host.
func InspectQueries() []facts.Query {
	qs := slices.Concat(layoutQueries(), firewall.Queries(), []facts.Query{facts.Listening(), facts.Addresses(), facts.Content("/etc/os-release"), facts.Content(cryptoPolicy), facts.Content(libvirtTrust)})
	for _, f := range []string{libvirtdConf, virtproxydConf, virtqemudConf, qemuConf} {
		qs = append(qs, facts.Content(f))
	}
	for _, p := range pairs {
		qs = append(qs, facts.Content(p[0]), facts.Key(p[1]))
	}
	for _, d := range qemuDirs {
		qs = append(qs, facts.Content(qemuTrust(d)))
	}
	return facts.Merge(qs)
}

// Inspect says what a look with InspectQueries saw.
func Inspect(host *inventory.Host, networks []inventory.Network, h *facts.Host) Inspection {
	port := build{host: host}.port()
	i := Inspection{
		Host: host.Name, Hostname: h.Hostname, System: system(h), Layout: describe(h), SELinux: h.SELinux, AppArmor: h.AppArmor,
		Interfaces: h.Interfaces, Guests: len(h.Guests), Busy: len(h.Busy()),
		Versions: map[string]string{}, Networks: map[string][]netip.Addr{},
		// Lists of JSON, not null.
		Listening: []netip.AddrPort{}, Certificates: []FoundCertificate{}, Bundles: []FoundBundle{}, Settings: []FoundSettings{},
	}
	for what, v := range map[string]string{
		"libvirt": libvirtVersion(h), "qemu": qemuVersion(h), "openssl": h.Packages["openssl"], "openssh": h.Packages["openssh-server"],
	} {
		if v != "" {
			i.Versions[what] = v
		}
	}
	for _, l := range h.Listening {
		switch int(l.Port()) {
		case port:
			i.Listening = append(i.Listening, l)
		case plainPort:
			i.Plain = append(i.Plain, l)
		}
	}
	seen := h.Served[servedAt(port)]
	switch cert, err := x509.ParseCertificate(first(seen.Chain)); {
	case len(seen.Chain) == 0:
		i.NotServed = seen.Problem
	case err != nil:
		i.NotServed = "what it shows is no certificate"
	default:
		leaf := plan.LeafOf(cert)
		i.Served = &leaf
	}
	for _, p := range pairs {
		if c, ok := found(h, p[0], p[1]); ok {
			i.Certificates = append(i.Certificates, c)
		}
	}
	for _, p := range append([]string{libvirtTrust}, bundlesOfQEMU()...) {
		content, ok := h.Content(p)
		if !ok {
			continue
		}
		b := FoundBundle{Path: p, Authorities: []plan.Leaf{}}
		for _, c := range pki.ParseBundle(content).Certs {
			b.Authorities = append(b.Authorities, plan.LeafOf(c))
		}
		i.Bundles = append(i.Bundles, b)
	}
	for _, f := range []string{libvirtdConf, virtproxydConf, virtqemudConf, qemuConf} {
		if s, ok := active(h, f); ok {
			i.Settings = append(i.Settings, s)
		}
	}
	if content, ok := h.Content(cryptoPolicy); ok {
		for l := range strings.Lines(string(content)) {
			if l = strings.TrimSpace(l); l != "" && l[0] != '#' {
				i.CryptoPolicy = l
			}
		}
	}
	owner, beside := firewall.Detect(h)
	i.Firewall = string(owner)
	for _, o := range beside {
		i.Beside = append(i.Beside, string(o))
	}
	for _, n := range networks {
		if in := AddressesIn(n, h); len(in) > 0 {
			i.Networks[n.Name] = in
		}
	}
	for _, t := range []string{"flock", "stat", "systemctl", "systemd-run", "virt-admin"} {
		if !h.Tools[t] {
			i.Missing = append(i.Missing, t)
		}
	}
	if !h.Tools["openssl"] && !h.Tools["certtool"] {
		i.Missing = append(i.Missing, "openssl")
	}
	return i
}

const (
	plainPort    = 16509
	cryptoPolicy = "/etc/crypto-policies/config"
)

func first(chain [][]byte) []byte {
	if len(chain) == 0 {
		return nil
	}
	return chain[0]
}

func bundlesOfQEMU() []string {
	var out []string
	for _, d := range qemuDirs {
		out = append(out, qemuTrust(d))
	}
	return out
}

// system is the name that the distribution gives itself.
func system(h *facts.Host) string {
	content, _ := h.Content("/etc/os-release")
	e, err := conffile.ParseEnvironment(content)
	if err != nil {
		return ""
	}
	name, _, _ := e.Get("PRETTY_NAME")
	return name
}

func describe(h *facts.Host) Layout {
	by := layoutOf(h)
	l := Layout{Kind: string(by.kind)}
	if by.kind == noLibvirt {
		return l
	}
	l.Listener, l.QEMU, l.Units = by.listener, by.qemu, map[string]string{}
	for _, u := range []string{by.listener, by.socket, by.tls(), by.tcp(), by.qemu} {
		if s := h.Units[u]; !missing(s) {
			l.Units[u] = s.File + ", " + s.Active
		}
	}
	if args := h.Processes[h.Units[by.listener].MainPID]; len(args) > 0 {
		l.Arguments = args[1:]
	}
	return l
}

// found is a certificate at one path; ok is false where there is none.
func found(h *facts.Host, cert, key string) (FoundCertificate, bool) {
	content, ok := h.Content(cert)
	if !ok {
		return FoundCertificate{}, false
	}
	c := FoundCertificate{Path: cert, Target: h.Path(cert).Target}
	real, _, _ := h.Resolve(cert)
	c.Mine = strings.Contains(path.Clean(real), "/.virtrust/")
	certs := pki.ParseBundle(content).Certs
	if len(certs) == 0 {
		c.Key = "there is no certificate in the file"
		return c, true
	}
	c.Leaf = plan.LeafOf(certs[0])
	for _, u := range certs[0].ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageServerAuth:
			c.Usages = append(c.Usages, string(pki.UsageServer))
		case x509.ExtKeyUsageClientAuth:
			c.Usages = append(c.Usages, string(pki.UsageClient))
		}
	}
	_, at, _ := h.Resolve(key)
	der, readable := h.PublicKey(key)
	var public crypto.PublicKey
	if readable {
		public, _ = x509.ParsePKIXPublicKey(der)
	}
	switch {
	case at.Type == facts.Absent:
		c.Key = "missing"
	case public == nil:
		c.Key = "cannot be read"
	case !sameKey(certs[0], der):
		c.Key = "belongs to another certificate"
	case at.Mode&0o004 != 0:
		c.Key = "readable by everyone"
	default:
		c.Key = "ok"
	}
	if at.Type == facts.Regular {
		c.Key += fmt.Sprintf(" (%s:%s %04o)", at.Owner, at.Group, at.Mode)
	}
	return c, true
}

// active are the settings of a file that are set. Passwords are not told.
func active(h *facts.Host, p string) (FoundSettings, bool) {
	content, ok := h.Content(p)
	if !ok {
		return FoundSettings{}, false
	}
	s := FoundSettings{Path: p, Values: [][2]string{}}
	f, err := conffile.Parse(content)
	if err != nil {
		s.Problem = err.Error()
		return s, true
	}
	for _, k := range f.Keys() {
		v, _ := f.Get(k)
		text := v.String()
		if strings.HasSuffix(k, "_password") {
			text = "(set)"
		}
		s.Values = append(s.Values, [2]string{k, text})
	}
	return s, true
}

// AddressesIn are the host's addresses in a network, without those that change
// by themselves or are of one link only, in order.
func AddressesIn(n inventory.Network, h *facts.Host) []netip.Addr {
	var out []netip.Addr
	for _, p := range h.Addresses {
		a := p.Addr().WithZone("")
		if a.IsLoopback() || a.IsLinkLocalUnicast() || slices.Contains(out, a) {
			continue
		}
		if slices.ContainsFunc(n.CIDRs, func(c netip.Prefix) bool { return c.Contains(a) }) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
