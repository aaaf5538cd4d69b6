package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/plan"
)

// Plan writes a plan for people: hosts with the same change once, then what
// is not changed and why, what could not be read, the findings, and one line
// of summary at the end. The error is the writer's.
func Plan(w io.Writer, pl *plan.Plan, o Options) error {
	p := newPage(o)
	s := sortOut(pl)
	p.large = len(pl.Hosts) > manyHosts && !p.Verbose
	p.changes(s, pl, "  ")
	p.revocations("Revoked for good, when the hosts are changed:", pl.Revocations)
	p.exceptions(s)
	p.explain()
	p.gap()
	if n := len(pl.Revocations); n > 0 && len(s.change)+len(s.held)+len(s.unread)+len(s.readOnly) == 0 {
		p.linef("%s revoked, and new lists brought to %s.", count(n, "certificate"), count(len(pl.Hosts), "host"))
		return p.flush(w)
	}
	p.summary(s)
	return p.flush(w)
}

// revocations lists certificates by host.
func (p *page) revocations(title string, all []plan.Revocation) {
	var list []notice
	for _, r := range all {
		list = append(list, notice{code: r.Authority, host: r.Host, text: r.What() + ", serial " + r.Serial})
	}
	p.notices(title, list)
}

// A plan or report of more hosts than manyHosts is kept to about a screen:
// details of the largest group only, and of maxGroups groups their operations.
const (
	manyHosts = 40
	maxGroups = 4
)

// sorted is a plan's hosts by what becomes of them, each in the plan's order.
type sorted struct {
	change, held, unread, readOnly, nothing []*plan.HostPlan
	findings                                []notice
}

// sortOut follows the same order of cases as plan.Plan.Count; what only
// would change is kept apart from what needs nothing.
func sortOut(pl *plan.Plan) sorted {
	var s sorted
	add := func(host string, f plan.Finding) {
		if host == "" {
			host = f.Host
		}
		s.findings = append(s.findings, notice{severity: f.Severity, code: f.Code, host: host, text: f.Text, hint: f.Hint})
	}
	for i := range pl.Hosts {
		h := &pl.Hosts[i]
		held := h.Failure == nil && h.Held()
		switch {
		case h.Failure != nil:
			s.unread = append(s.unread, h)
		case held:
			s.held = append(s.held, h)
		case h.Changes():
			s.change = append(s.change, h)
		case len(h.Ops) > 0:
			s.readOnly = append(s.readOnly, h)
		default:
			s.nothing = append(s.nothing, h)
		}
		for _, f := range h.Findings {
			if !held || !f.Holds {
				add(h.Host, f)
			}
		}
	}
	for _, f := range pl.Findings {
		add("", f)
	}
	return s
}

// changes writes one block for each group of hosts. Of a large plan only the
// largest group has its details, and of many groups the smallest are counted.
func (p *page) changes(s sorted, pl *plan.Plan, indent string) {
	all := groups(s.change)
	first := ""
	if p.large {
		slices.SortStableFunc(all, func(a, b *group) int { return -cmp.Compare(len(a.hosts), len(b.hosts)) })
	}
	for i, g := range all {
		if p.large && i == maxGroups && len(all) > maxGroups+1 {
			p.rest(all[i:], indent)
			break
		}
		p.gap()
		p.hang("", p.title(g), &p.strong)
		p.brief = p.large && i > 0
		p.operations(g, pl.Created, indent)
		if p.brief && first == "" {
			first = g.hosts[0].Host
		}
		p.brief = false
	}
	if first != "" {
		p.gap()
		p.hang("", "Details of the smaller groups: --verbose, or --limit "+Safe(first)+".", &p.quiet)
	}
}

// rest names the hosts of the groups that are not shown.
func (p *page) rest(groups []*group, indent string) {
	var names []string
	for _, g := range groups {
		names = append(names, g.names()...)
	}
	p.gap()
	p.hang("", fmt.Sprintf("%d more groups with other changes, %s:", len(groups), count(len(names), "host")), &p.strong)
	p.hang(indent, hostList(names, false), nil)
}

// explain names the command that tells more of a code, where a code stands.
func (p *page) explain() {
	if p.code == "" {
		return
	}
	p.gap()
	p.hang("", "More about a code: virtrust explain "+p.code, &p.quiet)
}

func (p *page) title(g *group) string {
	h := g.hosts[0]
	text := fmt.Sprintf("%s: %s", hostList(g.names(), p.Verbose), count(len(h.Ops), "operation"))
	if d := h.Disrupts(); d != plan.DisruptNone {
		text += ", " + string(d)
	}
	return text
}

// exceptions writes everything but the changes.
func (p *page) exceptions(s sorted) {
	var held, unread, readOnly []notice
	waiting := 0
	for _, h := range s.held {
		waiting += len(h.Ops)
		for _, f := range h.Findings {
			if f.Holds {
				held = append(held, notice{severity: f.Severity, code: f.Code, host: h.Host, text: f.Text, hint: f.Hint})
			}
		}
	}
	for _, h := range s.unread {
		unread = append(unread, notice{severity: plan.Problem, code: h.Failure.Class, host: h.Host, text: h.Failure.Text, hint: h.Failure.Hint})
	}
	for _, h := range s.readOnly {
		readOnly = append(readOnly, notice{code: h.ReadOnly, host: h.Host, text: count(len(h.Ops), "operation") + " would be needed"})
	}
	p.notices("Only read, not changed:", readOnly)
	p.notices(fmt.Sprintf("Held, nothing is done there (%s, %s):", count(len(s.held), "host"), count(waiting, "operation")), held)
	p.notices("Could not be read:", unread)
	p.notices("Findings:", s.findings)
}

// summary is the last line of a plan, and the next renewal where there is
// nothing to do.
func (p *page) summary(s sorted) {
	if len(s.change)+len(s.held)+len(s.unread)+len(s.readOnly) == 0 {
		if len(s.nothing) == 0 {
			p.linef("Nothing to do: the plan has no hosts.")
			return
		}
		verb := "are"
		if len(s.nothing) == 1 {
			verb = "is"
		}
		problems := 0
		for _, f := range s.findings {
			if f.severity == plan.Problem {
				problems++
			}
		}
		if problems > 0 {
			p.hang("", fmt.Sprintf("Nothing that apply would change on %s, but %s above.", count(len(s.nothing), "host"), count(problems, "problem")), &p.bad)
		} else {
			p.hang("", fmt.Sprintf("Nothing to do: %s %s as the configuration wants.", count(len(s.nothing), "host"), verb), &p.good)
		}
		p.nextDue(s.nothing)
		return
	}
	// Not wrapped: it is one line for people and for grep.
	p.linef("%s", summaryText(s))
}

func summaryText(s sorted) string {
	verb := func(n int, one, many string) string {
		if n == 1 {
			return one
		}
		return many
	}
	text := fmt.Sprintf("%s %s, %d %s nothing, %d held, %d could not be read",
		count(len(s.change), "host"), verb(len(s.change), "changes", "change"), len(s.nothing), verb(len(s.nothing), "needs", "need"), len(s.held), len(s.unread))
	if n := len(s.readOnly); n > 0 {
		text += fmt.Sprintf(", %d only read", n)
	}
	if len(s.change) == 0 {
		return text
	}
	byClass := map[plan.Disruption]int{}
	for _, h := range s.change {
		byClass[h.Disrupts()]++
	}
	var parts []string
	for _, d := range []plan.Disruption{plan.DisruptVMRestart, plan.DisruptRestart, plan.DisruptReloadPerVM, plan.DisruptReload} {
		if n := byClass[d]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s on %s", d, count(n, "host")))
		}
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	return text + "; disruption: " + strings.Join(parts, ", ")
}

// nextDue names the host whose certificate wants renewal first.
func (p *page) nextDue(hosts []*plan.HostPlan) {
	var next *plan.HostPlan
	for _, h := range hosts {
		if !h.Due.IsZero() && (next == nil || h.Due.Before(next.Due)) {
			next = h
		}
	}
	if next != nil {
		p.hang("", fmt.Sprintf("Next renewal: %s on %s%s.", Safe(next.Host), day(next.Due), p.away(next.Due)), nil)
	}
}

// day is the date of t in UTC.
func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// away is " (in 12 days)", counted from Now; empty without one.
func (p *page) away(t time.Time) string {
	if p.Now.IsZero() {
		return ""
	}
	switch d := t.Sub(p.Now); {
	case d < 0:
		return " (" + span(-d) + " ago)"
	default:
		return " (in " + span(d) + ")"
	}
}

// span is a duration in the unit that people count it in.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return count(int(d/(24*time.Hour)), "day")
	case d >= 2*time.Hour:
		return count(int(d/time.Hour), "hour")
	case d >= 2*time.Minute:
		return count(int(d/time.Minute), "minute")
	}
	return d.Round(time.Second).String()
}
