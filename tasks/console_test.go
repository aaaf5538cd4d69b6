package tasks

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

func TestConsoles(t *testing.T) {
	leaf := &x509.Certificate{Raw: []byte("new")}
	shows := func(raw string) facts.Served { return facts.Served{Chain: [][]byte{[]byte(raw)}} }
	plain, refused, shut := facts.Served{Problem: facts.PlainConsole}, facts.Served{Problem: "refused"}, facts.Served{Problem: "prohibited"}
	for _, c := range []struct {
		name   string
		seen   []facts.Served
		reason string // of a new certificate
		op     string // part of the reason of the activation; empty for none
		codes  string
	}{
		{"no guests", nil, "", "", ""},
		{"as on disk", []facts.Served{shows("new"), refused}, "", "", ""},
		{"one goes on with the old", []facts.Served{shows("new"), shows("old")}, "", "console of g1 shows another", ""},
		{"a new certificate", []facts.Served{shows("new")}, "expiring", "expiring", ""},
		{"a new certificate and plain consoles", []facts.Served{plain, plain}, "expiring", "", CodePlainConsole},
		{"all kinds", []facts.Served{plain, shut, shows("old")}, "", "console of g2", CodePlainConsole + " console-silent"},
	} {
		h := &facts.Host{Served: map[string]facts.Served{}}
		for i, s := range c.seen {
			name := "g" + string(rune('0'+i))
			h.Consoles = append(h.Consoles, facts.Console{Guest: name, Address: name})
			h.Served[name] = s
		}
		task := &certificate{cert: inventory.Certificate{Name: "vnc"}, console: true}
		ops, found := task.consoles(h, leaf, c.reason)
		var codes []string
		for _, f := range found {
			codes = append(codes, f.Code)
			if f.Holds {
				t.Errorf("%s: %s holds the host", c.name, f.Code)
			}
		}
		if got := strings.Join(codes, " "); got != c.codes {
			t.Errorf("%s: findings %q, want %q", c.name, got, c.codes)
		}
		switch {
		case c.op == "" && len(ops) > 0, c.op != "" && len(ops) != 1:
			t.Errorf("%s: %+v", c.name, ops)
		case c.op != "":
			if o := ops[0]; !strings.Contains(o.About().Reason, c.op) || o.Disrupts() != plan.DisruptReloadPerVM {
				t.Errorf("%s: %+v", c.name, o)
			}
		}
		if task.console = false; len(c.seen) > 0 {
			if ops, found := task.consoles(h, leaf, c.reason); len(ops)+len(found) > 0 {
				t.Errorf("%s: judged although the policy has no consoles", c.name)
			}
		}
	}
}
