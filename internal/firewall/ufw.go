package firewall

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
)

// ufw reads the tuples in ufw's own files for what it keeps, and the chains
// they are loaded into for what is live. Comments live in the tuples only.
func (v *View) ufw(h *facts.Host) {
	for _, v4 := range []bool{true, false} {
		file, tool, chain := ufwRules, "iptables", "ufw-user-input"
		if !v4 {
			file, tool, chain = ufwRules6, "ip6tables", "ufw6-user-input"
		}
		content, _ := h.Content(file)
		var kept []Opening
		for _, l := range strings.Split(string(content), "\n") {
			for _, o := range ufwTuple(l) {
				if o.Ours && o.Source.Addr().Is4() == v4 {
					kept = append(kept, o)
				}
			}
		}
		now := readSaved(h.Firewall[tool]).openings(chain, v4)
		for i, o := range now {
			if j := slices.IndexFunc(kept, o.same); j >= 0 && !o.Ours {
				now[i].Ours, now[i].Name = true, kept[j].Name
			}
		}
		v.Runtime, v.Kept = append(v.Runtime, now...), append(v.Kept, kept...)
	}
}

// ufwTuple reads a line that ufw writes above each rule:
//
//	### tuple ### allow tcp 16514 0.0.0.0/0 any 10.77.0.0/24 in comment=6c61
func ufwTuple(line string) []Opening {
	rest, ok := strings.CutPrefix(line, "### tuple ### ")
	if !ok {
		return nil
	}
	f := strings.Fields(rest)
	o := Opening{Text: "ufw " + rest}
	if n := len(f); n > 0 && strings.HasPrefix(f[n-1], "comment=") {
		raw, err := hex.DecodeString(strings.TrimPrefix(f[n-1], "comment="))
		if err == nil {
			o.Name, o.Ours = named(string(raw))
		}
		f = f[:n-1]
	}
	if len(f) < 7 || f[0] != "allow" || f[1] != "tcp" && f[1] != "any" || f[4] != "any" || f[len(f)-1] != "in" {
		return nil
	}
	if o.Source, ok = readSource(f[5]); !ok {
		return nil
	}
	if to, ok := readSource(f[3]); !ok || to.Bits() != 0 {
		return nil
	}
	var out []Opening
	for _, p := range strings.Split(f[2], ",") {
		if o.From, o.To, ok = readPorts(p, ":"); ok {
			out = append(out, o)
		}
	}
	return out
}
