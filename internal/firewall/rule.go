package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Rule is what a policy wants open: TCP ports, from sources.
type Rule struct {
	Name     string // [a-z0-9-], the label of the allow block
	From, To uint16 // first and last port
	Sources  []netip.Prefix
}

// Opening is one accepting rule that was found on a host, or one that we make:
// one range of ports from one source.
type Opening struct {
	Name     string // of a rule of ours; "" where the backend cannot carry one
	Ours     bool
	From, To uint16
	Source   netip.Prefix // 0.0.0.0/0 or ::/0 for everyone
	Place    string       // zone of firewalld; family, table and chain of nftables
	Text     string       // as people know it
}

// Mark is the comment that makes a rule ours.
func Mark(name string) string { return mark + name }

const mark = "virtrust:"

// Priority marks our rich rules in firewalld: a value that nobody else has a
// reason to choose. A positive priority also lets every rule of the owner's
// own speak first.
const Priority = 16514

// named gives the name in a mark.
func named(comment string) (string, bool) {
	name, ok := strings.CutPrefix(comment, mark)
	return name, ok && name != "" && CheckName(name) == nil
}

// CheckName refuses a name that a comment or a shell word could not carry.
func CheckName(name string) error {
	if name == "" || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
		return fmt.Errorf("%q is not a rule's name: use letters, digits and . _ -", name)
	}
	return nil
}

// Tidy sorts prefixes and drops those that lie in others.
func Tidy(in []netip.Prefix) []netip.Prefix {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b netip.Prefix) int {
		if c := a.Masked().Addr().Compare(b.Masked().Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var out []netip.Prefix
	for _, p := range in {
		p = p.Masked()
		if n := len(out); n > 0 && contains(out[n-1], p) {
			continue
		}
		out = append(out, p)
	}
	return out
}

func contains(wide, narrow netip.Prefix) bool {
	return wide.IsValid() && narrow.IsValid() && wide.Addr().Is4() == narrow.Addr().Is4() && wide.Bits() <= narrow.Bits() && wide.Contains(narrow.Addr())
}

func everyone(v4 bool) netip.Prefix {
	if v4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// covers reports whether the opening lets the source reach every port.
func (o Opening) covers(from, to uint16, source netip.Prefix) bool {
	return o.From <= from && o.To >= to && contains(o.Source, source)
}

// same reports whether both open the same ports to the same source.
func (o Opening) same(p Opening) bool {
	return o.From == p.From && o.To == p.To && o.Source == p.Source
}

// ports renders a range with the separator of a backend.
func ports(from, to uint16, sep string) string {
	if from == to {
		return strconv.Itoa(int(from))
	}
	return fmt.Sprintf("%d%s%d", from, sep, to)
}

// readPorts reads "22", "any" or a range with the separator.
func readPorts(s, sep string) (from, to uint16, ok bool) {
	if s == "any" {
		return 0, 65535, true
	}
	first, last, isRange := strings.Cut(s, sep)
	a, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return 0, 0, false
	}
	b := a
	if isRange {
		if b, err = strconv.ParseUint(last, 10, 16); err != nil || b < a {
			return 0, 0, false
		}
	}
	return uint16(a), uint16(b), true
}

// readSource reads an address or a prefix.
func readSource(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), !p.Addr().Is4In6()
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}

// short is a prefix as backends print it: a single address without its length.
func short(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
