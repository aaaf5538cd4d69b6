package tasks

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"crypto"
	"crypto/x509"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/plan"
)

// State is one certificate of a host as it was seen.
type State struct {
	Certificate string
	Served      string // short digest of the leaf that the listener shows; empty without listener
	OnDisk      string // short digest; empty when there is none
	NotAfter    time.Time
	DaysLeft    int
	Due         time.Time
	State       string // ok, due, expired, missing, differs
	Note        string
}

// Status gives the state of every certificate among a host's tasks.
func Status(all []plan.Task, h *facts.Host, now time.Time) []State {
	var out []State
	for _, t := range all {
		if l, ok := t.(*crlFile); ok {
			if s, ok := l.status(h, now); ok {
				out = append(out, s)
			}
		}
		c, ok := t.(*certificate)
		if !ok {
			continue
		}
		s := State{Certificate: c.cert.Name, State: "ok"}
		leaf := c.leaf(h)
		if leaf == nil {
			s.State, s.Note = "missing", "no certificate in "+c.certPath()
			out = append(out, s)
			continue
		}
		s.OnDisk, s.NotAfter = short(leaf.Raw), leaf.NotAfter
		s.DaysLeft = int(leaf.NotAfter.Sub(now).Hours() / 24)
		s.Due, _ = c.Due(h)
		d := c.decide(h, now)
		switch {
		case !leaf.NotAfter.After(now):
			s.State = "expired"
		case d.Issue && (d.Urgency == pki.Urgent || d.Urgency == pki.Emergency):
			s.State, s.Note = "due", string(d.Urgency)+": "+d.Reason
		case d.Issue && !s.Due.After(now):
			s.State = "due"
		case d.Issue:
			s.State, s.Note = "differs", d.Reason
		}
		if c.serves {
			seen := h.Served[servedAt(c.port)]
			switch {
			case len(seen.Chain) == 0:
				s.State, s.Note = "not served", seen.Problem
			default:
				s.Served = short(seen.Chain[0])
				if string(seen.Chain[0]) != string(leaf.Raw) {
					s.State, s.Note = "differs", "the listener shows another certificate"
				}
			}
		}
		out = append(out, s)
	}
	return out
}

func short(der []byte) string { return plan.Digest(der)[:12] }

// Check is one thing that was proved or not.
type Check struct {
	What string
	OK   bool
	Text string
	Hint string
}

// Checks judges what a host has and serves, beyond what plan compares: by the
// rules of the libvirt that runs there, and for every name that peers dial.
func Checks(all []plan.Task, h *facts.Host, now time.Time) []Check {
	var out []Check
	for _, t := range all {
		c, ok := t.(*certificate)
		if !ok {
			continue
		}
		out = append(out, c.check(h, now)...)
	}
	for _, t := range all {
		ops, findings := t.Diff(h, now)
		for _, f := range findings {
			if f.Severity == plan.Problem {
				out = append(out, Check{What: string(t.ID()), Text: f.Text, Hint: f.Hint})
			}
		}
		if len(ops) > 0 {
			out = append(out, Check{What: string(t.ID()), Text: ops[0].About().Reason, Hint: "virtrust plan shows the change"})
		}
	}
	return out
}

func (c *certificate) check(h *facts.Host, now time.Time) []Check {
	what := string(c.ID())
	leaf := c.leaf(h)
	if leaf == nil {
		return []Check{{What: what, Text: "there is no certificate in " + c.certPath(), Hint: "virtrust apply"}}
	}
	var problems []string
	content, _ := h.Content(c.certPath())
	ca, _ := h.Content(c.trustPath())
	var key crypto.PublicKey
	if der, ok := h.PublicKey(c.keyPath()); ok {
		key, _ = x509.ParsePKIXPublicKey(der)
	}
	for _, u := range c.profile.Usages {
		v := pki.Judge(pki.Question{Rules: c.rules(h), Role: u, Now: now, Cert: content, CA: ca, Key: key})
		for _, p := range v.Problems {
			problems = append(problems, p.Text)
		}
	}
	for _, n := range c.profile.DNSNames {
		if !pki.MatchHost(leaf, n) {
			problems = append(problems, "it is not for "+n)
		}
	}
	for _, ip := range c.profile.IPs {
		if !pki.MatchHost(leaf, ip.String()) {
			problems = append(problems, "it is not for "+ip.String())
		}
	}
	slices.Sort(problems)
	problems = slices.Compact(problems)
	if len(problems) > 0 {
		return []Check{{What: what, Text: strings.Join(problems, "; "), Hint: "virtrust plan shows the change"}}
	}
	text := fmt.Sprintf("accepted by the rules of %s, until %s", c.reader(h), date(leaf.NotAfter))
	if !c.serves {
		return []Check{{What: what, OK: true, Text: text}}
	}
	seen := h.Served[servedAt(c.port)]
	switch {
	case len(seen.Chain) == 0:
		return []Check{{What: what, Text: fmt.Sprintf("port %d shows no certificate: %s", c.port, seen.Problem), Hint: "virtrust plan shows what is missing"}}
	case string(seen.Chain[0]) != string(leaf.Raw):
		return []Check{{What: what, Text: fmt.Sprintf("port %d shows another certificate than the one on disk", c.port), Hint: "virtrust apply has it reloaded"}}
	}
	return []Check{{What: what, OK: true, Text: "served; " + text}}
}
