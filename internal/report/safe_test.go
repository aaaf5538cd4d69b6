package report

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/virtrust/virtrust/plan"
)

func TestSafe(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"kvm1.example.org", "kvm1.example.org"},
		{"Grüße, 东京", "Grüße, 东京"},
		{`C:\x1b`, `C:\x1b`},
		{"\x1b[31mred", `\x1b[31mred`},
		{"a\r\nb\tc\bd\x00\x7f", `a\r\nb\tc\x08d\x00\x7f`},
		{"\u0085\u009b2J", `\x85\x9b2J`},
		{"\u202e\u202a\u2066\u2069\u200e\u200f\u061c", `\u202e\u202a\u2066\u2069\u200e\u200f\u061c`},
		{"\u200b\u200d\u2060\ufeff\u00ad\u180e", `\u200b\u200d\u2060\ufeff\xad\u180e`},
		{"\u2028\u2029\u00a0\u3000", `\u2028\u2029\xa0\u3000`},
		{"\u115f\u3164\ufe0f\U000e0100\u034f", `\u115f\u3164\ufe0f\U000e0100\u034f`},
		{"\U000e0041", `\U000e0041`}, // a tag character
		{"\xff\xc3(", `\xff\xc3(`},
		{"e\u0301", "e\u0301"},
		{"\u0301e", `\u0301e`},
		{"e\u0301\u0301\u0301\u0301", "e\u0301\u0301" + `\u0301\u0301`},
		{strings.Repeat("x", 200), strings.Repeat("x", 200)},
		{strings.Repeat("x", 201), strings.Repeat("x", 197) + "..."},
		{strings.Repeat("\x1b", 100), strings.Repeat(`\x1b`, 49) + `\...`},
	} {
		if got := Safe(c.in); got != c.want {
			t.Errorf("Safe(%q) = %q, want %q", c.in, got, c.want)
		}
	}
	if got := SafeN("abcdefgh", 5); got != "ab..." {
		t.Errorf("SafeN: %q", got)
	}
	if got := SafeN(strings.Repeat("x", 1000), 0); len(got) != 1000 {
		t.Errorf("SafeN without limit cuts to %d", len(got))
	}
	if got := SafeLines("a\nb\r\n\x1bc", 0); got != "a\nb\\r\n\\x1bc" {
		t.Errorf("SafeLines: %q", got)
	}
}

func FuzzSafe(f *testing.F) {
	for _, s := range []string{"kvm1", "\x1b[2J\r\n", "\u202eabc\u200b", "\xff\xfe", strings.Repeat("e\u0301", 150), strings.Repeat("\u202e", 300), "\u0301\u0301\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, lines := range []bool{false, true} {
			got := safe(s, SafeRunes, lines)
			if !utf8.ValidString(got) {
				t.Fatalf("no UTF-8: %q", got)
			}
			if n := utf8.RuneCountInString(got); n > SafeRunes {
				t.Fatalf("%d characters", n)
			}
			for _, r := range got {
				if r == '\n' && lines {
					continue
				}
				if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
					t.Fatalf("%U in %q", r, got)
				}
			}
			if again := safe(got, SafeRunes, lines); again != got {
				t.Fatalf("not idempotent: %q then %q", got, again)
			}
		}
	})
}

func FuzzHostSaid(f *testing.F) {
	f.Add("\x1b]0;x\x07\n```\n</details>")
	f.Add("2026-01-02 kvm1 10.0.0.1:22 HOST\x00H\x00D")
	f.Add("-----BEGIN CERTIFICATE-----\n\x9b")
	f.Fuzz(func(t *testing.T, s string) {
		var hosts []plan.HostPlan
		for _, n := range []string{"kvm1", "kvm2"} {
			hosts = append(hosts, plan.HostPlan{Host: n, Ops: plan.Ops{
				plan.WriteFile{Meta: plan.Meta{Reason: s}, Path: s, Content: []byte(s), Before: plan.State{Type: "file", Owner: s}, After: plan.State{Owner: "root"}},
				plan.WriteFile{Path: "/x", Edits: []plan.Edit{{Key: s, Old: s, New: n + s}}},
				plan.Enrol{Meta: plan.Meta{Reason: s + n}, Certificate: "c", Old: &plan.Leaf{Issuer: s, Serial: s, NotAfter: n + s, DNSNames: []string{s}}},
			}, Findings: []plan.Finding{{Code: "c", Text: n + s, Hint: s}}})
		}
		hosts = append(hosts, plan.HostPlan{Host: "kvm3", Failure: &plan.Failure{Class: s, Text: s, Hint: s}})
		rep := &plan.Report{Run: s, Stopped: []string{s}, Hosts: []plan.HostReport{
			{Host: "kvm1", Result: plan.Changed, Proof: &plan.Proof{Served: s, Addresses: []string{s}, Peers: []string{s}, NotProved: s}},
			{Host: "kvm2", Result: plan.Unknown, Step: s, Failure: &plan.Failure{Class: s, Text: s, Hint: s}}}}
		for _, write := range []func(io.Writer) error{
			func(w io.Writer) error { return Plan(w, newPlan(hosts...), Options{}) },
			func(w io.Writer) error { return PlanMarkdown(w, newPlan(hosts...), Options{}) },
			func(w io.Writer) error { return JSON(w, newPlan(hosts...)) },
			func(w io.Writer) error { return Apply(w, rep, Options{}) },
			func(w io.Writer) error {
				return Status(w, []StatusRow{{Host: s, Certificate: s, State: s, Served: s, Note: s}}, Options{Width: 200})
			},
			func(w io.Writer) error {
				return Verify(w, []CheckRow{{Host: s, What: s, Text: s, Hint: s}}, []VerifyRow{{From: s, To: "b", Address: s, Text: s}}, Options{})
			},
			func(w io.Writer) error {
				_, err := io.WriteString(w, EventLine(plan.Event{Host: "kvm1", Step: s, Detail: s}))
				return err
			},
		} {
			var b bytes.Buffer
			if err := write(&b); err != nil {
				t.Fatal(err)
			}
			mustBeSafe(t, b.String())
		}
	})
}

func TestJSON(t *testing.T) {
	in := map[string]string{"text": "<a&b>\x1b[2J\u202e\u009b\x7f\U000e0041 ü\n"}
	var b bytes.Buffer
	if err := JSON(&b, in); err != nil {
		t.Fatal(err)
	}
	mustBeSafe(t, b.String())
	if !strings.Contains(b.String(), "<a&b>") || !strings.Contains(b.String(), "ü") || !strings.HasPrefix(b.String(), "{\n  \"") {
		t.Errorf("got %s", b.String())
	}
	var out map[string]string
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || out["text"] != in["text"] {
		t.Errorf("got %q back, %v", out["text"], err)
	}
	// What is written can be read as a plan again.
	b.Reset()
	if err := JSON(&b, large(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.ReadPlan(&b); err != nil {
		t.Error(err)
	}
	if err := JSON(&b, func() {}); err == nil {
		t.Error("a function was encoded")
	}
}
