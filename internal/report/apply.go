package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	"github.com/virtrust/virtrust/plan"
)

// maxProofs is up to how many hosts each proof has its own line.
const maxProofs = 10

// results are a host's results in the order of a report, with what to know of
// each.
var results = []struct {
	result plan.Result
	title  string
	next   string
}{
	{plan.Unknown, "Unknown, the host could not be asked at the end:", "an unknown host puts itself back when its time is over, if it had not committed: look again with virtrust status"},
	{plan.WasReset, "Reverted, the host has its old state again:", ""},
	{plan.Failed, "Failed, nothing was changed there:", ""},
	{plan.Held, "Held, nothing was done there:", ""},
	{plan.Waiting, "Waiting for a signature, the key is kept on the host:", "apply again when the authority has signed"},
}

// Apply writes what an apply did: proofs first, then what went wrong and what
// to do, and a summary at the end. The error is the writer's.
func Apply(w io.Writer, r *plan.Report, o Options) error {
	p := newPage(o)
	p.large = len(r.Hosts) > manyHosts && !p.Verbose
	p.proofs(r)
	for _, k := range results {
		var list []notice
		for _, h := range r.Hosts {
			if h.Result == k.result {
				list = append(list, failure(h))
			}
		}
		p.notices(k.title, list)
	}
	p.waiting(r)
	p.revocations("Revoked:", r.Revoked)
	if len(r.Stopped) > 0 {
		p.gap()
		p.linef("%s", p.strong.Render("Stopped:"))
		for _, s := range r.Stopped {
			p.hang("  ", Safe(s), nil)
		}
	}
	p.explain()
	p.gap()
	p.outcome(r)
	return p.flush(w)
}

// waiting tells which operations were held for other hosts.
func (p *page) waiting(r *plan.Report) {
	var list []notice
	for _, h := range r.Hosts {
		subjects := map[string][]string{}
		var order []string
		for _, o := range h.HeldOps {
			var why []string
			for _, u := range o.For {
				why = append(why, u.Host+": "+u.Why)
			}
			text := "waits for " + strings.Join(why, "; ")
			if subjects[text] == nil {
				order = append(order, text)
			}
			subjects[text] = append(subjects[text], o.Subject)
		}
		for _, text := range order {
			list = append(list, notice{host: h.Host, code: strings.Join(subjects[text], ", "), text: text})
		}
	}
	p.notices("Held for other hosts, the rest was done:", list)
}

func failure(h plan.HostReport) notice {
	n := notice{host: h.Host, code: "no reason given"}
	if f := h.Failure; f != nil {
		n.code, n.text, n.hint = f.Class, f.Text, f.Hint
	}
	if h.Result != plan.Held && h.Result != plan.Waiting {
		n.severity = plan.Problem
	}
	if h.Step != "" {
		n.code += ", at " + h.Step
	}
	return n
}

// proofs tells what was seen of the hosts that changed. Of many hosts those
// that have the same proof are told together.
func (p *page) proofs(r *plan.Report) {
	var order []string
	hosts := map[string][]string{}
	changed := r.Count(plan.Changed)
	for _, h := range r.Hosts {
		if h.Result != plan.Changed {
			continue
		}
		text := proofText(h.Proof, changed <= maxProofs || p.Verbose)
		if hosts[text] == nil {
			order = append(order, text)
		}
		hosts[text] = append(hosts[text], h.Host)
	}
	if changed == 0 {
		return
	}
	p.gap()
	p.linef("%s", p.strong.Render("Changed:"))
	for _, text := range order {
		if changed <= maxProofs || p.Verbose {
			for _, h := range hosts[text] {
				p.proof(Safe(h), text)
			}
			continue
		}
		p.proof(hostList(hosts[text], false), text)
	}
}

// proof is one line, or two when it is long.
func (p *page) proof(hosts, text string) {
	if line := "  " + hosts + ": " + text; lipgloss.Width(line) <= p.Width {
		p.linef("%s", line)
		return
	}
	p.hang("  ", hosts+":", nil)
	p.hang("    ", text, nil)
}

// proofText is what was proved; in short it counts instead of naming addresses
// and peers, so that the same proof of many hosts is the same text.
func proofText(f *plan.Proof, names bool) string {
	if f == nil {
		return "no proof was made"
	}
	var parts []string
	list := func(all []string, noun string) string {
		if !names {
			return count(len(all), noun)
		}
		safe := make([]string, len(all))
		for i, s := range all {
			safe[i] = Safe(s)
		}
		return strings.Join(safe, ", ")
	}
	switch {
	case f.Served != "" && len(f.Addresses) > 0:
		parts = append(parts, "new leaf served on "+list(f.Addresses, "address"))
	case f.Served != "":
		parts = append(parts, "new leaf served")
	case len(f.Leaves) > 0:
		parts = append(parts, count(len(f.Leaves), "certificate")+" in place, no listener serves one")
	default:
		parts = append(parts, "files in place")
	}
	if len(f.Peers) > 0 {
		parts = append(parts, "accepted by "+list(f.Peers, "peer"))
	}
	if len(f.Checked) > 0 {
		parts = append(parts, count(len(f.Checked), "certificate")+" accepted by the host's QEMU")
	}
	if len(f.Consoles) > 0 {
		parts = append(parts, "new leaf on the console of "+list(f.Consoles, "guest"))
	}
	text := strings.Join(parts, ", ")
	if len(f.OldConsoles) > 0 {
		text += "; console not proved: " + Safe(strings.Join(f.OldConsoles, "; "))
	}
	if len(f.NotChecked) > 0 {
		text += "; not checked: " + Safe(strings.Join(f.NotChecked, "; "))
	}
	if f.NotProved != "" {
		text += "; not proved from a peer: " + Safe(f.NotProved)
	}
	return text
}

// outcome is the summary and, where the run is not complete, what to do next.
func (p *page) outcome(r *plan.Report) {
	var parts []string
	for _, k := range []plan.Result{plan.Changed, plan.Unchanged, plan.Held, plan.Waiting, plan.Failed, plan.WasReset, plan.Unknown} {
		if n := r.Count(k); n > 0 || k == plan.Changed || k == plan.Unchanged {
			parts = append(parts, fmt.Sprintf("%d %s", n, k))
		}
	}
	text := strings.Join(parts, ", ")
	if d := r.Ended.Sub(r.Started); d > 0 && !r.Started.IsZero() {
		text += " in " + d.Round(100*time.Millisecond).String()
	}
	if r.Run != "" {
		text += " (run " + Safe(r.Run) + ")"
	}
	for _, k := range results {
		if k.next != "" && r.Count(k.result) > 0 {
			p.hang("Next: ", k.next, &p.careful)
		}
	}
	if r.Complete() {
		p.linef("%s %s", p.good.Render("Complete:"), text)
		return
	}
	p.hang("Next: ", "mend what is named above, then plan and apply again: what is done is not done twice", &p.careful)
	p.linef("%s %s", p.bad.Render("Incomplete:"), text)
}

// EventLine is one step of an apply as one line, such as
// "kvm1: sign libvirt-server" or "kvm1: end: changed".
func EventLine(e plan.Event) string {
	line := Safe(e.Host) + ": " + Safe(e.Step)
	if e.Detail != "" {
		line += " " + Safe(e.Detail)
	}
	if e.Result != "" {
		line += ": " + Safe(string(e.Result))
	}
	return line
}

// HostLine is one line of all steps of a host, wrapped at the width. The last
// event has the result.
func HostLine(events []plan.Event, width int) string {
	var steps []string
	for i, e := range events {
		step, detail := Safe(e.Step), Safe(e.Detail)
		switch {
		case e.Result != "" && e.Step == "end":
			continue
		case detail == "":
			steps = append(steps, step)
		case i > 0 && events[i-1].Step == e.Step:
			steps = append(steps, detail)
		default:
			steps = append(steps, step+" "+detail)
		}
	}
	last := events[len(events)-1]
	p := newPage(Options{Width: width})
	end := Safe(string(last.Result))
	if d := Safe(last.Detail); d != "" {
		end = d + ": " + end
	}
	text := strings.Join(steps, ", ")
	if text != "" {
		text += ": "
	}
	p.hang(Safe(last.Host)+": ", text+end, nil)
	return strings.TrimSuffix(p.b.String(), "\n")
}
