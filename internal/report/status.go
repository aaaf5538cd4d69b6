package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	"github.com/virtrust/virtrust/plan"
)

// maxGood is how many certificates a table lists before those without
// anything to do are only counted.
const maxGood = 40

// Status writes the certificates as a table. When there are many, those that
// are well are counted and only the others are listed. The error is the
// writer's.
func Status(w io.Writer, rows []StatusRow, o Options) error {
	p := newPage(o)
	shown := rows
	if len(rows) > maxGood && !p.Verbose {
		shown = nil
		for _, r := range rows {
			if r.State != StateOK {
				shown = append(shown, r)
			}
		}
	}
	switch {
	case len(shown) > maxGood && !p.Verbose:
		p.statusGroups(shown)
	case len(shown) > 0:
		p.statusTable(shown)
	}
	p.explain()
	p.gap()
	p.statusSummary(rows)
	return p.flush(w)
}

// statusGroups writes a line for each state and certificate, with its hosts:
// the worst first.
func (p *page) statusGroups(rows []StatusRow) {
	type key struct{ state, certificate string }
	var order []key
	by := map[key][]StatusRow{}
	for _, r := range rows {
		k := key{r.State, r.Certificate}
		if by[k] == nil {
			order = append(order, k)
		}
		by[k] = append(by[k], r)
	}
	rank := func(s string) int { return -slices.Index(states, s) }
	slices.SortStableFunc(order, func(a, b key) int { return cmp.Compare(rank(a.state), rank(b.state)) })
	wide := 0
	for _, k := range order {
		wide = max(wide, lipgloss.Width(SafeN(k.state, 20)))
	}
	for _, k := range order {
		var hosts []string
		var first, last time.Time
		for _, r := range by[k] {
			hosts = append(hosts, r.Host)
			if !r.NotAfter.IsZero() {
				if first.IsZero() || r.NotAfter.Before(first) {
					first = r.NotAfter
				}
				if r.NotAfter.After(last) {
					last = r.NotAfter
				}
			}
		}
		text := hostList(hosts, false)
		if k.certificate != "" {
			text = SafeN(k.certificate, 60) + ": " + text
		}
		if !first.IsZero() {
			text += ", ends " + day(first)
			if day(last) != day(first) {
				text += ".." + day(last)
			}
		}
		p.hang("  "+pad(SafeN(k.state, 20), wide)+"  ", text, p.stateStyle(k.state))
	}
	p.statusNotes(rows)
}

// column is one column of a table. Style colours a cell by its row.
type column struct {
	title string
	cells []string
	style func(row int) *lipgloss.Style
}

// table writes columns two spaces apart. Empty columns are left out.
func (p *page) table(columns []column, rows int) {
	var used []column
	for _, c := range columns {
		if strings.Join(c.cells, "") != "" {
			used = append(used, c)
		}
	}
	widths := make([]int, len(used))
	for i, c := range used {
		widths[i] = lipgloss.Width(c.title)
		for _, cell := range c.cells {
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	line := func(cell func(i int) (string, *lipgloss.Style)) {
		var b strings.Builder
		for i := range used {
			text, style := cell(i)
			space := strings.Repeat(" ", widths[i]-lipgloss.Width(text))
			if style != nil && text != "" {
				text = style.Render(text)
			}
			b.WriteString(text)
			if i < len(used)-1 {
				b.WriteString(space + "  ")
			}
		}
		p.linef("%s", strings.TrimRight(b.String(), " "))
	}
	line(func(i int) (string, *lipgloss.Style) { return used[i].title, &p.strong })
	for r := range rows {
		line(func(i int) (string, *lipgloss.Style) {
			if used[i].style != nil {
				return used[i].cells[r], used[i].style(r)
			}
			return used[i].cells[r], nil
		})
	}
}

func (p *page) stateStyle(state string) *lipgloss.Style {
	switch state {
	case StateOK:
		return &p.good
	case StateDue, StateExpiring:
		return &p.careful
	}
	return &p.bad
}

func (p *page) statusTable(rows []StatusRow) {
	get := func(f func(r StatusRow) string) []string {
		out := make([]string, len(rows))
		for i, r := range rows {
			out[i] = f(r)
		}
		return out
	}
	cell := func(s string) string { return SafeN(s, 60) }
	columns := []column{
		{title: "HOST", cells: get(func(r StatusRow) string { return cell(r.Host) })},
		{title: "CERTIFICATE", cells: get(func(r StatusRow) string { return cell(r.Certificate) })},
		{title: "STATE", cells: get(func(r StatusRow) string { return cell(r.State) }), style: func(i int) *lipgloss.Style { return p.stateStyle(rows[i].State) }},
		{title: "LEFT", cells: get(daysLeft)},
		{title: "ENDS", cells: get(func(r StatusRow) string {
			if r.NotAfter.IsZero() {
				return ""
			}
			return day(r.NotAfter)
		})},
		{title: "DUE", cells: get(func(r StatusRow) string {
			if r.Due.IsZero() {
				return ""
			}
			return day(r.Due)
		})},
	}
	wide := []column{
		{title: "SERVED", cells: get(func(r StatusRow) string { return SafeN(r.Served, 16) })},
		{title: "ON DISK", cells: get(func(r StatusRow) string { return SafeN(r.OnDisk, 16) })},
	}
	if p.Width >= 120 || p.Verbose {
		columns = append(columns, wide...)
	}
	p.table(columns, len(rows))
	p.statusNotes(rows)
}

func daysLeft(r StatusRow) string {
	if r.NotAfter.IsZero() {
		return ""
	}
	return strconv.Itoa(r.DaysLeft) + "d"
}

// statusNotes says below the table what stands behind the states, the same
// note of many hosts once.
func (p *page) statusNotes(rows []StatusRow) {
	var list []notice
	for _, r := range rows {
		text := r.Note
		if r.State == StateDiffers && r.Served != "" && r.Served != r.OnDisk {
			text = strings.TrimPrefix(text+"; ", "; ") + "served " + short(r.Served) + ", on disk " + short(r.OnDisk)
		}
		if text == "" {
			continue
		}
		code := r.State
		var severity plan.Severity
		// A host that could not be read is told as in a plan: by the class.
		if class, rest, ok := strings.Cut(text, ": "); ok && r.State == StateUnreadable && r.Certificate == "" && codeLike.MatchString(class) {
			severity, code, text = plan.Problem, class, rest
		}
		if r.Certificate != "" {
			code += " " + r.Certificate
		}
		list = append(list, notice{severity: severity, code: code, host: r.Host, text: text})
	}
	p.notices("Notes:", list)
}

// states are those of a certificate, in the order of a summary.
var states = []string{StateOK, StateDue, StateExpiring, StateExpired, StateMissing, StateNotServed, StateDiffers, StateUnreadable}

// statusSummary counts the states and names the certificate that ends first.
func (p *page) statusSummary(rows []StatusRow) {
	if len(rows) == 0 {
		p.linef("No certificates: the configuration asks for none on these hosts.")
		return
	}
	hosts := map[string]bool{}
	counts := map[string]int{}
	first := -1
	certificates := 0
	for i, r := range rows {
		hosts[r.Host] = true
		counts[r.State]++
		if r.Certificate != "" {
			certificates++
		}
		if !r.NotAfter.IsZero() && (first < 0 || r.NotAfter.Before(rows[first].NotAfter)) {
			first = i
		}
	}
	var parts []string
	order := slices.Clone(states)
	for _, r := range rows {
		if !slices.Contains(order, r.State) {
			order = append(order, r.State)
		}
	}
	for _, s := range order {
		if n := counts[s]; n > 0 || s == StateOK {
			parts = append(parts, fmt.Sprintf("%d %s", n, Safe(s)))
		}
	}
	p.hang("", fmt.Sprintf("%s on %s: %s", count(certificates, "certificate"), count(len(hosts), "host"), strings.Join(parts, ", ")), nil)
	if first >= 0 {
		r := rows[first]
		verb := "ends"
		if r.DaysLeft < 0 || r.State == StateExpired {
			verb = "ended"
		}
		p.hang("", fmt.Sprintf("First: %s of %s %s %s%s", Safe(r.Certificate), Safe(r.Host), verb, day(r.NotAfter), p.away(r.NotAfter)), nil)
	}
}
