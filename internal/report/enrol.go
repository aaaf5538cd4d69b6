package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/plan"
)

// maxNamed is up to how many hosts of a group each certificate's names are
// written out; of more hosts the first one is the example.
const maxNamed = 3

// enrol tells what the new certificate will be and what it replaces.
func (p *page) enrol(out *operation, g *group, i int, o plan.Enrol, created time.Time) {
	out.mark, out.what = "+", "certificate "+Safe(o.Certificate)
	if o.Old != nil {
		out.mark = "~"
	}
	add := func(label, format string, args ...any) {
		out.details = append(out.details, detail{label, fmt.Sprintf(format, args...)})
	}
	var usages []string
	for _, u := range o.Profile.Usages {
		usages = append(usages, Safe(string(u)))
	}
	add("signed by", "authority %s, for %s, as %s", Safe(o.Authority), span(o.Profile.Lifetime), strings.Join(usages, " and "))
	key := Safe(string(o.Profile.Algorithm())) + ", made on the host and kept there"
	if o.Owner != "" {
		key += fmt.Sprintf(" (%s:%s %04o)", Safe(o.Owner), Safe(o.Group), o.KeyMode)
	}
	add("key", "%s", key)
	add("subject", "%s", join(each(g, i, func(o plan.Enrol) string { return subjectOf(o.Profile) }), g.owns, SafeRunes))
	p.names(g, i, add)
	if o.Old != nil {
		p.replaced(g, i, o, created, add)
	}
	if len(o.Links) > 0 {
		var paths []string
		for _, l := range o.Links {
			paths = append(paths, Safe(l.Path))
		}
		text := strings.Join(paths, ", ")
		if o.Adopt != nil {
			text += " become links; the old pair is kept"
		}
		add("files", "%s", text)
	}
}

func (p *page) names(g *group, i int, add func(string, string, ...any)) {
	if !slices.ContainsFunc(g.hosts, func(h *plan.HostPlan) bool { return len(namesOf(h.Ops[i].(plan.Enrol).Profile)) > 0 }) {
		return
	}
	shown := g.hosts
	if len(shown) > maxNamed && !p.Verbose {
		shown = shown[:1]
	}
	label := "names"
	for _, h := range shown {
		names := namesOf(h.Ops[i].(plan.Enrol).Profile)
		for j := range names {
			names[j] = SafeN(names[j], 0)
		}
		text := strings.Join(names, ", ")
		if text == "" {
			text = "none"
		}
		if len(g.hosts) > 1 {
			text = Safe(h.Host) + ": " + text
		}
		add(label, "%s", text)
		label = " "
	}
	if len(shown) < len(g.hosts) {
		add(" ", "and so on, each host its own (all with --verbose)")
	}
}

// replaced compares with the certificate in place.
func (p *page) replaced(g *group, i int, o plan.Enrol, created time.Time, add func(string, string, ...any)) {
	ends := join(each(g, i, func(o plan.Enrol) string {
		if t, err := time.Parse(time.RFC3339, o.Old.NotAfter); err == nil {
			return day(t)
		}
		return o.Old.NotAfter
	}), g.owns, SafeRunes)
	add("ends", "%s -> about %s", ends, day(created.Add(o.Profile.Lifetime)))
	if len(g.hosts) == 1 {
		add("replaces", "serial %s of %s", Safe(o.Old.Serial), Safe(o.Old.Issuer))
	} else {
		add("replaces", "certificates of %s", join(each(g, i, func(o plan.Enrol) string { return o.Old.Issuer }), g.owns, SafeRunes))
	}
	for _, h := range g.hosts {
		gained, lost := namesChanged(h.Ops[i].(plan.Enrol))
		if len(gained)+len(lost) == 0 {
			continue
		}
		var parts []string
		for _, n := range gained {
			parts = append(parts, "+"+SafeN(n, 0))
		}
		for _, n := range lost {
			parts = append(parts, "-"+Safe(n))
		}
		text := strings.Join(parts, " ")
		if len(g.hosts) > 1 {
			text = Safe(h.Host) + ": " + text
		}
		add("changed", "%s", text)
		if len(g.hosts) > maxNamed && !p.Verbose {
			add(" ", "and so on, each host its own (all with --verbose)")
			break
		}
	}
}

func subjectOf(p pki.Profile) string {
	var parts []string
	for _, a := range []struct{ name, value string }{{"O", p.Organization}, {"OU", p.OrganizationalUnit}, {"CN", p.CommonName}} {
		if a.value != "" {
			parts = append(parts, a.name+"="+a.value)
		}
	}
	return strings.Join(parts, ",")
}
