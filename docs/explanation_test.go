package docs

import (
	"strings"
	"testing"
)

func TestExplanations(t *testing.T) {
	all := Explanations(Troubleshooting)
	headings := strings.Count(Troubleshooting, "\n## ")
	if len(all) != headings || headings < 70 {
		t.Errorf("%d of %d sections were read", len(all), headings)
	}
	seen := map[string]bool{}
	classes := 0
	for _, e := range all {
		if seen[e.Code] {
			t.Errorf("%s is explained twice", e.Code)
		}
		seen[e.Code] = true
		if e.Class {
			classes++
		}
		if b := e.Brief(); e.Text == "" || e.Topic == "" || len(b) < 10 || len(b) > 240 {
			t.Errorf("%s: topic %q, brief %q", e.Code, e.Topic, b)
		}
		if p := e.Plain(); strings.Contains(p, "](") || strings.Contains(p, "\n#") {
			t.Errorf("%s has marks left: %s", e.Code, p)
		}
	}
	if classes < 15 || !seen["host key unknown"] || !seen["held"] {
		t.Errorf("%d classes, host key unknown %v, held %v", classes, seen["host key unknown"], seen["held"])
	}
}
