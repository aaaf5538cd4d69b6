package ansible

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Expand gives the names of a pattern with ranges: kvm[01:20], rack-[a:c],
// kvm[1:9:2], several in one name. A name without ranges is itself.
func Expand(pattern string) ([]string, error) {
	if strings.ContainsRune(pattern, ':') {
		if a, err := netip.ParseAddr(strings.Trim(pattern, "[]")); err == nil {
			return []string{a.String()}, nil
		}
	}
	open := strings.IndexByte(pattern, '[')
	if open < 0 {
		return []string{pattern}, nil
	}
	length := strings.IndexByte(pattern[open:], ']')
	if length < 0 {
		return nil, fmt.Errorf("%q lacks its ]", pattern)
	}
	head, body := pattern[:open], pattern[open+1:open+length]
	members, err := sequence(body)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", pattern, err)
	}
	tails, err := Expand(pattern[open+length+1:])
	if err != nil {
		return nil, err
	}
	if len(members)*len(tails) > maxHosts {
		return nil, fmt.Errorf("%q is more than %d hosts", pattern, maxHosts)
	}
	out := make([]string, 0, len(members)*len(tails))
	for _, m := range members {
		for _, t := range tails {
			out = append(out, head+m+t)
		}
	}
	return out, nil
}

// sequence is what a range stands for: 01:20, a:f, 1:9:2.
func sequence(body string) ([]string, error) {
	parts := strings.Split(body, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, fmt.Errorf("[%s] is no range like [1:20]", body)
	}
	step := 1
	if len(parts) == 3 {
		n, err := strconv.Atoi(parts[2])
		if err != nil || n < 1 {
			return nil, fmt.Errorf("the step of [%s] is no number above 0", body)
		}
		step = n
	}
	from, to := parts[0], parts[1]
	if from == "" {
		from = "0"
	}
	letter := func(s string) bool { return len(s) == 1 && (s[0]|0x20) >= 'a' && (s[0]|0x20) <= 'z' }
	if letter(from) && letter(to) && from <= to {
		var out []string
		for c := int(from[0]); c <= int(to[0]); c += step {
			out = append(out, string(rune(c)))
		}
		return out, nil
	}
	a, errA := strconv.Atoi(from)
	b, errB := strconv.Atoi(to)
	switch {
	case errA != nil || errB != nil || a < 0 || a > b:
		return nil, fmt.Errorf("[%s] is no range like [1:20] or [a:f]", body)
	case (b-a)/step >= maxHosts:
		return nil, fmt.Errorf("[%s] is more than %d hosts", body, maxHosts)
	case len(from) > 1 && from[0] == '0' && len(from) != len(to):
		return nil, fmt.Errorf("[%s]: both ends need as many digits", body)
	}
	wide := 0
	if len(from) > 1 && from[0] == '0' {
		wide = len(from)
	}
	var out []string
	for n := a; n <= b; n += step {
		out = append(out, fmt.Sprintf("%0*d", wide, n))
	}
	return out, nil
}

// splitPort takes NAME:PORT and [IPv6]:PORT apart.
func splitPort(s string) (name, port string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return s, ""
	}
	digits := s[i+1:]
	if n, err := strconv.Atoi(digits); err != nil || n < 1 || n > 65535 {
		return s, ""
	}
	// An IPv6 address without brackets has no port.
	if _, err := netip.ParseAddr(s); err == nil {
		return s, ""
	}
	return s[:i], digits
}
