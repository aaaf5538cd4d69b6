package report

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/plan"
)

// operation is one line of a change and what is told below it.
type operation struct {
	mark    string // + new, ~ change, - remove, ! activate
	what    string
	reason  string
	details []detail
}

// detail is one line below an operation, beside its label if it has one. A
// label of one space continues the one above.
type detail struct{ label, text string }

// operations writes what is done on the hosts of a group, in its order.
func (p *page) operations(g *group, created time.Time, indent string) {
	var ops []operation
	dirs := -1
	var made []string
	for i, op := range g.hosts[0].Ops {
		if d, ok := op.(plan.MakeDir); ok {
			if dirs < 0 {
				dirs = len(ops)
				ops = append(ops, operation{mark: "+", reason: g.reason(i)})
			}
			made = append(made, Safe(d.Path))
			continue
		}
		o := p.operation(g, i, created)
		if a, ok := op.(plan.Activate); ok && completes(g.hosts[0].Ops[:i], a) {
			o.reason = ""
		}
		ops = append(ops, o)
	}
	if dirs >= 0 {
		p.directories(&ops[dirs], made)
	}
	if p.brief {
		var words []string
		for _, o := range ops {
			words = append(words, o.mark+" "+o.what)
		}
		p.hang(indent, strings.Join(words, "; "), nil)
		return
	}
	column := 0
	for _, o := range ops {
		if n := lipgloss.Width(o.what); n <= p.Width/2 {
			column = max(column, n)
		}
	}
	for _, o := range ops {
		p.operationLine(o, indent, column)
	}
}

// completes reports whether an operation before the activation gives the same
// reason, which then need not be read twice.
func completes(before []plan.Op, a plan.Activate) bool {
	return slices.ContainsFunc(before, func(o plan.Op) bool { return o.About().Task == a.Task && o.About().Reason == a.Reason })
}

func (p *page) operationLine(o operation, indent string, column int) {
	style := map[string]*lipgloss.Style{"+": &p.good, "~": &p.careful, "-": &p.bad, "!": &p.strong}[o.mark]
	head := indent + o.mark + " "
	line := pad(o.what, column) + "  " + o.reason
	if lipgloss.Width(head+line) <= p.Width {
		p.hang(head, line, style)
	} else {
		p.hang(head, o.what, style)
		o.details = append([]detail{{"reason", o.reason}}, o.details...)
	}
	label := 0
	for _, d := range o.details {
		label = max(label, len(d.label))
	}
	for _, d := range o.details {
		if d.label == "" {
			p.hang("      ", d.text, nil)
			continue
		}
		p.hang("      "+pad(d.label, label)+"  ", d.text, &p.quiet)
	}
}

// directories folds the directories of a change into one line.
func (p *page) directories(o *operation, made []string) {
	if len(made) == 1 {
		o.what = "directory " + made[0]
		return
	}
	o.what = fmt.Sprintf("%d directories", len(made))
	if top := commonParent(made); top != "/" {
		o.what += " in " + top
	}
	if p.Verbose {
		o.details = append(o.details, detail{"", strings.Join(made, ", ")})
	}
}

func commonParent(paths []string) string {
	top := path.Dir(paths[0])
	for _, q := range paths {
		for top != "/" && top != "." && q != top && !strings.HasPrefix(q, top+"/") {
			top = path.Dir(top)
		}
	}
	return top
}

func (p *page) operation(g *group, i int, created time.Time) operation {
	out := operation{reason: g.reason(i)}
	switch o := g.hosts[0].Ops[i].(type) {
	case plan.WriteFile:
		p.file(&out, g, i, o)
	case plan.Link:
		out.mark, out.what = mark(o.Before), "link "+Safe(o.Path)
		out.details = append(out.details, detail{"to", join(each(g, i, func(o plan.Link) string { return o.Target }), g.owns, SafeRunes)})
	case plan.Remove:
		out.mark, out.what = "-", "remove "+Safe(o.Path)
	case plan.Enrol:
		p.enrol(&out, g, i, o, created)
	case plan.SetUnit:
		out.mark, out.what = "~", Safe(o.Unit)+": "+unitState(o)
		if o.Running {
			out.details = append(out.details, detail{"disrupts", Safe(o.Service) + " is stopped for a moment; guests keep running"})
		}
	case plan.Activate:
		out.mark = "!"
		out.what = Safe(string(o.How) + " " + o.Unit)
		switch o.How {
		case plan.Restart:
			out.details = append(out.details, detail{"disrupts", "the daemon is away for a moment; guests keep running"})
		case plan.ReloadConsoles:
			out.what = "reload VNC consoles"
			out.details = append(out.details, detail{"disrupts", "nothing, each running guest reads its console's certificate again; open connections go on"})
		default:
			out.details = append(out.details, detail{"disrupts", "nothing, the daemon reads its certificates again"})
		}
	case plan.AllowPort, plan.ClosePort:
		p.port(&out, g, i, o)
	default:
		// A kind that this page does not know is named rather than left out.
		out.mark, out.what = "~", Safe(o.Kind()+" "+o.Subject())
	}
	if c := g.hosts[0].Ops[i].About().When; c != nil {
		out.details = append([]detail{{"waits", p.condition(g, *c)}}, out.details...)
	}
	return out
}

// condition says what an operation waits for. The hosts of a group wait for
// each other: each for all of them but itself.
func (p *page) condition(g *group, c plan.Condition) string {
	if len(g.hosts) == 1 {
		return c.Text(hostList(c.Hosts, p.Verbose), len(c.Hosts) > 1)
	}
	return c.Text("each other host of "+hostList(waitsFor(g.hosts[0], c), p.Verbose), false)
}

// waitsFor is the hosts of a condition and the one that waits, sorted.
func waitsFor(h *plan.HostPlan, c plan.Condition) []string {
	all := append([]string{h.Host}, c.Hosts...)
	slices.Sort(all)
	return all
}

// port is a rule of the firewall: what it is about, and who may connect.
func (p *page) port(out *operation, g *group, i int, o plan.Op) {
	rule, closes, _ := plan.PortOf(o)
	out.mark, out.what = "+", "open"
	if closes {
		out.mark, out.what = "-", "close"
	}
	out.what += Safe(fmt.Sprintf(" port %s/tcp in %s", rule.Range(), rule.Owner))
	from := func(o plan.Op) string {
		r, _, _ := plan.PortOf(o)
		const most = 8
		var list []string
		for n, s := range r.Sources {
			if n == most && !p.Verbose {
				list = append(list, fmt.Sprintf("and %d more", len(r.Sources)-most))
				break
			}
			list = append(list, strings.TrimSuffix(strings.TrimSuffix(s.String(), "/32"), "/128"))
		}
		return strings.Join(list, ", ")
	}
	texts := make([]string, 0, len(g.hosts))
	for _, h := range g.hosts {
		texts = append(texts, from(h.Ops[i]))
	}
	out.details = append(out.details, detail{"rule", Safe(rule.Name)})
	text := SafeN(texts[0], SafeRunes)
	if len(slices.Compact(texts)) > 1 {
		text = Safe(g.hosts[0].Host) + ": " + text + "; each host its own"
	}
	out.details = append(out.details, detail{"from", text})
}

func mark(before plan.State) string {
	if before.Type == "" {
		return "+"
	}
	return "~"
}

func unitState(o plan.SetUnit) string {
	enabled, active := "disable", "stop"
	if o.Enabled {
		enabled = "enable"
	}
	if o.Active {
		active = "start"
	}
	return enabled + " and " + active
}

func (p *page) file(out *operation, g *group, i int, o plan.WriteFile) {
	out.mark, out.what = mark(o.Before), "file "+Safe(o.Path)
	if change := permissions(o.Before, o.After); change != "" {
		out.details = append(out.details, detail{"access", Safe(change)})
	} else if o.Before.Type == "" && o.After.Owner != "" {
		out.details = append(out.details, detail{"access", Safe(fmt.Sprintf("%s:%s %04o", o.After.Owner, o.After.Group, o.After.Mode))})
	}
	if len(o.Edits) > 0 {
		out.what = "settings in " + Safe(o.Path)
		for j := range o.Edits {
			old := join(each(g, i, func(o plan.WriteFile) string { return o.Edits[j].Old }), g.owns, SafeRunes)
			now := join(each(g, i, func(o plan.WriteFile) string { return o.Edits[j].New }), g.owns, SafeRunes)
			if old == "" {
				old = "(not set)"
			}
			if now == "" {
				now = "(not set)"
			}
			out.details = append(out.details, detail{"", Safe(o.Edits[j].Key) + ": " + old + " -> " + now})
		}
		return
	}
	if b := pki.ParseBundle(o.Content); len(b.Certs) > 0 {
		for _, c := range b.Certs {
			name, err := pki.DNString(c.RawSubject)
			if err != nil {
				name = "an unreadable subject"
			}
			out.details = append(out.details, detail{"trusts", fmt.Sprintf("%s (until %s)", Safe(name), day(c.NotAfter))})
		}
	} else if lists, err := pki.ParseCRLs(o.Content); err == nil && len(lists) > 0 {
		for _, l := range lists {
			name, err := pki.DNString(l.RawIssuer)
			if err != nil {
				name = "an unreadable issuer"
			}
			out.details = append(out.details, detail{"revokes", fmt.Sprintf("%s of %s (list %s, until %s)", count(len(l.RevokedCertificateEntries), "certificate"), Safe(name), l.Number, day(l.NextUpdate))})
		}
	} else if len(o.Content) > 0 {
		out.details = append(out.details, detail{"content", fmt.Sprintf("%s, sha256 %s", count(len(o.Content), "byte"), short(plan.Digest(o.Content)))})
	}
}

// short is the first 12 characters of a digest.
func short(digest string) string { return Safe(digest[:min(12, len(digest))]) }
