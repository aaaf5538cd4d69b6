package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/plan"
)

// group is hosts with the same change: operation i of each is the same but
// for what is the host's own.
type group struct {
	hosts []*plan.HostPlan
	owns  []own
}

func (g *group) names() []string {
	out := make([]string, len(g.hosts))
	for i, h := range g.hosts {
		out[i] = h.Host
	}
	return out
}

// each gives one value per host of the group for operation i.
func each[T any, O plan.Op](g *group, i int, f func(O) T) []T {
	out := make([]T, len(g.hosts))
	for j, h := range g.hosts {
		out[j] = f(h.Ops[i].(O))
	}
	return out
}

func (g *group) reason(i int) string {
	return join(each(g, i, func(o plan.Op) string { return o.About().Reason }), g.owns, SafeRunes)
}

// groups puts hosts with the same change together, in the order of the first.
func groups(hosts []*plan.HostPlan) []*group {
	var out []*group
	byKey := map[string]*group{}
	for _, h := range hosts {
		o := ownOf(h)
		k := key(h, o)
		g := byKey[k]
		if g == nil {
			g = &group{}
			byKey[k] = g
			out = append(out, g)
		}
		g.hosts, g.owns = append(g.hosts, h), append(g.owns, o)
	}
	return out
}

// key is equal for hosts with the same change. It holds everything that a
// page shows of an operation.
func key(h *plan.HostPlan, own own) string {
	var b strings.Builder
	add := func(parts ...any) {
		for _, p := range parts {
			text, _ := own.general(fmt.Sprint(p))
			b.WriteString(text)
			b.WriteByte(1)
		}
	}
	for _, op := range h.Ops {
		add(op.Kind(), op.Subject(), op.About().Reason, op.Disrupts())
		if c := op.About().When; c != nil {
			fmt.Fprintf(&b, "%s %s %s %q\x01", c.Kind, c.Authority, c.CA, waitsFor(h, *c))
		}
		switch o := op.(type) {
		case plan.MakeDir:
			add(o.Mode, o.Owner, o.Group)
		case plan.WriteFile:
			add(o.Before.Type, o.After.Mode, o.After.Owner, o.After.Group, permissions(o.Before, o.After), own.digest(o.Content))
			for _, e := range o.Edits {
				add(e.Key, e.Old, e.New)
			}
		case plan.Link:
			add(o.Target, o.Before.Type, o.Before.Target)
		case plan.Remove:
			add(o.Before.Type)
		case plan.Enrol:
			p := o.Profile
			add(o.Certificate, o.Authority, o.Issuer, p.Organization, p.OrganizationalUnit, p.Usages, p.Algorithm(), p.KeyUsage, p.Lifetime,
				o.Owner, o.Group, o.KeyMode, o.Adopt != nil, o.Old != nil)
			// The shape of the names counts: a host that lacks the address of a
			// network stands apart.
			for _, n := range namesOf(p) {
				add(n)
			}
			for _, l := range o.Links {
				add(l.Path)
			}
			if o.Old != nil {
				gained, lost := namesChanged(o)
				add(o.Old.Issuer, len(gained), len(lost))
			}
		case plan.SetUnit:
			add(o.Enabled, o.Active, o.Running)
		case plan.Activate:
			add(o.How)
		case plan.AllowPort:
			add(o.Owner, o.Place, o.Range(), len(o.Sources))
		case plan.ClosePort:
			add(o.Owner, o.Place, o.Range(), len(o.Sources))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// namesOf lists the names and addresses that a profile asks for.
func namesOf(p pki.Profile) []string {
	out := slices.Clone(p.DNSNames)
	for _, a := range p.IPs {
		out = append(out, a.String())
	}
	return out
}

// namesChanged compares the names of the new certificate with the old one's.
func namesChanged(o plan.Enrol) (gained, lost []string) {
	if o.Old == nil {
		return nil, nil
	}
	old := slices.Clone(o.Old.DNSNames)
	for _, a := range o.Old.IPs {
		old = append(old, a.String())
	}
	want := namesOf(o.Profile)
	for _, n := range want {
		if !slices.Contains(old, n) {
			gained = append(gained, n)
		}
	}
	for _, n := range old {
		if !slices.Contains(want, n) {
			lost = append(lost, n)
		}
	}
	return gained, lost
}

// permissions says how owner and mode change; empty when they do not.
func permissions(a, b plan.State) string {
	if a.Type == "" || (a.Mode == b.Mode && a.Owner == b.Owner && a.Group == b.Group) || b.Owner == "" {
		return ""
	}
	return fmt.Sprintf("%s:%s %04o -> %s:%s %04o", a.Owner, a.Group, a.Mode, b.Owner, b.Group, b.Mode)
}
