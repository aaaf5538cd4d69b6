package inventory

import (
	"net/netip"
	"slices"
	"strings"
)

// firewallSources fills in what every host's rules let in. Rules take no
// names: a host whose address is a name counts with its nics alone.
func (l *loader) firewallSources() {
	var peers []netip.Prefix
	single := func(a netip.Addr) {
		a = a.Unmap().WithZone("")
		peers = append(peers, netip.PrefixFrom(a, a.BitLen()))
	}
	for i := range l.fleet.Hosts {
		h := &l.fleet.Hosts[i]
		for _, n := range h.Nics {
			for _, a := range n.Addresses {
				single(a)
			}
		}
		if a, err := netip.ParseAddr(h.Address); err == nil && a.Zone() == "" {
			single(a)
		}
	}
	slices.SortFunc(peers, netip.Prefix.Compare)
	peers = slices.Compact(peers)
	// Hosts share one slice: a fleet of n hosts has n peers, not n times n.
	known := map[string][]netip.Prefix{"peers": peers}
	for i := range l.fleet.Hosts {
		h := &l.fleet.Hosts[i]
		if h.Policy.Firewall == nil {
			continue
		}
		own := *h.Policy.Firewall
		own.Allows = slices.Clone(own.Allows)
		for j := range own.Allows {
			a := &own.Allows[j]
			if len(a.From) == 0 {
				a.From = defaultFrom(h)
			}
			key := strings.Join(a.From, " ")
			if _, ok := known[key]; !ok {
				known[key] = l.sources(a.From, peers)
			}
			a.Sources = known[key]
		}
		h.Policy.Firewall = &own
	}
}

// defaultFrom is who reaches a service by default: the networks that the host
// is on, or the other hosts where it is on none.
func defaultFrom(h *Host) []string {
	var out []string
	for _, n := range h.Nics {
		if !slices.Contains(out, n.Network) {
			out = append(out, n.Network)
		}
	}
	if len(out) == 0 {
		return []string{"peers"}
	}
	return out
}

func (l *loader) sources(from []string, peers []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range from {
		if s == "peers" {
			out = append(out, peers...)
		} else if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		} else {
			out = append(out, l.networks[s].CIDRs...)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
