package inventory

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// Severity says how much a diagnostic weighs.
type Severity string

// The severities. Only an error makes a configuration unusable.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
	SeverityNote    Severity = "note"
)

// Position is a place in a file. Line and Column count from 1, columns in
// characters as a reader sees them; Byte counts from 0.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// Span is a stretch of a file of the configuration, of a shipped template
// ("template:NAME") or of a value given on the command line ("--var NAME").
type Span struct {
	File  string   `json:"file"`
	Start Position `json:"start"`
	End   Position `json:"end"`
}

// Diagnostic is one thing to tell the author of a configuration.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`          // a noun phrase
	Detail   string   `json:"detail,omitempty"` // sentences that say what to do
	Source   *Span    `json:"source,omitempty"` // nil when it belongs to no file
	secret   bool     // the source's line may hold a secret and is not shown
}

// Diagnostics is everything that a load has to say, in file order, with the
// sources needed to show the lines. The zero value is empty.
type Diagnostics struct {
	list    []Diagnostic
	sources map[string][]byte
	seen    map[string]bool
	dropped int // how many came after the bound
}

// All returns the diagnostics in file order.
func (d Diagnostics) All() []Diagnostic { return slices.Clone(d.list) }

// Len is how many diagnostics there are, of any severity.
func (d Diagnostics) Len() int { return len(d.list) }

// HasErrors tells whether there is an error among them.
func (d Diagnostics) HasErrors() bool { return d.Count(SeverityError) > 0 }

// Count is how many diagnostics have a severity.
func (d Diagnostics) Count(s Severity) int {
	n := 0
	for _, x := range d.list {
		if x.Severity == s {
			n++
		}
	}
	return n
}

// JSON renders the diagnostics as an indented JSON array; an empty set is [].
func (d Diagnostics) JSON() ([]byte, error) {
	list := d.list
	if list == nil {
		list = []Diagnostic{}
	}
	return json.MarshalIndent(list, "", "  ")
}

// add records a diagnostic unless the same was recorded before, as happens
// when one expression is evaluated for several instances.
func (d *Diagnostics) add(x Diagnostic) {
	key := string(x.Severity) + "\x00" + x.Summary + "\x00" + x.Detail
	if x.Source != nil {
		key += fmt.Sprintf("\x00%s\x00%d\x00%d", x.Source.File, x.Source.Start.Byte, x.Source.End.Byte)
	}
	if d.seen[key] {
		return
	}
	if d.seen == nil {
		d.seen = map[string]bool{}
	}
	if len(d.list) >= maxDiagnostics {
		d.dropped++
		return
	}
	d.seen[key] = true
	d.list = append(d.list, x)
}

// finish brings the diagnostics into file order.
func (d *Diagnostics) finish() {
	d.sort()
	if d.dropped > 0 {
		d.list = append(d.list, Diagnostic{Severity: SeverityError, Summary: "More mistakes", Detail: fmt.Sprintf("%d further messages are not shown. Mend the first ones.", d.dropped)})
	}
}

func (d *Diagnostics) sort() {
	slices.SortStableFunc(d.list, func(a, b Diagnostic) int {
		if a.Source == nil || b.Source == nil {
			switch {
			case a.Source == b.Source:
				return 0
			case a.Source == nil:
				return 1
			default:
				return -1
			}
		}
		return cmp.Or(
			cmp.Compare(a.Source.File, b.Source.File),
			cmp.Compare(a.Source.Start.Byte, b.Source.Start.Byte),
			cmp.Compare(a.Source.End.Byte, b.Source.End.Byte),
		)
	})
}

func span(r hcl.Range) *Span {
	if r.Filename == "" {
		return nil
	}
	return &Span{
		File:  r.Filename,
		Start: Position{r.Start.Line, r.Start.Column, r.Start.Byte},
		End:   Position{r.End.Line, r.End.Column, r.End.Byte},
	}
}

func sourceRange(r hcl.Range) Range { return Range{File: r.Filename, Line: r.Start.Line} }
