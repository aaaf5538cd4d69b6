package firewall

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/virtrust/virtrust/internal/facts"
)

// View is a host's firewall as one look saw it.
type View struct {
	Owner   Owner
	Beside  []Owner   // others that are active with rules of their own
	Runtime []Opening // what is open now
	Kept    []Opening // rules of ours that a reboot brings back
	// Problem says why no rule may be changed: the answer cannot be read, or
	// it is not clear where a rule belongs. Empty when all is well.
	Problem string

	places     func(source netip.Prefix) []string
	unfiltered func(source netip.Prefix) bool
}

// Look reads the firewall of a host whose Queries were asked.
func Look(h *facts.Host) View {
	v := View{places: func(netip.Prefix) []string { return []string{""} }, unfiltered: func(netip.Prefix) bool { return false }}
	v.Owner, v.Beside = Detect(h)
	switch v.Owner {
	case Firewalld:
		v.firewalld(h)
	case UFW:
		v.ufw(h)
	case Nftables:
		v.nftables(h)
	case Iptables:
		v.iptables(h)
	}
	return v
}

// Answer says how a wanted rule stands.
type Answer struct {
	// Missing is what has to be opened, by place and source.
	Missing []Opening
	// Wider are others' rules that open the ports to more than is wanted.
	Wider []Opening
}

// Open reports whether nothing is missing.
func (a Answer) Open() bool { return len(a.Missing) == 0 }

// Allowed compares a wanted rule with what was seen. A source is served by a
// rule of ours that is live and survives a reboot, or by anybody else's.
func (v View) Allowed(r Rule) Answer {
	var a Answer
	for _, s := range Tidy(r.Sources) {
		if v.unfiltered(s) {
			continue
		}
		for _, place := range v.places(s) {
			want := Opening{Name: r.Name, Ours: true, From: r.From, To: r.To, Source: s, Place: place}
			if !v.serves(want) {
				a.Missing = append(a.Missing, want)
			}
		}
	}
	for _, o := range v.Runtime {
		if o.Ours || o.From > r.From || o.To < r.To {
			continue
		}
		if !slices.ContainsFunc(r.Sources, func(s netip.Prefix) bool { return contains(s, o.Source) }) {
			a.Wider = append(a.Wider, o)
		}
	}
	return a
}

func (v View) serves(want Opening) bool {
	live, kept := false, false
	for _, o := range v.Runtime {
		if o.Place != want.Place || !o.covers(want.From, want.To, want.Source) {
			continue
		}
		if !o.Ours {
			return true
		}
		live = true
	}
	for _, o := range v.Kept {
		kept = kept || o.Place == want.Place && o.covers(want.From, want.To, want.Source)
	}
	return live && kept
}

// Stale lists rules of ours, live or kept, that no wanted rule asks for.
func (v View) Stale(want []Rule) []Opening {
	var out []Opening
	for _, o := range slices.Concat(v.Runtime, v.Kept) {
		if !o.Ours || slices.ContainsFunc(out, func(p Opening) bool { return p.same(o) && p.Place == o.Place && p.Name == o.Name }) {
			continue
		}
		if !slices.ContainsFunc(want, func(r Rule) bool {
			return (o.Name == "" || o.Name == r.Name) && o.From == r.From && o.To == r.To && slices.Contains(Tidy(r.Sources), o.Source)
		}) {
			out = append(out, o)
		}
	}
	return out
}

// String says what an opening lets in.
func (o Opening) String() string {
	who := o.Source.String()
	if o.Source.Bits() == 0 {
		who = "everyone"
	}
	what := "TCP port " + ports(o.From, o.To, "-")
	if o.From == 0 && o.To == 65535 {
		what = "every TCP port"
	}
	s := fmt.Sprintf("%s from %s", what, who)
	if o.Text != "" {
		s += " (" + o.Text + ")"
	}
	return s
}
