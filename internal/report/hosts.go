package report

import (
	"fmt"
	"strconv"
	"strings"
)

// maxRuns is how many names or runs of names a short list of hosts shows.
const maxRuns = 4

// hostList names hosts in their order. Neighbours that differ in their last
// number only become a run, kvm1..kvm480; a long list ends with how many more
// there are. With all every name is written.
func hostList(hosts []string, all bool) string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = SafeN(h, 80)
	}
	if all || len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	type run struct {
		text string
		n    int
	}
	var runs []run
	for i := 0; i < len(names); {
		j := i + 1
		for j < len(names) && follows(names[j-1], names[j]) {
			j++
		}
		if j-i >= 3 {
			runs = append(runs, run{names[i] + ".." + names[j-1], j - i})
			i = j
			continue
		}
		runs = append(runs, run{names[i], 1})
		i++
	}
	shown := runs[:min(len(runs), maxRuns)]
	var parts []string
	left, folded := len(names), false
	for _, r := range shown {
		parts = append(parts, r.text)
		left -= r.n
		folded = folded || r.n > 1
	}
	text := strings.Join(parts, ", ")
	if left > 0 {
		return fmt.Sprintf("%s and %d more", text, left)
	}
	if folded {
		return fmt.Sprintf("%s (%d)", text, len(names))
	}
	return text
}

// follows reports whether b is a with its last number plus one.
func follows(a, b string) bool {
	ai, aj := lastNumber(a)
	bi, bj := lastNumber(b)
	if ai == aj || bi == bj || a[:ai] != b[:bi] || a[aj:] != b[bj:] {
		return false
	}
	x, errX := strconv.ParseUint(a[ai:aj], 10, 63)
	y, errY := strconv.ParseUint(b[bi:bj], 10, 63)
	padded := a[ai] == '0' || b[bi] == '0'
	return errX == nil && errY == nil && y == x+1 && (!padded || aj-ai == bj-bi)
}

// lastNumber is where the digits of a host's own name (before the first dot)
// that come last begin and end.
func lastNumber(s string) (from, to int) {
	to = len(s)
	if i := strings.IndexByte(s, '.'); i >= 0 {
		to = i
	}
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	for to > 0 && !digit(s[to-1]) {
		to--
	}
	for from = to; from > 0 && digit(s[from-1]); from-- {
	}
	return from, to
}
