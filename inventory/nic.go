package inventory

import (
	"fmt"
	"net/netip"
	"strings"
)

// nic reads a host's presence on one network.
func (l *loader) nic(r *reader, n *node, host string) (Nic, bool) {
	c := r.child(n, "nic."+n.label()+".")
	v := Nic{Source: sourceRange(n.rng)}
	network, known := l.nicNetwork(c)
	if known {
		v.Network = network.Name
	}
	fqdn, at, ok := c.text("fqdn", "")
	if ok {
		fqdn = strings.ToLower(fqdn)
		if problem := checkDNSName(fqdn); problem != "" {
			c.problem(at, fmt.Sprintf("Unfit name %q", fqdn), problem)
		} else {
			v.FQDN = fqdn
			l.claim(c, at, fqdn, host)
		}
	}
	seen := map[netip.Addr]bool{}
	for _, i := range c.items("addresses") {
		a, ok := c.addr(i)
		switch {
		case !ok:
			continue
		case seen[a]:
			c.problem(i, fmt.Sprintf("Address %s twice", a), "Remove one of them.")
			continue
		case known && !network.broken && !network.contains(a):
			c.problem(i, "Address outside its network", fmt.Sprintf("%s is in no range of network %q (%s). Mend the address, or add its range to the network.", a, network.Name, cidrs(network.CIDRs)))
			continue
		}
		seen[a] = true
		l.claim(c, i, a.String(), host)
		v.Addresses = append(v.Addresses, a)
	}
	r.bad = r.bad || c.bad
	return v, known && !c.bad
}

// nicNetwork finds the network of a nic: the attribute's, or the label's.
func (l *loader) nicNetwork(c *reader) (networkInfo, bool) {
	ref, _, ok := c.reference("network", "network")
	if ok {
		info, ok := l.networks[ref.inst.name]
		return info, ok
	}
	if c.n.attrs["network"] != nil {
		return networkInfo{}, false
	}
	label := c.n.label()
	d := l.decls["network"][label]
	switch {
	case d == nil:
		l.errorAt(c.n.labelRange(), fmt.Sprintf("Undeclared network %q", label), fmt.Sprintf(
			"A nic's label is the name of its network, and there is none of that name. Declare it, or write network = network.NAME in the block.%s", didYouMean(label, l.declared("network"))))
	case d.node.attrs["for_each"] != nil:
		l.errorAt(c.n.labelRange(), "Network without a key", fmt.Sprintf("Network %q has for_each, so name one instance in the block: network = network.%s[KEY].", label, label))
	default:
		info, ok := l.networks[label]
		return info, ok
	}
	c.bad = true
	return networkInfo{}, false
}

func cidrs(list []netip.Prefix) string {
	var out []string
	for _, p := range list {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}
