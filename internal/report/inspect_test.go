package report

import (
	"strings"
	"testing"
)

func TestInspectionIsSafe(t *testing.T) {
	var b strings.Builder
	sections := []Section{
		{Title: "host", Rows: [][2]string{{"name", "kvm1\x1b[2J"}, {"", "a\n  b\u202e"}}},
		{Title: "nothing"},
	}
	if err := Inspection(&b, "kvm1", sections, Options{Width: 80}); err != nil {
		t.Fatal(err)
	}
	want := "kvm1\n  host\n    name  kvm1\\x1b[2J\n    a\n      b\\u202e\n"
	if got := b.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDiff(t *testing.T) {
	for _, c := range []struct{ before, after, want string }{
		{"a\nb\nc\n", "a\nB\nc\n", "f\n  - 2     b\n  + 2     B\n"},
		{"a\n", "a\nb\n", "f\n  + 2     b\n"},
		{"a\nb\n", "b\n", "f\n  - 1     a\n"},
		{"1\na\n2\nb\n3", "1\nA\n2\nB\n3", "f\n  - 2     a\n  + 2     A\n  - 4     b\n  + 4     B\n"},
		{"same", "same", "f\n"},
	} {
		var b strings.Builder
		if err := Diff(&b, "f", []byte(c.before), []byte(c.after), Options{Width: 80}); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); got != c.want {
			t.Errorf("%q to %q: %q, want %q", c.before, c.after, got, c.want)
		}
	}
}
