package report

import (
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/charmbracelet/lipgloss"
)

// States of a [Step].
const (
	StepOK      = "ok"
	StepNote    = "note" // it works, but another way than usual
	StepFailed  = "failed"
	StepSkipped = "not tried" // because an earlier one failed
)

// Step is one phase on the way to a host.
type Step struct {
	Phase   string  `json:"phase"`
	State   string  `json:"state"`
	Seconds float64 `json:"seconds,omitempty"`
	Class   string  `json:"class,omitempty"` // of a failure: a section of troubleshooting.md
	Found   string  `json:"found,omitempty"`
	Hint    string  `json:"hint,omitempty"`
}

// Visit is what was found on the way to one host.
type Visit struct {
	Host    string `json:"host"`
	Address string `json:"address"`
	Steps   []Step `json:"steps"`
}

// OK reports whether no step failed.
func (v Visit) OK() bool {
	return !slices.ContainsFunc(v.Steps, func(s Step) bool { return s.State == StepFailed })
}

// Doctor writes what each step on the way to hosts found. The error is the
// writer's.
func Doctor(w io.Writer, visits []Visit, o Options) error {
	p := newPage(o)
	bad := 0
	for i, v := range visits {
		if i > 0 {
			p.gap()
		}
		p.visit(v)
		if !v.OK() {
			bad++
		}
	}
	p.gap()
	if bad == 0 {
		p.linef("%s can be reached and worked on.", count(len(visits), "host"))
	} else {
		p.linef("%d of %s cannot be worked on.", bad, count(len(visits), "host"))
	}
	return p.flush(w)
}

func (p *page) visit(v Visit) {
	p.linef("%s  %s", p.strong.Render(Safe(v.Host)), Safe(v.Address))
	wide, states, times := 0, 0, 0
	for _, s := range v.Steps {
		wide, states, times = max(wide, lipgloss.Width(Safe(s.Phase))), max(states, len(s.State)), max(times, len(took3(s.Seconds)))
	}
	var skipped []string
	for _, s := range v.Steps {
		if s.State == StepSkipped {
			skipped = append(skipped, Safe(s.Phase))
			continue
		}
		took, found := took3(s.Seconds), Safe(s.Found)
		if s.Class != "" {
			found = Safe(s.Class) + ": " + found
		}
		style := map[string]*lipgloss.Style{StepOK: &p.good, StepNote: &p.careful, StepFailed: &p.bad}[s.State]
		state := s.State
		if style != nil {
			state = style.Render(state)
		}
		head := "  " + pad(state, states) + "  " + pad(Safe(s.Phase), wide) + "  " + strings.Repeat(" ", times-len(took)) + took + "  "
		p.hang(head, found, nil)
		if s.Hint != "" {
			p.hang(strings.Repeat(" ", lipgloss.Width(head))+"do: ", Safe(s.Hint), &p.quiet)
		}
	}
	if len(skipped) > 0 {
		p.hang("  "+pad(StepSkipped, states)+"  ", strings.Join(skipped, ", "), &p.quiet)
	}
}

// took3 is a duration in three digits or so; nothing where none was measured.
func took3(seconds float64) string {
	if seconds < 0.00005 {
		return ""
	}
	if seconds < 1 {
		return strconv.FormatFloat(seconds*1000, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(seconds, 'f', 2, 64) + " s"
}
