package tasks

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
)

// migrationNetwork is the name by which a network is the one for guests' memory.
const migrationNetwork = "migration"

// Route is how a guest gets from one host to another.
type Route struct {
	From, To string
	// URI is what libvirt on From opens for a peer-to-peer migration.
	URI string
	// MigrateURI says to which address the guest's memory goes; empty leaves
	// it to the destination's own settings.
	MigrateURI string
	// TLSDestination is the name that the destination's QEMU certificate is
	// checked for; empty means the host of MigrateURI.
	TLSDestination string
	// Ports is the range on the destination from its qemu.conf, "MIN-MAX".
	Ports string
	// TLS tells that both ends' identities make an encrypted migration
	// possible; NoTLS says why not.
	TLS   bool
	NoTLS []string
	// Blocked says why there is no migration at all, encrypted or not.
	Blocked []string
	// Migration is the stricter of both hosts' policies; Forced tells that a
	// host's own libvirt refuses a migration without TLS.
	Migration inventory.Migration
	Forced    bool
}

// Between finds the route from one host to another by what both were seen to
// be. It asks nobody.
func Between(from, to End) Route {
	conf := readMigrationConf(to.Seen)
	r := Route{
		From: from.Host.Name, To: to.Host.Name, Ports: conf.ports(),
		URI:       "qemu+tls://" + uriHost(to.Host.PeerAddress(), to.port()) + "/system",
		Migration: stricter(from.Host.Migration, to.Host.Migration),
		Forced:    readMigrationConf(from.Seen).force || conf.force,
	}
	r.Blocked = control(from, to)
	if len(r.Blocked) > 0 && !(Dials(from.Host, to.Host) && Dials(to.Host, from.Host)) {
		r.Blocked = slices.Insert(r.Blocked, 0, "by policy "+from.Host.Name+" and "+to.Host.Name+" do not trust each other's authority (per = \"cluster\" keeps clusters apart)")
	}
	address, names, problem := dataAddress(from, to, conf)
	if problem != "" {
		r.Blocked = append(r.Blocked, problem)
	}
	if address != "" {
		r.MigrateURI = "tcp://" + bracketed(address)
	}
	// --tls-destination is known since libvirt 6.0 (libvirt.md §6).
	named := atLeast(from.libvirtVersion(), 6, 0)
	if !named {
		names = names[:1]
		if address != "" {
			names = []string{address}
		}
	}
	name, problems := data(from, to, conf, names)
	if named {
		r.TLSDestination = name
	}
	r.NoTLS = problems
	r.TLS = len(problems) == 0 && len(r.Blocked) == 0
	return r
}

// PlainAllowed reports whether policy and both hosts let a guest move without
// encryption.
func (r Route) PlainAllowed() bool {
	return r.Migration != inventory.MigrationRequired && !r.Forced
}

// Options are virsh's options for a migration over this route, without domain
// and URI. Without TLS the guest's memory goes in clear.
func (r Route) Options(tls bool) []string {
	out := []string{"--live", "--p2p"}
	if tls {
		out = append(out, "--tls")
		if r.TLSDestination != "" {
			out = append(out, "--tls-destination", r.TLSDestination)
		}
	}
	if r.MigrateURI != "" {
		out = append(out, "--migrateuri", r.MigrateURI)
	}
	return out
}

// control says why libvirt of one host could not open libvirt of the other.
func control(from, to End) []string {
	chain, problem := to.served()
	if problem != "" {
		return []string{to.Host.Name + " serves no certificate on port " + strconv.Itoa(to.port()) + ": " + problem}
	}
	var out []string
	fromCA, _ := from.Seen.Content(libvirtTrust)
	v := pki.JudgePeer(pki.PeerQuestion{Rules: pki.LibvirtRules(from.libvirtVersion()), Role: pki.UsageServer, Now: from.now(), Chain: chain, CA: fromCA, Host: to.Host.PeerAddress()})
	out = append(out, told(from.Host.Name+" refuses libvirt of "+to.Host.Name, v)...)
	cert, ok := from.Seen.Content(libvirtDir + "/clientcert.pem")
	if !ok {
		return append(out, from.Host.Name+" has no "+libvirtDir+"/clientcert.pem")
	}
	var client [][]byte
	for _, c := range pki.ParseBundle(cert).Certs {
		client = append(client, c.Raw)
	}
	toCA, _ := to.Seen.Content(libvirtTrust)
	v = pki.JudgePeer(pki.PeerQuestion{Rules: pki.LibvirtRules(to.libvirtVersion()), Role: pki.UsageClient, Now: to.now(), Chain: client, CA: toCA})
	return append(out, told("libvirt of "+to.Host.Name+" refuses "+from.Host.Name, v)...)
}

// data says under which of the names QEMU of one host accepts QEMU of the
// other, and why the two could not encrypt.
func data(from, to End, conf migrationConf, names []string) (string, []string) {
	var problems []string
	server, why := to.identity(pki.UsageServer)
	for _, p := range why {
		problems = append(problems, to.Host.Name+": "+p)
	}
	client, why := from.identity(pki.UsageClient)
	if !conf.verify && len(client) == 0 {
		// Nobody asks for it. The trust file is needed all the same.
		why = slices.DeleteFunc(why, func(p string) bool { return strings.HasSuffix(p, "client-cert.pem") })
	}
	for _, p := range why {
		problems = append(problems, from.Host.Name+": "+p)
	}
	if len(server) == 0 {
		return names[0], problems
	}
	name := names[0]
	var verdict pki.Verdict
	for i, n := range names {
		v := pki.JudgePeer(pki.PeerQuestion{Rules: pki.QEMURules(from.qemuVersion()), Role: pki.UsageServer, Now: from.now(), Chain: server, CA: from.qemuTrust(), Host: n})
		if i == 0 || verdict.Has("host-mismatch") && !v.Has("host-mismatch") {
			name, verdict = n, v
		}
	}
	problems = append(problems, told("QEMU of "+from.Host.Name+" refuses that of "+to.Host.Name, verdict)...)
	if conf.verify && len(client) > 0 {
		v := pki.JudgePeer(pki.PeerQuestion{Rules: pki.QEMURules(to.qemuVersion()), Role: pki.UsageClient, Now: to.now(), Chain: client, CA: to.qemuTrust()})
		problems = append(problems, told("QEMU of "+to.Host.Name+" refuses that of "+from.Host.Name, v)...)
	}
	return name, problems
}

func told(head string, v pki.Verdict) []string {
	var out []string
	for _, p := range v.Problems {
		out = append(out, head+": "+p.Text)
	}
	return out
}

// dataAddress chooses where the guest's memory goes: an address of the
// migration network when both hosts are on it, else the destination's own
// choice, else the address by which hosts know it. Names are what its QEMU
// certificate may be checked for, the best first; there is at least one.
func dataAddress(from, to End, conf migrationConf) (address string, names []string, problem string) {
	fallback := []string{to.Host.PeerAddress()}
	for _, n := range to.Host.Nics {
		if n.FQDN != "" && !slices.Contains(fallback, n.FQDN) {
			fallback = append(fallback, n.FQDN)
		}
	}
	mine, okFrom := nicOn(from.Host, migrationNetwork)
	its, okTo := nicOn(to.Host, migrationNetwork)
	if okFrom && okTo {
		for _, a := range its.Addresses {
			sameFamily := func(b netip.Addr) bool { return a.Is4() == b.Is4() }
			if !slices.ContainsFunc(mine.Addresses, sameFamily) {
				continue
			}
			if listens(conf.address, a) {
				names = []string{a.String()}
				if its.FQDN != "" {
					names = []string{its.FQDN, a.String()}
				}
				return a.String(), append(names, fallback...), ""
			}
			problem = to.Host.Name + " takes migrations on " + conf.address + " alone (migration_address in " + qemuConf + "), and its address on the migration network is " + a.String()
		}
		if problem != "" {
			return "", fallback, problem
		}
	}
	if conf.host != "" {
		return "", append(fallback, conf.host), ""
	}
	return to.Host.PeerAddress(), fallback, ""
}

func nicOn(h *inventory.Host, network string) (inventory.Nic, bool) {
	for _, n := range h.Nics {
		if n.Network == network && len(n.Addresses) > 0 {
			return n, true
		}
	}
	return inventory.Nic{}, false
}

// listens reports whether a migration_address takes connections to a.
func listens(setting string, a netip.Addr) bool {
	if setting == "" {
		return true
	}
	s, err := netip.ParseAddr(strings.Trim(setting, "[]"))
	if err != nil {
		return true // a name: the host knows what it means
	}
	return s == a || s.IsUnspecified() && (s.Is6() || a.Is4())
}

var strictness = []inventory.Migration{inventory.MigrationOff, inventory.MigrationAvailable, inventory.MigrationRequired}

func stricter(a, b inventory.Migration) inventory.Migration {
	if slices.Index(strictness, a) < slices.Index(strictness, b) {
		return b
	}
	return a
}

func uriHost(address string, port int) string {
	if port != defaultPort {
		return net.JoinHostPort(address, strconv.Itoa(port))
	}
	return bracketed(address)
}

func bracketed(address string) string {
	if strings.Contains(address, ":") {
		return "[" + address + "]"
	}
	return address
}

// packageVersion finds major and minor in 9.0.0-4+deb12u2 or 1:7.2+dfsg-7.
var packageVersion = regexp.MustCompile(`^(?:[0-9]+:)?([0-9]{1,6})\.([0-9]{1,6})`)

// atLeast compares a package's version. One that cannot be read counts as new
// enough: hosts below libvirt 6.2 are not supported at all.
func atLeast(version string, major, minor int) bool {
	m := packageVersion.FindStringSubmatch(version)
	if m == nil {
		return true
	}
	a, _ := strconv.Atoi(m[1])
	b, _ := strconv.Atoi(m[2])
	return a > major || a == major && b >= minor
}
