package inventory

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/virtrust/virtrust/internal/pki"
)

func (l *loader) decodeNetworks() {
	for _, d := range l.order["network"] {
		for _, i := range d.instances {
			if !l.unique("network", i) {
				continue
			}
			r := l.instanceReader(d.node, i)
			v := Network{Name: i.name, Discover: r.flag("discover", false), Source: sourceRange(d.node.rng)}
			items, ok := r.list("cidrs")
			for _, x := range items {
				if p, ok := r.prefix(x); ok {
					v.CIDRs = append(v.CIDRs, p)
				}
			}
			if len(items) == 0 && !r.bad && d.node.attrs["cidrs"] != nil {
				l.errorAt(d.node.attrs["cidrs"].expr.Range(), "Network without addresses", `Give at least one range: cidrs = ["10.0.0.0/24"].`)
			}
			l.fleet.Networks = append(l.fleet.Networks, v)
			l.networks[i.name] = networkInfo{v, r.bad || !ok}
		}
	}
}

// networkInfo is a network, and whether its addresses are only partly known
// because of a mistake.
type networkInfo struct {
	Network
	broken bool
}

func (n networkInfo) contains(a netip.Addr) bool {
	for _, p := range n.CIDRs {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// instanceReader reads a block once for one instance of it.
func (l *loader) instanceReader(n *node, i *instance) *reader {
	return &reader{l: l, n: n, scope: func(*attr) *scope { return i.scope }, origins: map[string]Range{}}
}

// unique refuses a second instance of one name among its kind.
func (l *loader) unique(kind string, i *instance) bool {
	first, taken := l.names[kind+" "+i.name]
	if !taken {
		l.names[kind+" "+i.name] = i.decl.node
		return true
	}
	note := ""
	if i.scope.each != nil {
		note = i.scope.each.note()
	}
	l.errorAt(i.decl.node.labelRange(), fmt.Sprintf("Second %s %q", kind, i.name), fmt.Sprintf(
		"The name is unique in the fleet, and %s has it already. Rename one of them.", sourceRange(first.rng))+note)
	return false
}

// prefix reads a range of addresses in CIDR notation.
func (r *reader) prefix(i item) (netip.Prefix, bool) {
	s, ok := r.asText(i)
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case strings.Contains(s, "%"):
		r.problem(i, fmt.Sprintf("Unfit CIDR %q", s), "A range of addresses has no zone. Leave out the % and what follows it.")
	case err != nil:
		detail := `Write an address and a length, such as "10.0.0.0/24" or "2001:db8::/64".`
		if a, err := netip.ParseAddr(s); err == nil {
			detail = fmt.Sprintf("A single address is %q.", fmt.Sprintf("%s/%d", a.WithZone(""), a.BitLen()))
		}
		r.problem(i, fmt.Sprintf("Unfit CIDR %q", s), detail)
	case p.Addr().Is4In6():
		r.problem(i, fmt.Sprintf("Unfit CIDR %q", s), "Write IPv4 ranges as IPv4.")
	case p.Masked() != p:
		r.problem(i, "Host bits in a CIDR", fmt.Sprintf("%s has bits set behind its length. Write %s.", p, p.Masked()))
	default:
		return p, true
	}
	return netip.Prefix{}, false
}

// addr reads one address of a host.
func (r *reader) addr(i item) (netip.Addr, bool) {
	s, ok := r.asText(i)
	if !ok {
		return netip.Addr{}, false
	}
	a, problem := parseAddr(s)
	if problem != "" {
		r.problem(i, fmt.Sprintf("Unfit address %q", s), problem)
		return netip.Addr{}, false
	}
	return a, true
}

// parseAddr says what is wrong with an address, or "".
func parseAddr(s string) (netip.Addr, string) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, `Write an IP address, such as "10.0.0.1" or "2001:db8::1".`
	}
	if err := pki.CheckIP(a); err != nil {
		return a, err.Error() + "."
	}
	return a, ""
}
