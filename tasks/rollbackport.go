package tasks

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/virtrust/virtrust/internal/firewall"
	"github.com/virtrust/virtrust/plan"
)

// portStep reads "step N port allow|close NAME FIREWALL PORTS from SOURCES at
// PLACE". Journals of older versions end with the ports; their rules cannot be
// undone, and the port is nil.
func portStep(f []string, line string) (JournalStep, bool) {
	s := JournalStep{Number: f[1], Kind: f[3], Path: f[4]}
	if s.Kind != "allow" && s.Kind != "close" {
		return s, false
	}
	if len(f) < 9 || f[7] != "from" {
		return s, true
	}
	p := plan.Port{Name: f[4], Owner: f[5]}
	first, last, ranged := strings.Cut(f[6], "-")
	if !ranged {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil {
		return s, false
	}
	p.From, p.To = uint16(from), uint16(to)
	for text := range strings.SplitSeq(f[8], ",") {
		source, err := netip.ParsePrefix(text)
		if err != nil {
			return s, false
		}
		p.Sources = append(p.Sources, source)
	}
	if len(f) > 10 && f[9] == "at" {
		_, p.Place, _ = strings.Cut(line, " at ")
	}
	s.Port = &p
	return s, true
}

// port takes rules of ours away that were added, and adds those that were
// taken away.
func (u *undo) port(s JournalStep) error {
	if s.Port == nil {
		return fmt.Errorf("the journal does not tell who rule %q lets in: change the policy back and apply", s.Path)
	}
	p := *s.Port
	v := firewall.Look(u.host)
	if string(v.Owner) != p.Owner || v.Problem != "" {
		return fmt.Errorf("rule %q was made in %s, and now %s owns the host's firewall: change the rule there by hand", p.Name, p.Owner, v.Owner)
	}
	p.Managers = u.host.Firewall["managers"]
	rule := firewall.Rule{Name: p.Name, From: p.From, To: p.To, Sources: p.Sources}
	p.Sources = nil
	if s.Kind == "close" {
		for _, o := range v.Allowed(rule).Missing {
			if o.Place == p.Place {
				p.Sources = append(p.Sources, o.Source)
			}
		}
		if len(p.Sources) > 0 {
			u.ops = append(u.ops, plan.AllowPort{Meta: u.meta(plan.WaveListen), Port: p})
		}
		return nil
	}
	ours := slices.Concat(v.Runtime, v.Kept)
	for _, source := range rule.Sources {
		if slices.ContainsFunc(ours, func(o firewall.Opening) bool {
			return o.Ours && o.From == p.From && o.To == p.To && o.Source == source && o.Place == p.Place
		}) {
			p.Sources = append(p.Sources, source)
		}
	}
	if len(p.Sources) > 0 {
		u.ops = append(u.ops, plan.ClosePort{Meta: u.meta(plan.WaveClose), Port: p})
	}
	return nil
}
