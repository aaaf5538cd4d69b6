// Package firewall answers which firewall owns a host, whether a port is open
// there, and what a rule of ours looks like. It is pure over facts: it reads
// what a look brought back and renders text, and changes nothing.
//
// Exactly one backend is changed, the one that owns the host. A rule of ours is
// recognised by its mark: a comment "virtrust:NAME" in nftables, iptables and
// ufw, and in firewalld, whose rules have no comment, by their priority.
package firewall

import (
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
)

// Owner is the firewall that owns a host.
type Owner string

// The owners, in the order in which they are looked for.
const (
	Firewalld Owner = "firewalld"
	UFW       Owner = "ufw"
	Nftables  Owner = "nftables"
	Iptables  Owner = "iptables"
	None      Owner = "none"
)

// Files that the owners keep their rules in. Those of a distribution that are
// not there are no error.
const (
	ufwConf      = "/etc/ufw/ufw.conf"
	ufwRules     = "/etc/ufw/user.rules"
	ufwRules6    = "/etc/ufw/user6.rules"
	firewalldDir = "/etc/firewalld/zones/"
)

var (
	nftablesFiles  = []string{"/etc/nftables.conf", "/etc/sysconfig/nftables.conf"} // Debian, EL
	iptablesFiles  = []string{"/etc/iptables/rules.v4", "/etc/sysconfig/iptables"}
	ip6tablesFiles = []string{"/etc/iptables/rules.v6", "/etc/sysconfig/ip6tables"}
)

// Queries is what has to be known about a host to judge its firewall.
func Queries() []facts.Query {
	qs := []facts.Query{facts.Firewall()}
	for _, u := range []string{"firewalld", "ufw", "nftables", "iptables", "ip6tables", "netfilter-persistent"} {
		qs = append(qs, facts.Unit(u+".service"))
	}
	for _, p := range slices.Concat([]string{ufwConf, ufwRules, ufwRules6}, nftablesFiles, iptablesFiles, ip6tablesFiles) {
		qs = append(qs, facts.Content(p))
	}
	return qs
}

// Detect tells who owns the host's packet filter, and which others are active
// with rules of their own beside it.
func Detect(h *facts.Host) (owner Owner, beside []Owner) {
	var found []Owner
	active := strings.Fields(h.Firewall["managers"])
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(active, n) })
	}
	if has("firewalld") {
		found = append(found, Firewalld)
	}
	if has("ufw") && ufwEnabled(h) {
		found = append(found, UFW)
	}
	if has("nftables") {
		if n := readNft(h.Firewall["nft"]); n.bad || len(n.own()) > 0 {
			found = append(found, Nftables)
		}
	}
	if has("iptables", "ip6tables", "netfilter-persistent") {
		// An empty set of rules that lets everything in filters nothing.
		if readSaved(h.Firewall["iptables"]).filters("INPUT") || readSaved(h.Firewall["ip6tables"]).filters("INPUT") {
			found = append(found, Iptables)
		}
	}
	if len(found) == 0 {
		return None, nil
	}
	return found[0], found[1:]
}

func ufwEnabled(h *facts.Host) bool {
	content, _ := h.Content(ufwConf)
	for _, l := range strings.Split(string(content), "\n") {
		if k, v, ok := strings.Cut(l, "="); ok && strings.TrimSpace(k) == "ENABLED" {
			return strings.EqualFold(strings.Trim(strings.TrimSpace(v), `"'`), "yes")
		}
	}
	return false
}

// firstFile is the first of the paths that is a file of the host.
func firstFile(h *facts.Host, paths []string) (string, []byte, bool) {
	for _, p := range paths {
		if content, ok := h.Content(p); ok {
			real, _, _ := h.Resolve(p)
			return real, content, true
		}
	}
	return "", nil, false
}
