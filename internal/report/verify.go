package report

import (
	"fmt"
	"io"

	"github.com/charmbracelet/lipgloss"

	"github.com/virtrust/virtrust/plan"
)

// Limits up to which each check has its line and the dials are a square.
const (
	maxChecks = 30
	maxSquare = 12
)

// Verify writes what was checked on hosts and which host accepts which. Of
// many hosts only the counts and the exceptions are written. The error is the
// writer's.
func Verify(w io.Writer, checks []CheckRow, dials []VerifyRow, o Options) error {
	p := newPage(o)
	p.checks(checks)
	p.dials(dials)
	p.gap()
	badChecks, badDials := 0, 0
	for _, c := range checks {
		if !c.OK {
			badChecks++
		}
	}
	for _, d := range dials {
		if !d.OK {
			badDials++
		}
	}
	head, style := "Verified: ", &p.good
	if badChecks+badDials > 0 {
		head, style = "Not as it should be: ", &p.bad
	}
	text := fmt.Sprintf("%d of %s passed", len(checks)-badChecks, count(len(checks), "check"))
	if len(dials) > 0 {
		text += fmt.Sprintf(", %d of %s accepted", len(dials)-badDials, count(len(dials), "dial"))
	} else {
		text += "; no host dialled another"
	}
	if len(checks)+len(dials) == 0 {
		head, text, style = "Nothing was checked.", "", nil
	}
	p.hang(head, text, style)
	return p.flush(w)
}

func (p *page) checks(rows []CheckRow) {
	if len(rows) == 0 {
		return
	}
	p.gap()
	p.linef("%s", p.strong.Render("Checks:"))
	if len(rows) <= maxChecks || p.Verbose {
		names := 0
		for _, r := range rows {
			names = max(names, lipgloss.Width(SafeN(r.Host, 60)))
		}
		for _, r := range rows {
			text := pad(SafeN(r.Host, 60), names) + "  " + Safe(r.What)
			if r.Text != "" {
				text += ": " + Safe(r.Text)
			}
			if r.OK {
				p.hang("  ok    ", text, &p.good)
				continue
			}
			p.hang("  FAIL  ", text, &p.bad)
			if r.Hint != "" {
				p.hang("        hint: ", Safe(r.Hint), &p.quiet)
			}
		}
		return
	}
	var order []string
	passed, all := map[string]int{}, map[string]int{}
	var list []notice
	for _, r := range rows {
		if all[r.What] == 0 {
			order = append(order, r.What)
		}
		all[r.What]++
		if r.OK {
			passed[r.What]++
			continue
		}
		list = append(list, notice{severity: plan.Problem, code: r.What, host: r.Host, text: r.Text, hint: r.Hint})
	}
	for _, what := range order {
		head, style := "  ok    ", &p.good
		if passed[what] < all[what] {
			head, style = "  FAIL  ", &p.bad
		}
		p.hang(head, fmt.Sprintf("%s: %d of %d passed", Safe(what), passed[what], all[what]), style)
	}
	p.notices("Failed checks:", list)
}

// dials writes a square of hosts when it fits, and every refusal.
func (p *page) dials(rows []VerifyRow) {
	if len(rows) == 0 {
		return
	}
	var hosts []string
	known := map[string]bool{}
	bad := 0
	for _, r := range rows {
		for _, h := range []string{r.From, r.To} {
			if !known[h] {
				known[h] = true
				hosts = append(hosts, h)
			}
		}
		if !r.OK {
			bad++
		}
	}
	p.gap()
	p.linef("%s %d of %d accepted, between %s", p.strong.Render("Dials with the client certificate:"), len(rows)-bad, len(rows), count(len(hosts), "host"))
	if len(hosts) <= maxSquare {
		p.square(hosts, rows)
	}
	p.refusals(rows)
}

// square is a table of who is accepted by whom, if it is not too wide.
func (p *page) square(hosts []string, rows []VerifyRow) {
	wide := 2
	for _, h := range hosts {
		wide += 2 + max(4, lipgloss.Width(SafeN(h, 60)))
	}
	if wide > p.Width {
		return
	}
	type pair struct{ from, to string }
	result := map[pair]string{}
	for _, r := range rows {
		k := pair{r.From, r.To}
		switch {
		case !r.OK:
			result[k] = "FAIL"
		case result[k] == "":
			result[k] = "ok"
		}
	}
	columns := []column{{title: "  from \\ to"}}
	for _, h := range hosts {
		columns[0].cells = append(columns[0].cells, "  "+SafeN(h, 60))
	}
	for _, to := range hosts {
		c := column{title: SafeN(to, 60)}
		for _, from := range hosts {
			text := result[pair{from, to}]
			if text == "" {
				text = "-"
			}
			c.cells = append(c.cells, text)
		}
		c.style = func(i int) *lipgloss.Style {
			switch c.cells[i] {
			case "ok":
				return &p.good
			case "FAIL":
				return &p.bad
			}
			return nil
		}
		columns = append(columns, c)
	}
	p.table(columns, len(hosts))
}

// refusals writes what failed. A host that nobody accepts, or that accepts
// nobody, is one entry.
func (p *page) refusals(rows []VerifyRow) {
	out, failed := map[string]int{}, map[string]int{}
	for _, r := range rows {
		out[r.From]++
		if !r.OK {
			failed[r.From]++
		}
	}
	var byFrom, byTo []notice
	for _, r := range rows {
		switch {
		case r.OK:
		case out[r.From] > 1 && failed[r.From] == out[r.From]:
			byFrom = append(byFrom, notice{code: fmt.Sprintf("from %s, all %d dials", r.From, out[r.From]), text: r.Text, host: r.To})
		default:
			byTo = append(byTo, notice{code: "to " + r.To, text: r.Address + ": " + r.Text, host: r.From})
		}
	}
	p.notices("Accepted by no other host (dialled):", byFrom)
	p.notices("Not accepted (dialled from):", byTo)
}
