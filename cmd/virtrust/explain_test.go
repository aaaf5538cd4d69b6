package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/docs"
)

func TestExplain(t *testing.T) {
	for code, want := range map[string]string{"unfinished-run": "virtrust apply", "host key unknown": "known_hosts", "host-key-unknown": "known_hosts", "Held": "max_failures"} {
		out, _, err := program(t, append([]string{"explain"}, strings.Fields(code)...)...)
		if err != nil || !strings.Contains(out, want) || strings.Contains(out, "](") {
			t.Errorf("explain %s: %v\n%s", code, err, out)
		}
	}
	for code, want := range map[string]string{"unfinished-rum": "unfinished-run", "same": "same-machine", "cert-expire": "cert-expired", "unfinishd": "unfinished-run", "zzzzzzzz": "lists all"} {
		_, _, err := program(t, "explain", code)
		if err == nil || !strings.Contains(hintOf(err), want) {
			t.Errorf("explain %s: %v, hint %q, want %q", code, err, hintOf(err), want)
		}
	}
	out, _, err := program(t, "explain", "--json")
	var all []docs.Explanation
	if err != nil || json.Unmarshal([]byte(out), &all) != nil || len(all) < 70 {
		t.Errorf("explain --json: %v, %d", err, len(all))
	}
	out, _, err = program(t, "explain")
	for _, e := range all {
		if !strings.Contains(out, "  "+e.Code+" ") {
			t.Errorf("the list lacks %s (%v)", e.Code, err)
		}
	}
	for line := range strings.Lines(out) {
		if len([]rune(line)) > 101 {
			t.Errorf("a long line: %s", line)
		}
	}
}
