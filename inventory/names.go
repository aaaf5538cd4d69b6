package inventory

import (
	"net/netip"
	"slices"
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
	return checkAnyName(strings.ToLower(s))
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
			ips = append(ips, a)
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
