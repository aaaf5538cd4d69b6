package faults

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// row is one line of the table.
type row struct {
	runs, missed int
	changes      map[string]int
	results      map[string]int
	violations   map[string]int
}

var table struct {
	sync.Mutex
	rows     map[string]*row // by fault
	controls []string
	notes    []string
}

// record puts a trial into the table and fails the test for each violation.
func record(t testing.TB, o *outcome) {
	t.Helper()
	table.Lock()
	defer table.Unlock()
	if table.rows == nil {
		table.rows = map[string]*row{}
	}
	r := table.rows[o.fault.kind]
	if r == nil {
		r = &row{changes: map[string]int{}, results: map[string]int{}, violations: map[string]int{}}
		table.rows[o.fault.kind] = r
	}
	if o.struck {
		r.runs++
		r.changes[o.scenario.name]++
		r.results[o.said()]++
	} else {
		r.missed++
	}
	for _, f := range o.findings {
		r.violations[f.class]++
		t.Errorf("%s: %s, %s, n=%d, struck %v, recovery by %s: %s: %s\n  %s\n  %s\n  journal: %s\n  and in the end: %s", o.site, o.scenario.name, o.fault.kind, o.fault.n, o.struck, o.recovery, f.class, f.text,
			o.result, strings.TrimSpace(o.result.stderr), strings.ReplaceAll(o.records, "\n", "\n    "), strings.ReplaceAll(o.detail, "\n", "\n    "))
	}
}

// said is what the run said, or each of several.
func (o *outcome) said() string {
	words := []string{o.result.said()}
	for _, r := range o.beside {
		words = append(words, r.said())
	}
	slices.Sort(words)
	return strings.Join(words, " and ")
}

func counts(m map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%d %s", m[k], k))
	}
	if out == nil {
		return "0"
	}
	return strings.Join(out, ", ")
}

// writeTable prints the table, and writes it to where the environment says.
func writeTable() error {
	table.Lock()
	defer table.Unlock()
	var b strings.Builder
	b.WriteString("| fault | faulted runs | changes | results | violations |\n|---|---:|---|---|---|\n")
	runs, violations := 0, 0
	for _, k := range slices.Sorted(maps.Keys(table.rows)) {
		r := table.rows[k]
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s |\n", k, r.runs, counts(r.changes), counts(r.results), counts(r.violations))
		runs += r.runs
		for _, n := range r.violations {
			violations += n
		}
	}
	fmt.Fprintf(&b, "| **all** | **%d** | | | **%d** |\n", runs, violations)
	if len(table.controls) > 0 {
		b.WriteString("\n| planted bug | caught by |\n|---|---|\n")
		for _, c := range table.controls {
			b.WriteString(c + "\n")
		}
	}
	for _, n := range table.notes {
		b.WriteString("\n" + n + "\n")
	}
	if runs == 0 && len(table.controls) == 0 {
		return nil
	}
	fmt.Println(b.String())
	if path := os.Getenv("VIRTRUST_FAULTS_REPORT"); path != "" {
		return os.WriteFile(path, []byte(b.String()), 0o644)
	}
	return nil
}
