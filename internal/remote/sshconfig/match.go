package sshconfig

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// match is OpenSSH's match_pattern: * and ? only.
func match(text, pattern string) bool {
	// Iterative, with one step back per star, so that no pattern costs more
	// than the product of both lengths.
	t, p, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			p = star + 1
			mark++
			t = mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchList matches a comma-separated list: a negated pattern that matches
// wins over all others.
func matchList(text, list string) bool {
	found := false
	for p := range strings.SplitSeq(list, ",") {
		p, negated := strings.CutPrefix(p, "!")
		if !match(text, p) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// matchHosts is the rule of a Host line.
func matchHosts(host string, patterns []string) bool {
	found := false
	for _, p := range patterns {
		p, negated := strings.CutPrefix(p, "!")
		if !match(host, p) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// matchNetwork is the rule of "Match localnetwork".
func matchNetwork(list string) (bool, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false, err
	}
	found := false
	for p := range strings.SplitSeq(list, ",") {
		p, negated := strings.CutPrefix(p, "!")
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return false, err
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, _ := netip.AddrFromSlice(n.IP)
			if !prefix.Contains(ip.Unmap()) {
				continue
			}
			if negated {
				return false, nil
			}
			found = true
		}
	}
	return found, nil
}

// verdict is what a Match line says of a host.
type verdict int

const (
	no verdict = iota
	yes
	undecided // a criterion needs a program to run, or is not known
)

// criteria judges a Match line. On undecided, what names the criterion.
func (p *pass) criteria(args []string) (v verdict, what string, err error) {
	v = yes
	given := 0
	for i := 0; i < len(args); i++ {
		name, value, hasValue := strings.Cut(args[i], "=")
		name, negated := strings.CutPrefix(name, "!")
		name = strings.ToLower(name)
		given++
		var ok bool
		switch name {
		case "all":
			if i != len(args)-1 || given > 2 {
				return no, "", fmt.Errorf("Match: all stands alone, or behind canonical or final")
			}
			ok = true
		case "canonical", "final":
			p.wantFinal = p.wantFinal || name == "final"
			ok = p.final
		case "host", "originalhost", "user", "localuser", "exec", "tagged", "localnetwork", "version", "sessiontype", "command":
			if !hasValue {
				if i++; i == len(args) {
					return no, "", fmt.Errorf("Match: %s has no value", name)
				}
				value = args[i]
			}
			switch name {
			case "host":
				ok = matchList(strings.ToLower(p.host()), strings.ToLower(value))
			case "originalhost":
				ok = matchList(strings.ToLower(p.query.Host), strings.ToLower(value))
			case "user":
				ok = matchList(p.user(), value)
			case "localuser":
				ok = matchList(p.query.Account, value)
			case "tagged":
				tag, _ := p.settings.Get("tag")
				ok = tag.Text == "" && value == "" || matchList(tag.Text, value)
			case "localnetwork":
				if ok, err = matchNetwork(value); err != nil {
					return no, "", fmt.Errorf("Match localnetwork: %w", err)
				}
			default:
				if v == yes {
					v, what = undecided, "Match "+name
				}
				continue
			}
		default:
			return no, "", fmt.Errorf("Match: %q is no criterion", name)
		}
		if ok == negated {
			v = no
		}
	}
	if given == 0 {
		return no, "", fmt.Errorf("Match has no criterion")
	}
	return v, what, nil
}
