package firewall

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
)

// saved is the filter table of what iptables-save prints, or of a file that
// iptables-restore reads.
type saved struct {
	policy map[string]string   // of chains
	rules  map[string][]string // by chain, without -A CHAIN
}

func readSaved(s string) saved {
	out := saved{policy: map[string]string{}, rules: map[string][]string{}}
	table := ""
	for _, l := range strings.Split(s, "\n") {
		l = strings.TrimSpace(l)
		switch {
		case strings.HasPrefix(l, "*"):
			table = l[1:]
		case table != "filter":
		case strings.HasPrefix(l, ":"):
			if f := strings.Fields(l[1:]); len(f) >= 2 {
				out.policy[f[0]] = f[1]
			}
		case strings.HasPrefix(l, "-A "):
			if chain, rule, ok := strings.Cut(l[3:], " "); ok {
				out.rules[chain] = append(out.rules[chain], rule)
			}
		}
	}
	return out
}

// filters reports whether the chain may keep anything out.
func (s saved) filters(chain string) bool {
	if s.policy[chain] == "DROP" {
		return true
	}
	for _, r := range s.rules[chain] {
		if !strings.HasSuffix(r, "-j ACCEPT") {
			return true
		}
	}
	return false
}

// openings are the rules of a chain that accept new TCP connections by ports
// and source alone. Others are left out: what they let in cannot be told.
func (s saved) openings(chain string, v4 bool) []Opening {
	var out []Opening
	for _, r := range s.rules[chain] {
		out = append(out, savedOpenings(r, v4)...)
	}
	return out
}

func savedOpenings(rule string, v4 bool) []Opening {
	w := words(rule)
	o := Opening{From: 0, To: 65535, Source: everyone(v4), Text: rule}
	var list []string
	accept := false
	for len(w) > 0 {
		k := w[0]
		if len(w) < 2 {
			return nil
		}
		arg := w[1]
		w = w[2:]
		switch k {
		case "-s":
			var ok bool
			if o.Source, ok = readSource(arg); !ok {
				return nil
			}
		case "-p":
			if arg != "tcp" && arg != "all" {
				return nil
			}
		case "-m":
			switch arg {
			case "tcp", "comment", "multiport", "conntrack", "state":
			default:
				return nil
			}
		case "--dport", "--dports":
			list = strings.Split(arg, ",")
		case "--ctstate", "--state":
			if arg != "NEW" && !strings.Contains(arg, "NEW,") && !strings.HasSuffix(arg, ",NEW") {
				return nil
			}
		case "--comment":
			o.Name, o.Ours = named(arg)
		case "-j":
			if arg != "ACCEPT" {
				return nil
			}
			accept = true
		default:
			return nil
		}
	}
	if !accept {
		return nil
	}
	if list == nil {
		return []Opening{o}
	}
	var out []Opening
	for _, p := range list {
		var ok bool
		if o.From, o.To, ok = readPorts(p, ":"); ok {
			out = append(out, o)
		}
	}
	return out
}

// words splits as iptables-save quotes.
func words(s string) []string {
	var out []string
	var b strings.Builder
	in, quoted := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '"':
			quoted, in = !quoted, true
		case c == ' ' && !quoted:
			if in {
				out = append(out, b.String())
				b.Reset()
			}
			in = false
		default:
			in = true
			b.WriteByte(c)
		}
	}
	if in {
		out = append(out, b.String())
	}
	return out
}

func (v *View) iptables(h *facts.Host) {
	filters := map[bool]bool{}
	for _, v4 := range []bool{true, false} {
		tool, files := family(v4)
		now := readSaved(h.Firewall[tool])
		filters[v4] = now.filters("INPUT")
		v.Runtime = append(v.Runtime, now.openings("INPUT", v4)...)
		if _, content, ok := firstFile(h, files); ok {
			for _, o := range readSaved(string(content)).openings("INPUT", v4) {
				if o.Ours {
					v.Kept = append(v.Kept, o)
				}
			}
		} else if filters[v4] && v.Problem == "" {
			v.Problem = fmt.Sprintf("%s has rules and %s is not there to keep them", tool, strings.Join(files, " or "))
		}
	}
	v.unfiltered = func(s netip.Prefix) bool { return !filters[s.Addr().Is4()] }
}

func family(v4 bool) (tool string, files []string) {
	if v4 {
		return "iptables", iptablesFiles
	}
	return "ip6tables", ip6tablesFiles
}

// savedLine is our rule in the words of iptables-save.
func savedLine(o Opening) string {
	return fmt.Sprintf("-A INPUT -s %s -p tcp -m tcp --dport %s -m comment --comment %q -j ACCEPT", o.Source, ports(o.From, o.To, ":"), Mark(o.Name))
}

// editSaved puts our lines before the first rule of INPUT in the filter table
// and takes others out. Nothing else of the file changes.
func editSaved(content string, allow, closing []Opening) (string, error) {
	lines := strings.SplitAfter(content, "\n")
	table, at, end := "", -1, -1
	var out []string
	for _, l := range lines {
		t := strings.TrimSpace(l)
		if strings.HasPrefix(t, "*") {
			table = t[1:]
		}
		if table == "filter" && end < 0 {
			if strings.HasPrefix(t, "-A INPUT ") {
				if ours(savedOpenings(strings.TrimPrefix(t, "-A INPUT "), true), closing) || ours(savedOpenings(strings.TrimPrefix(t, "-A INPUT "), false), closing) {
					continue
				}
				if at < 0 {
					at = len(out)
				}
			}
			if t == "COMMIT" {
				end = len(out)
			}
		}
		out = append(out, l)
	}
	if end < 0 {
		return "", fmt.Errorf("there is no filter table in it")
	}
	if at < 0 {
		at = end
	}
	var add []string
	for _, o := range allow {
		if l := savedLine(o) + "\n"; !contain(out, l) {
			add = append(add, l)
		}
	}
	return strings.Join(out[:at], "") + strings.Join(add, "") + strings.Join(out[at:], ""), nil
}

func contain(lines []string, l string) bool {
	for _, x := range lines {
		if strings.TrimSpace(x) == strings.TrimSpace(l) {
			return true
		}
	}
	return false
}

// ours reports whether what a line opens is one of our rules in the list.
func ours(found, list []Opening) bool {
	for _, f := range found {
		for _, o := range list {
			if f.Ours && f.Name == o.Name && f.same(o) {
				return true
			}
		}
	}
	return false
}
