package inventory

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/virtrust/virtrust/internal/pki"
)

// checkDNSName says what makes a name unfit for a certificate or a shell, or
// "". The name is lower-case.
func checkDNSName(s string) string {
	if err := pki.CheckHostname(s); err != nil {
		return sentence(err.Error())
	}
	return ""
}

// checkAnyName accepts a DNS name or an address.
func checkAnyName(s string) string {
	if looksLikeAddr(s) {
		_, problem := parseAddr(s)
		return problem
	}
	return checkDNSName(s)
}

var zone = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`)

// PeerAddress is the name or address by which other hosts reach this one: its
// Address, or where that is a link-local one with a zone of this machine, the
// first of its nics and names that others can use. Empty when there is none.
func (h *Host) PeerAddress() string {
	if a, err := netip.ParseAddr(h.Address); err != nil || a.Zone() == "" {
		return h.Address
	}
	for _, n := range h.Nics {
		if n.FQDN != "" {
			return n.FQDN
		}
		for _, a := range n.Addresses {
			return a.String()
		}
	}
	for _, n := range h.Names {
		return n
	}
	return ""
}

// checkHostAddress says what is wrong with what SSH is to dial, or "".
func checkHostAddress(s string) string {
	if strings.Contains(s, "@") {
		return "Write the user into an ssh block: user = …."
	}
	if host, port, found := strings.Cut(s, ":"); found && !strings.Contains(port, ":") && checkAnyName(strings.ToLower(host)) == "" {
		return "Write the port into an ssh block: port = …."
	}
	if strings.HasPrefix(s, "[") {
		return "Write the address without brackets."
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() != "" {
		if !a.IsLinkLocalUnicast() {
			return "Only a link-local address (fe80::…) has a zone."
		}
		if !zone.MatchString(a.Zone()) {
			return "The zone behind % is the name of a network interface of this machine."
		}
		return ""
	}
	return checkAnyName(strings.ToLower(s))
}

// checkJump says what is wrong with "[USER@]HOST[:PORT]", or "".
func checkJump(s string) string {
	const form = `Write "HOST", "USER@HOST", "HOST:PORT" or "USER@HOST:PORT"; an IPv6 address with a port in brackets.`
	user, rest, found := strings.Cut(s, "@")
	if !found {
		user, rest = "root", s
	}
	if !account.MatchString(user) {
		return form
	}
	host := rest
	if _, err := netip.ParseAddr(rest); err != nil {
		if h, port, err := net.SplitHostPort(rest); err == nil {
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				return form
			}
			host = h
		} else if inner, bracket := strings.CutPrefix(rest, "["); bracket {
			host = strings.TrimSuffix(inner, "]")
		}
	}
	// A jump host may be an alias of ~/.ssh/config, so only its signs are judged.
	if host == "" || strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:%") != "" || strings.HasPrefix(host, "-") {
		return form
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		return form
	}
	return ""
}

func looksLikeAddr(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || strings.Contains(s, ":")
}

// certificateNames are the names and addresses that a certificate carries on
// a host: of its nics on the certificate's networks, or of all nics and the
// host's own address where it names no network, and the host's further names.
func (l *loader) certificateNames(h *Host, c *Certificate) ([]string, []netip.Addr) {
	names := []string{}
	var ips []netip.Addr
	add := func(s string) {
		if a, err := netip.ParseAddr(s); err == nil {
			if a.Zone() == "" { // a zone means something on this machine only
				ips = append(ips, a)
			}
		} else if s != "" {
			names = append(names, strings.ToLower(s))
		}
	}
	on := func(network string) bool { return len(c.Networks) == 0 || slices.Contains(c.Networks, network) }
	for _, n := range h.Nics {
		if on(n.Network) {
			add(n.FQDN)
			ips = append(ips, n.Addresses...)
		}
	}
	if len(c.Networks) == 0 || l.addressOn(h.Address, c.Networks) {
		add(h.Address)
	}
	if len(c.Networks) == 0 || len(names)+len(ips) > 0 {
		for _, s := range h.Names {
			add(s)
		}
	}
	slices.Sort(names)
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(names), slices.Compact(ips)
}

// addressOn tells whether a host's address is an IP inside one of the
// networks.
func (l *loader) addressOn(address string, networks []string) bool {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(networks, func(n string) bool { return l.networks[n].contains(a) })
}
