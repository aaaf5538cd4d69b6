package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	tests := []struct {
		in    string
		limit int
		want  string
	}{
		{"plain, ümlaut 漢", 50, "plain, ümlaut 漢"},
		{"a\x1b[2Jb\r\nc", 50, `a\u001b[2Jb\u000d\u000ac`},
		{"bidi \u202e and C1 \u009b", 50, `bidi \u202e and C1 \u009b`},
		{"bad \xff\xc0 utf8", 50, `bad \xff\xc0 utf8`},
		{"a real \uFFFD", 50, "a real \uFFFD"},
		{"abcdef", 3, "abc…"},
		{"abc", 3, "abc"},
		{"no-break\u00a0space", 50, `no-break\u00a0space`},
	}
	for _, tt := range tests {
		if got := clean(tt.in, tt.limit); got != tt.want {
			t.Errorf("clean(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "\x1b]0;x\x07", "\u202e", "\xff\xfe", "…", strings.Repeat("é", 500)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s, 100)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not UTF-8", got)
		}
		for _, r := range got {
			if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
				t.Fatalf("%q holds %U", got, r)
			}
		}
		if n := utf8.RuneCountInString(got); n > 100*10+1 {
			t.Fatalf("%d characters", n)
		}
		if again := clean(got, 1<<20); again != got {
			t.Fatalf("cleaned twice: %q, once: %q", again, got)
		}
		e := &Error{Class: ClassLost, Host: "kvm1", Op: "running", Err: errors.New(s)}
		if strings.ContainsFunc(e.Error(), unicode.IsControl) {
			t.Fatalf("%q holds a control character", e)
		}
	})
}

func TestClassOf(t *testing.T) {
	err := fmt.Errorf("kvm1: %w", &Error{Class: ClassLost, Err: context.Canceled})
	if ClassOf(err) != ClassLost || ClassOf(nil) != "" || ClassOf(context.Canceled) != "" || !errors.Is(err, context.Canceled) {
		t.Error("ClassOf or Unwrap")
	}
}
