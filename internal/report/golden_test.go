package report

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/lipgloss"

	"github.com/virtrust/virtrust/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares what write gives at both widths, with and without colour,
// with testdata. Without colour the text must be the coloured one's.
func golden(t *testing.T, name string, write func(io.Writer, Options) error) {
	t.Helper()
	for _, width := range []int{80, 200} {
		var plain, coloured bytes.Buffer
		for b, color := range map[*bytes.Buffer]bool{&plain: false, &coloured: true} {
			if err := write(b, Options{Width: width, Color: color, Now: now}); err != nil {
				t.Fatal(err)
			}
		}
		compare(t, fmt.Sprintf("%s.%d.txt", name, width), plain.Bytes())
		compare(t, fmt.Sprintf("%s.%d.ansi", name, width), coloured.Bytes())
		mustBeSafe(t, plain.String())
		if got := stripSGR(coloured.String()); got != plain.String() {
			t.Errorf("%s at %d: the text differs with colour", name, width)
		}
		for i, l := range strings.Split(plain.String(), "\n") {
			// A long word cannot be wrapped, and a summary is one line.
			long := slices.ContainsFunc(strings.Fields(l), func(s string) bool { return len(s) > width/2 })
			if lipgloss.Width(l) > width && !long && !strings.Contains(l, "could not be read") && !strings.HasPrefix(l, "Incomplete:") {
				t.Errorf("%s at %d: line %d has %d columns", name, width, i+1, lipgloss.Width(l))
			}
		}
	}
}

func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	p := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(p, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s", p, got)
	}
}

// mustBeSafe fails for everything but line ends that a terminal acts upon.
func mustBeSafe(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("no UTF-8: %q", s)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r != '\n' && unsafe(r) }); i >= 0 {
		t.Errorf("an unsafe character: %q", s[max(0, i-40):min(len(s), i+40)])
	}
}

// stripSGR drops colours and nothing else.
func stripSGR(s string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			return b.String() + s
		}
		b.WriteString(s[:i])
		s = s[i+2:]
		s = strings.TrimLeft(s, "0123456789;")
		s = strings.TrimPrefix(s, "m")
	}
}

func TestPlanGolden(t *testing.T) {
	plans := map[string]*plan.Plan{
		"fresh":      newPlan(fresh(t, "kvm1", 1), fresh(t, "kvm2", 2), settled("kvm3", now.AddDate(0, 1, 3))),
		"renewal":    newPlan(renewal(t, "kvm1", 1, now.AddDate(0, 0, 20)), settled("kvm2", now.AddDate(0, 1, 0))),
		"nothing":    newPlan(settled("kvm1", now.AddDate(0, 1, 14)), settled("kvm2", now.AddDate(0, 1, 12))),
		"problem":    newPlan(settled("kvm1", now.AddDate(0, 1, 14)), settled("kvm2", time.Time{})),
		"large":      large(t),
		"worst":      worst(t),
		"exceptions": exceptions(t),
		"hostile":    hostile(t),
	}
	plans["fresh"].Findings = []plan.Finding{{Code: "ca-ends-soon", Severity: plan.Warning, Text: `authority "libvirt" ends 2027-03-01`, Hint: "make a new generation of it in time"}}
	plans["problem"].Hosts[1].Findings = []plan.Finding{{Code: "plain-listener", Severity: plan.Problem, Host: "kvm2",
		Text: "libvirtd-tcp.socket is active: libvirt answers in plain text", Hint: "systemctl disable --now libvirtd-tcp.socket"}}
	for name, p := range plans {
		t.Run(name, func(t *testing.T) {
			golden(t, "plan-"+name, func(w io.Writer, o Options) error { return Plan(w, p, o) })
			var b bytes.Buffer
			if err := PlanMarkdown(&b, p, Options{Now: now}); err != nil {
				t.Fatal(err)
			}
			compare(t, "plan-"+name+".md", b.Bytes())
			mustBeSafe(t, b.String())
		})
	}
}

// large is 500 hosts: most renew, three differ from the rest.
func large(t *testing.T) *plan.Plan {
	var hosts []plan.HostPlan
	for n := 1; n <= 500; n++ {
		h := renewal(t, name(n), n, now.AddDate(0, 0, 20+n%9))
		switch {
		case n == 77:
			h = fresh(t, name(n), n)
		case n == 123:
			h = timeout(name(n))
		case n == 200:
			h.Findings = append(h.Findings, plan.Finding{Code: "missing-program", Severity: plan.Problem, Host: h.Host, Task: "host", Holds: true,
				Text: "flock is not installed", Hint: "install package util-linux"})
		case n > 480:
			h = settled(name(n), now.AddDate(0, 1, n%20))
		}
		if n%40 == 3 {
			h.Findings = append(h.Findings, plan.Finding{Code: "clock", Severity: plan.Warning, Host: h.Host, Task: "host",
				Text: fmt.Sprintf("the host's clock is 1m%ds behind ours", n%50), Hint: "set the host's clock (timedatectl)"})
		}
		if h.Failure == nil {
			h.Findings = append(h.Findings, plan.Finding{Code: "foreign-ca", Severity: plan.Warning, Host: h.Host, Task: "trust./etc/pki/CA/cacert.pem",
				Text: `/etc/pki/CA/cacert.pem trusts "CN=Old deployment CA" (until 2031-04-01), which is none of our authorities: who holds its key can log in as root`,
				Hint: `set foreign = "remove" in the trust block when nobody needs it any more`})
		}
		hosts = append(hosts, h)
	}
	return newPlan(hosts...)
}

// worst is 500 hosts after a bad week: 24 kinds of changes, 15 codes.
func worst(t *testing.T) *plan.Plan {
	var hosts []plan.HostPlan
	for n := 1; n <= 500; n++ {
		h := renewal(t, name(n), n, now.AddDate(0, 0, 20+n%9))
		switch {
		case n%20 == 7: // each group has another set of directories
			h = fresh(t, name(n), n)
			h.Ops = append(h.Ops, plan.Remove{Meta: plan.Meta{Reason: "drift"}, Path: fmt.Sprintf("/etc/pki/old%d", n%23)})
		case n%25 == 3:
			h = timeout(name(n))
		case n%10 == 1:
			h = settled(name(n), now.AddDate(0, 1, n%20))
		}
		for i, code := range []string{"clock", "foreign-ca", "plain-listener", "shadowing-directory", "ca-duplicate", "firewall-wider", "weak-key", "force-not-ours", "ca-ends-soon", "migration-host-not-named", "address-not-on-host", "chain-order"} {
			if (n+i)%(17+i) == 0 && h.Failure == nil {
				h.Findings = append(h.Findings, plan.Finding{Code: code, Severity: plan.Warning, Host: h.Host, Text: fmt.Sprintf("what %s says of number %d", code, n%5), Hint: "look at " + h.Host})
			}
		}
		for i, code := range []string{"missing-program", "no-space", "other-paths"} {
			if n%(90+i) == 0 {
				h.Findings = append(h.Findings, plan.Finding{Code: code, Severity: plan.Problem, Host: h.Host, Holds: true, Text: "what " + code + " says", Hint: "mend it"})
			}
		}
		hosts = append(hosts, h)
	}
	return newPlan(hosts...)
}

// TestOneScreen holds pages of 500 hosts to about a screen.
func TestOneScreen(t *testing.T) {
	for name, most := range map[string]int{"plan-large.80": 50, "plan-large.200": 48, "plan-worst.80": 86, "plan-worst.200": 76, "apply-large.80": 36, "status-many.80": 16, "status-worst.80": 24, "verify-many.80": 28} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > most {
			t.Errorf("%s has %d lines, %d at most", name, n, most)
		}
	}
}

func exceptions(t *testing.T) *plan.Plan {
	held := renewal(t, "kvm3", 3, now.AddDate(0, 0, 12))
	held.Findings = []plan.Finding{
		{Code: "other-paths", Severity: plan.Problem, Host: "kvm3", Holds: true, Hint: "comment the line out on the host, then plan again",
			Text: `/etc/libvirt/libvirtd.conf sets cert_file = "/etc/ssl/kvm3.pem": libvirt starts with that file and a reload would silently switch to /etc/pki/libvirt/servercert.pem`},
		{Code: "clock", Severity: plan.Warning, Host: "kvm3", Text: "the host's clock is 2m0s behind ours", Hint: "set the host's clock (timedatectl)"},
	}
	same := func(host string) plan.HostPlan {
		return plan.HostPlan{Host: host, Ops: renewal(t, host, 7, now).Ops, Findings: []plan.Finding{{Code: "same-machine", Severity: plan.Problem, Host: host, Holds: true,
			Text: "hosts kvm6, kvm7 have one machine id: they are one machine, or clones of one", Hint: "mend the addresses in the inventory, or make a new id on the clone (systemd-machine-id-setup after removing /etc/machine-id)"}}}
	}
	readOnly := renewal(t, "kvm8", 8, now.AddDate(0, 0, 9))
	readOnly.ReadOnly = "managed = false"
	other := renewal(t, "kvm9", 9, now.AddDate(0, 0, 9))
	other.ReadOnly = "not selected"
	locked := plan.HostPlan{Host: "kvm5", Failure: &plan.Failure{Class: "locked", Text: "the lease is held by anna@ops1 (run 20261122T0155, for another 4m10s)", Hint: "wait for that run, or see virtrust unlock"}}
	changed := renewal(t, "kvm1", 1, now.AddDate(0, 0, 20))
	e := changed.Ops[0].(plan.Enrol)
	e.Old.IPs = e.Old.IPs[:1]
	e.Old.DNSNames = append(e.Old.DNSNames, "kvm1-old.example.org")
	changed.Ops[1] = plan.Activate{Meta: plan.Meta{Task: e.Task, Wave: plan.WaveIdentity, Reason: "libvirtd serves another certificate than the one on disk"}, Unit: "libvirtd.service", How: plan.Reload}
	e.Reason = "names changed (has 10.0.0.1, kvm1, kvm1-old.example.org, kvm1.example.org, wants 10.0.0.1, 10.1.0.1, kvm1, kvm1.example.org)"
	changed.Ops[0] = e
	return newPlan(changed, timeout("kvm2"), held, timeout("kvm4"), locked, same("kvm6"), same("kvm7"), readOnly, other)
}

func hostile(t *testing.T) *plan.Plan {
	evil := "\x1b]0;owned\x07\x1b[2J\r\nNothing to do: all is well\u202e \u200b\x9b31m\xff```\n</details><script>@team"
	h := renewal(t, "kvm1", 1, now.AddDate(0, 0, 20))
	e := h.Ops[0].(plan.Enrol)
	e.Reason = "drift: " + evil
	e.Old.Issuer, e.Old.Serial, e.Old.NotAfter = "CN="+evil, evil, evil
	e.Old.DNSNames = append(e.Old.DNSNames, evil)
	h.Ops[0] = e
	h.Ops = append(h.Ops,
		plan.WriteFile{Meta: plan.Meta{Reason: evil}, Path: "/etc/x" + evil, Before: plan.State{Type: "file", Owner: evil}, After: plan.State{Owner: evil + "2"}, Edits: []plan.Edit{{Key: evil, Old: evil, New: evil}}},
		plan.Link{Meta: plan.Meta{Reason: evil}, Path: evil, Target: evil}, plan.Remove{Meta: plan.Meta{Reason: evil}, Path: evil},
		plan.SetUnit{Meta: plan.Meta{Reason: evil}, Unit: evil, Service: evil, Running: true},
		plan.MakeDir{Meta: plan.Meta{Reason: evil}, Path: "/" + evil})
	h.Findings = []plan.Finding{{Code: "listener-silent", Severity: plan.Problem, Text: evil, Hint: evil}}
	return newPlan(h, plan.HostPlan{Host: "kvm2", Failure: &plan.Failure{Class: evil, Text: evil, Hint: evil}}, plan.HostPlan{Host: "kvm3", ReadOnly: evil, Ops: plan.Ops{plan.Remove{Path: evil}}})
}

func TestApplyGolden(t *testing.T) {
	proved := func(host, peer string) plan.HostReport {
		return plan.HostReport{Host: host, Result: plan.Changed, Ops: 2, Took: 4 * time.Second, Proof: &plan.Proof{
			Leaves: map[string]string{"libvirt-server": plan.Digest([]byte(host))}, Served: plan.Digest([]byte(host)), Addresses: []string{"127.0.0.1:16514"}, Peers: []string{peer}}}
	}
	report := func(hosts ...plan.HostReport) *plan.Report {
		return &plan.Report{Run: "20261122T020000Z-7f3a", Started: now, Ended: now.Add(72 * time.Second), Hosts: hosts}
	}
	unproved := proved("kvm2", "")
	unproved.Proof.Peers, unproved.Proof.NotProved = nil, "no other host has a client certificate yet"
	var many []plan.HostReport
	for n := 1; n <= 480; n++ {
		h := proved(name(n), name(n%480+1))
		h.Proof.Addresses = append(h.Proof.Addresses, fmt.Sprintf("10.0.0.%d:16514", n%250))
		switch n {
		case 3:
			h = plan.HostReport{Host: name(n), Result: plan.WasReset, Step: "prove", Failure: &plan.Failure{Class: "refused", Text: "kvm004 does not accept the new leaf: certificate has expired", Hint: "look at the clocks of both hosts"}}
		case 4:
			h = plan.HostReport{Host: name(n), Result: plan.Unknown, Step: "switch", Failure: &plan.Failure{Class: "lost", Text: "the connection was lost\nreboot\x1b[2J", Hint: "virtrust status kvm004"}}
		case 200, 201:
			h.Proof.Peers, h.Proof.NotProved = nil, "no peer could be reached"
		}
		if n > 400 {
			h = plan.HostReport{Host: name(n), Result: plan.Held, Failure: &plan.Failure{Class: "held", Text: "the rollout did not reach this host"}}
		}
		many = append(many, h)
	}
	large := report(many...)
	large.Stopped = []string{"prod: 2 hosts failed, max_failures allows 1"}
	for name, r := range map[string]*plan.Report{"complete": report(proved("kvm1", "kvm2"), unproved, plan.HostReport{Host: "kvm3", Result: plan.Unchanged}), "large": large} {
		t.Run(name, func(t *testing.T) {
			golden(t, "apply-"+name, func(w io.Writer, o Options) error { return Apply(w, r, o) })
		})
	}
}

func TestStatusGolden(t *testing.T) {
	row := func(host string, n int) StatusRow {
		ends := now.AddDate(0, 0, n)
		return StatusRow{Host: host, Certificate: "libvirt-server", Served: plan.Digest([]byte(host))[:12], OnDisk: plan.Digest([]byte(host))[:12], NotAfter: ends, DaysLeft: n, Due: ends.AddDate(0, 0, -30), State: StateOK}
	}
	few := []StatusRow{row("kvm1", 74), row("kvm2", 12), row("kvm3", -2), {Host: "kvm4", State: StateUnreadable, Note: "timeout: dial tcp 10.0.0.4:22: i/o timeout"}, row("kvm5", 60)}
	few[1].State, few[2].State = StateExpiring, StateExpired
	few[4].State, few[4].OnDisk, few[4].Note = StateDiffers, "0123456789ab", "libvirtd was not reloaded\x1b[2J"
	var many []StatusRow
	for n := 1; n <= 500; n++ {
		r := row(name(n), 31+n%50)
		if n == 8 || n == 300 {
			r = StatusRow{Host: name(n), State: StateUnreadable, Note: "timeout: dial tcp 10.0.0.4:22: i/o timeout"}
		}
		if n > 40 && n < 44 {
			r.State = StateDue
		}
		many = append(many, r)
	}
	var bad []StatusRow
	for n := 1; n <= 500; n++ {
		r := row(name(n), 31+n%50)
		switch {
		case n%3 == 0:
			r.State = StateDue
		case n%50 == 1:
			r = StatusRow{Host: name(n), State: StateUnreadable, Note: "timeout: dial tcp 10.0.0.4:22: i/o timeout"}
		case n > 400 && n < 420:
			r = row(name(n), -3)
			r.State = StateExpired
		case n == 77:
			r.State, r.Note = StateDiffers, "libvirtd was not reloaded"
		}
		bad = append(bad, r)
	}
	for name, rows := range map[string][]StatusRow{"few": few, "many": many, "worst": bad, "none": nil} {
		t.Run(name, func(t *testing.T) {
			golden(t, "status-"+name, func(w io.Writer, o Options) error { return Status(w, rows, o) })
		})
	}
}

func TestVerifyGolden(t *testing.T) {
	square := func(hosts []string) (checks []CheckRow, dials []VerifyRow) {
		for i, h := range hosts {
			checks = append(checks, CheckRow{Host: h, What: "served leaf is the one on disk", OK: true}, CheckRow{Host: h, What: "chain is accepted by libvirt", OK: true, Text: "libvirt 10.0.0"})
			for j, to := range hosts {
				if i != j {
					dials = append(dials, VerifyRow{From: h, To: to, Address: to + ".example.org:16514", OK: true})
				}
			}
		}
		return checks, dials
	}
	goodChecks, goodDials := square([]string{"kvm1", "kvm2", "kvm3"})
	badChecks, badDials := square([]string{"kvm1", "kvm2", "kvm3"})
	badChecks[2].OK, badChecks[2].Text, badChecks[2].Hint = false, "serves a leaf that ended 2026-11-20", "virtrust renew kvm2"
	for i, d := range badDials {
		if d.To == "kvm2" {
			badDials[i].OK, badDials[i].Text = false, "tls: certificate has expired"
		}
	}
	var hosts []string
	for n := 1; n <= 60; n++ {
		hosts = append(hosts, name(n))
	}
	manyChecks, manyDials := square(hosts)
	manyChecks[20].OK, manyChecks[20].Text = false, "port 16514 is closed"
	for i, d := range manyDials {
		switch {
		case d.From == "kvm007":
			manyDials[i].OK, manyDials[i].Text = false, "refused: the server does not trust our certificate"
		case d.To == "kvm011":
			manyDials[i].OK, manyDials[i].Text = false, "dial tcp: connection refused"
		case d.From == "kvm030" && d.To == "kvm031":
			manyDials[i].OK, manyDials[i].Text = false, "i/o timeout\x1b]0;x\x07"
		}
	}
	for name, v := range map[string]struct {
		checks []CheckRow
		dials  []VerifyRow
	}{"good": {goodChecks, goodDials}, "bad": {badChecks, badDials}, "many": {manyChecks, manyDials}, "none": {}} {
		t.Run(name, func(t *testing.T) {
			golden(t, "verify-"+name, func(w io.Writer, o Options) error { return Verify(w, v.checks, v.dials, o) })
		})
	}
}
