package firewall

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
)

// nft is what `nft -j list ruleset` prints, as far as it matters.
type nft struct {
	chains []nftChain
	rules  []nftRule
	bad    bool
}

type nftChain struct {
	Family, Table, Name string
	Type, Hook, Policy  string
}

func (c nftChain) place() string { return c.Family + " " + c.Table + " " + c.Name }

type nftRule struct {
	Family, Table, Chain string
	Comment              string
	Expr                 []map[string]json.RawMessage
}

func readNft(s string) nft {
	var doc struct {
		Nftables []struct {
			Chain *nftChain
			Rule  *nftRule
		}
	}
	if json.Unmarshal([]byte(s), &doc) != nil {
		return nft{bad: true}
	}
	var out nft
	for _, e := range doc.Nftables {
		if e.Chain != nil {
			out.chains = append(out.chains, *e.Chain)
		}
		if e.Rule != nil {
			out.rules = append(out.rules, *e.Rule)
		}
	}
	return out
}

// others are tables that programs make for themselves, each with chains that
// keep nothing out but what is theirs.
func foreign(c nftChain) bool {
	switch {
	case c.Table == "firewalld", strings.HasPrefix(c.Table, "libvirt_"), strings.HasPrefix(c.Table, "docker"), strings.HasPrefix(c.Table, "f2b-"), c.Table == "podman", c.Table == "netavark":
		return true
	case (c.Family == "ip" || c.Family == "ip6") && c.Table == "filter" && c.Name == "INPUT":
		return true // iptables over nftables
	}
	return false
}

// own are the chains that may keep connections to the host out.
func (n nft) own() []nftChain {
	var out []nftChain
	for _, c := range n.chains {
		if c.Type != "filter" || c.Hook != "input" || foreign(c) || c.Family != "inet" && c.Family != "ip" && c.Family != "ip6" {
			continue
		}
		if c.Policy == "drop" || slices.ContainsFunc(n.rules, func(r nftRule) bool { return r.in(c) && !r.only("accept") }) {
			out = append(out, c)
		}
	}
	return out
}

func (r nftRule) in(c nftChain) bool {
	return r.Family == c.Family && r.Table == c.Table && r.Chain == c.Name
}

// only reports whether the rule ends with that verdict.
func (r nftRule) only(verdict string) bool {
	if len(r.Expr) == 0 {
		return false
	}
	_, ok := r.Expr[len(r.Expr)-1][verdict]
	return ok
}

func (v *View) nftables(h *facts.Host) {
	n := readNft(h.Firewall["nft"])
	if n.bad {
		v.Problem = "nft's list of rules cannot be read"
		return
	}
	by := map[bool][]nftChain{}
	for _, c := range n.own() {
		if c.Family != "ip6" {
			by[true] = append(by[true], c)
		}
		if c.Family != "ip" {
			by[false] = append(by[false], c)
		}
		for _, r := range n.rules {
			if r.in(c) {
				v.Runtime = append(v.Runtime, r.openings(c)...)
			}
		}
	}
	for _, chains := range by {
		if len(chains) > 1 {
			v.Problem = fmt.Sprintf("more than one chain filters what comes in: %s and %s", chains[0].place(), chains[1].place())
		}
	}
	v.unfiltered = func(s netip.Prefix) bool { return len(by[s.Addr().Is4()]) == 0 }
	v.places = func(s netip.Prefix) []string {
		if c := by[s.Addr().Is4()]; len(c) > 0 {
			return []string{c[0].place()}
		}
		return nil
	}
	path, content, ok := firstFile(h, nftablesFiles)
	for _, c := range n.own() {
		lines, err := nftLines(string(content), c.place())
		if (!ok || err != nil) && v.Problem == "" {
			v.Problem = fmt.Sprintf("chain %s is live and %s does not define it as a block: write the rule there yourself", c.place(), orNothing(path))
		}
		for _, l := range lines.rules {
			if o, ok := readNftLine(l, c.place()); ok {
				v.Kept = append(v.Kept, o)
			}
		}
	}
}

func orNothing(path string) string {
	if path == "" {
		return nftablesFiles[0]
	}
	return path
}

// openings are what a rule accepts by ports and source alone.
func (r nftRule) openings(c nftChain) []Opening {
	o := Opening{From: 0, To: 65535, Place: c.place()}
	o.Name, o.Ours = named(r.Comment)
	var sources []netip.Prefix
	list := [][2]uint16{{0, 65535}}
	accept, tcp := false, true
	for _, e := range r.Expr {
		for k, raw := range e {
			switch k {
			case "accept":
				accept = true
			case "counter", "log":
			case "match":
				var m struct {
					Op   string
					Left struct {
						Payload struct{ Protocol, Field string }
					}
					Right json.RawMessage
				}
				if json.Unmarshal(raw, &m) != nil || m.Op != "==" && m.Op != "in" {
					return nil
				}
				switch p := m.Left.Payload; {
				case p.Protocol == "tcp" && p.Field == "dport":
					if list = nftPorts(m.Right); list == nil {
						return nil
					}
				case (p.Protocol == "ip" || p.Protocol == "ip6") && p.Field == "saddr":
					if sources = nftSources(m.Right); sources == nil {
						return nil
					}
				default:
					return nil
				}
			default:
				return nil
			}
		}
	}
	if !accept || !tcp {
		return nil
	}
	if sources == nil {
		if c.Family != "ip6" {
			sources = append(sources, everyone(true))
		}
		if c.Family != "ip" {
			sources = append(sources, everyone(false))
		}
	}
	var out []Opening
	for _, s := range sources {
		for _, p := range list {
			o.Source, o.From, o.To = s, p[0], p[1]
			o.Text = "nftables " + c.place()
			out = append(out, o)
		}
	}
	return out
}

// nftItems opens a set; anything else is one item.
func nftItems(raw json.RawMessage) []json.RawMessage {
	var set struct{ Set []json.RawMessage }
	if json.Unmarshal(raw, &set) == nil && set.Set != nil {
		return set.Set
	}
	return []json.RawMessage{raw}
}

func nftPorts(raw json.RawMessage) [][2]uint16 {
	var out [][2]uint16
	for _, i := range nftItems(raw) {
		var one uint16
		var r struct{ Range []uint16 }
		switch {
		case json.Unmarshal(i, &one) == nil:
			out = append(out, [2]uint16{one, one})
		case json.Unmarshal(i, &r) == nil && len(r.Range) == 2:
			out = append(out, [2]uint16{r.Range[0], r.Range[1]})
		default:
			return nil
		}
	}
	return out
}

func nftSources(raw json.RawMessage) []netip.Prefix {
	var out []netip.Prefix
	for _, i := range nftItems(raw) {
		var s string
		var p struct {
			Prefix struct {
				Addr string
				Len  int
			}
		}
		switch {
		case json.Unmarshal(i, &s) == nil:
		case json.Unmarshal(i, &p) == nil && p.Prefix.Addr != "":
			s = fmt.Sprintf("%s/%d", p.Prefix.Addr, p.Prefix.Len)
		default:
			return nil
		}
		x, ok := readSource(s)
		if !ok {
			return nil
		}
		out = append(out, x)
	}
	return out
}

// nftText is our rule as it stands in a file and on nft's command line.
func nftText(o Opening) string {
	ip := "ip"
	if !o.Source.Addr().Is4() {
		ip = "ip6"
	}
	return fmt.Sprintf("%s saddr %s tcp dport %s accept comment %q", ip, short(o.Source), ports(o.From, o.To, "-"), Mark(o.Name))
}

// readNftLine reads a line that nftText wrote.
func readNftLine(l, place string) (Opening, bool) {
	w := words(strings.TrimSpace(l))
	if len(w) != 9 || w[1] != "saddr" || w[3] != "tcp" || w[4] != "dport" || w[6] != "accept" || w[7] != "comment" {
		return Opening{}, false
	}
	o := Opening{Place: place}
	var ok, ok2 bool
	o.Name, o.Ours = named(w[8])
	o.Source, ok = readSource(w[2])
	o.From, o.To, ok2 = readPorts(w[5], "-")
	return o, ok && ok2 && o.Ours
}

// nftBlock is where a chain stands in a file.
type nftBlock struct {
	hook  int      // index of the line that says "hook input"
	end   int      // of the line that ends the block
	rules []string // the lines between
}

// nftLines finds the block of a base chain in the text of a file. It knows the
// form that nft itself prints, a block within a block, and gives up on others.
func nftLines(text, place string) (nftBlock, error) {
	f := strings.Fields(place)
	if len(f) != 3 {
		return nftBlock{}, fmt.Errorf("%q is not a chain", place)
	}
	table, chain := f[0]+" "+f[1], f[2]
	var path []string
	out := nftBlock{hook: -1}
	found := 0
	for i, l := range strings.Split(text, "\n") {
		t := nftCode(l)
		in := len(path) == 2 && path[0] == "table "+table && path[1] == "chain "+chain
		if in && strings.Contains(t, "hook input") && strings.HasSuffix(t, ";") {
			found++
			out.hook = i
		}
		if in && out.hook >= 0 && i > out.hook {
			out.rules = append(out.rules, l)
		}
		opens, closes := strings.Count(t, "{"), strings.Count(t, "}")
		switch {
		case opens == closes:
		case opens == closes+1 && strings.HasSuffix(t, "{"):
			head := strings.Join(strings.Fields(strings.TrimSuffix(t, "{")), " ")
			if head == "table "+f[1] {
				head = "table ip " + f[1]
			}
			path = append(path, head)
		case closes == opens+1 && len(path) > 0 && strings.HasPrefix(t, "}"):
			if in && found == 1 {
				out.end = i
			}
			path = path[:len(path)-1]
		case opens > closes:
			path = append(path, slices.Repeat([]string{t}, opens-closes)...)
		default:
			path = path[:max(0, len(path)-(closes-opens))]
		}
	}
	if found != 1 || len(path) != 0 {
		return nftBlock{}, fmt.Errorf("it does not hold the block of chain %s exactly once", place)
	}
	return out, nil
}

// nftCode is a line without its comment, its quoted text and outer spaces.
func nftCode(l string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(l); i++ {
		switch c := l[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '#':
			return strings.TrimSpace(b.String())
		default:
			b.WriteByte(c)
		}
	}
	return strings.TrimSpace(b.String())
}

// editNft puts our lines at the head of their chains and takes others out.
func editNft(text string, allow, closing []Opening) (string, error) {
	lines := strings.Split(text, "\n")
	drop := map[int]bool{}
	for _, o := range closing {
		b, err := nftLines(text, o.Place)
		if err != nil {
			return "", err
		}
		for i := b.hook + 1; i < b.end; i++ {
			if f, ok := readNftLine(lines[i], o.Place); ok && ours([]Opening{f}, []Opening{o}) {
				drop[i] = true
			}
		}
	}
	add := map[int][]string{}
	for _, o := range allow {
		b, err := nftLines(text, o.Place)
		if err != nil {
			return "", err
		}
		there := false
		for i := b.hook + 1; i < b.end; i++ {
			f, ok := readNftLine(lines[i], o.Place)
			there = there || ok && !drop[i] && ours([]Opening{f}, []Opening{o})
		}
		if !there {
			hook := lines[b.hook]
			add[b.hook] = append(add[b.hook], hook[:len(hook)-len(strings.TrimLeft(hook, " \t"))]+nftText(o))
		}
	}
	var out []string
	for i, l := range lines {
		if !drop[i] {
			out = append(out, l)
		}
		out = append(out, add[i]...)
	}
	return strings.Join(out, "\n"), nil
}
