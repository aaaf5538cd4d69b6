package operator

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

// On runs a script on a host as root, past SSH and virtrust. It goes on while the
// test ends, so that what a test did to a host can be undone.
func On(t *testing.T, h *lab.Host, script string) lab.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	r, err := h.Script(ctx, "export LC_ALL=C\n"+script)
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	return r
}

// Sh is On for a script that has to end well, and gives its output.
func Sh(t *testing.T, h *lab.Host, script string) string {
	t.Helper()
	r := On(t, h, script)
	if err := r.Err(); err != nil {
		t.Fatalf("%s: %s: %v", h.Name, script, err)
	}
	return strings.TrimSpace(r.Stdout)
}

// Contains wants each text, wherever lines are broken.
func Contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(text), " ")
	for _, w := range wants {
		if !strings.Contains(text, w) && !strings.Contains(flat, w) {
			t.Errorf("%q is missing in:\n%s", w, text)
		}
	}
}

// Until polls a condition.
func Until(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) || t.Context().Err() != nil {
			t.Fatalf("after %s still not: %s", limit, what)
		}
	}
}

// Decode reads the one JSON value of a text.
func Decode[T any](t *testing.T, text string) *T {
	t.Helper()
	v := new(T)
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	if d.More() {
		t.Fatalf("more than one JSON value:\n%s", text)
	}
	return v
}
