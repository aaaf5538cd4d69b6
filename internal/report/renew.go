package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// RenewalRow is one line about one host in the summary of a scheduled run.
type RenewalRow struct {
	Host string `json:"host"`
	Text string `json:"text"`
}

// Renewals is what a scheduled run did, for mail or chat.
type Renewals struct {
	Run       string       `json:"run"`
	At        time.Time    `json:"at"`
	Hosts     int          `json:"hosts"`     // that were selected
	Contacted int          `json:"contacted"` // of them
	Renewed   []RenewalRow `json:"renewed,omitempty"`
	Lists     []RenewalRow `json:"lists,omitempty"`   // revocation lists, authority in place of the host
	Failed    []RenewalRow `json:"failed,omitempty"`  // with what the host or the connection said
	Held      []RenewalRow `json:"held,omitempty"`    // not done, and somebody has to do something
	Waiting   []RenewalRow `json:"waiting,omitempty"` // for their window
	Differs   []RenewalRow `json:"differs,omitempty"` // would be changed by apply
	Skipped   []RenewalRow `json:"skipped,omitempty"` // not looked at, and why
	// Next is when the first renewal of the other hosts is due; zero where that
	// is not known.
	Next     time.Time `json:"next,omitzero"`
	NextHost string    `json:"next_host,omitempty"`
	ExitCode int       `json:"exit_code"`
	Error    string    `json:"error,omitempty"` // why nothing was done
}

// Quiet reports whether there is nothing that somebody should read.
func (r *Renewals) Quiet() bool {
	return len(r.Renewed)+len(r.Lists)+len(r.Failed)+len(r.Held)+len(r.Differs) == 0
}

// Renewal writes the summary of a scheduled run as plain lines. Many hosts with
// the same text share a line. The error is the writer's.
func Renewal(w io.Writer, r *Renewals, o Options) error {
	p := newPage(o)
	verdict := "nothing to renew"
	var parts []string
	for _, k := range []struct {
		n    int
		what string
	}{{len(r.Renewed), "renewed"}, {len(r.Failed), "failed"}, {len(r.Held), "held"}, {len(r.Waiting), "waiting"}} {
		if k.n > 0 {
			parts = append(parts, count(k.n, "host")+" "+k.what)
		}
	}
	if len(parts) > 0 {
		verdict = strings.Join(parts, ", ")
	}
	p.linef("virtrust renew, %s: %s", r.At.UTC().Format("2006-01-02 15:04 UTC"), verdict)
	contacted := fmt.Sprintf("%d of %s contacted", r.Contacted, count(r.Hosts, "host"))
	if r.Run != "" {
		contacted += ", run " + Safe(r.Run)
	}
	p.linef("%s", contacted)
	for _, part := range []struct {
		title string
		rows  []RenewalRow
	}{
		{"Failed:", r.Failed}, {"Held:", r.Held}, {"Renewed:", r.Renewed}, {"Revocation lists:", r.Lists},
		{"Waiting:", r.Waiting}, {"Would be changed by apply:", r.Differs}, {"Not looked at:", r.Skipped},
	} {
		if len(part.rows) == 0 {
			continue
		}
		p.gap()
		p.linef("%s", p.strong.Render(part.title))
		for _, row := range grouped(part.rows) {
			p.hang("  ", row, nil)
		}
	}
	if !r.Next.IsZero() {
		p.gap()
		p.linef("Next: %s, %s", Safe(r.NextHost), day(r.Next))
	}
	return p.flush(w)
}

// grouped writes rows with the same text as one line.
func grouped(rows []RenewalRow) []string {
	var texts []string
	hosts := map[string][]string{}
	for _, r := range rows {
		if !slices.Contains(texts, r.Text) {
			texts = append(texts, r.Text)
		}
		hosts[r.Text] = append(hosts[r.Text], Safe(r.Host))
	}
	var out []string
	for _, t := range texts {
		names := hosts[t]
		who := strings.Join(names, ", ")
		if len(names) > 8 {
			who = fmt.Sprintf("%s and %d more", strings.Join(names[:6], ", "), len(names)-6)
		}
		if t == "" {
			out = append(out, who)
			continue
		}
		out = append(out, who+": "+SafeN(t, 600))
	}
	return out
}
