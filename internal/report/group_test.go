package report

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/plan"
)

func TestHostList(t *testing.T) {
	numbers := func(from, to int) (out []string) {
		for n := from; n <= to; n++ {
			out = append(out, name(n))
		}
		return out
	}
	for _, c := range []struct {
		hosts []string
		want  string
	}{
		{nil, ""},
		{[]string{"a"}, "a"},
		{[]string{"kvm1", "kvm2", "kvm3"}, "kvm1, kvm2, kvm3"},
		{numbers(1, 480), "kvm001..kvm480 (480)"},
		{append(numbers(1, 3), numbers(5, 6)...), "kvm001..kvm003, kvm005, kvm006 (5)"},
		{[]string{"kvm8", "kvm9", "kvm10", "kvm11"}, "kvm8..kvm11 (4)"},
		{[]string{"kvm08", "kvm09", "kvm10", "kvm11"}, "kvm08..kvm11 (4)"},
		{[]string{"kvm09", "kvm010", "kvm011", "x"}, "kvm09, kvm010, kvm011, x"},
		{[]string{"a", "b", "c", "d", "e", "f"}, "a, b, c, d and 2 more"},
		{[]string{"n1.dc2.example", "n2.dc2.example", "n3.dc2.example", "n1.dc3.example"}, "n1.dc2.example..n3.dc2.example, n1.dc3.example (4)"},
		{[]string{"kvm3", "kvm2", "kvm1", "kvm1"}, "kvm3, kvm2, kvm1, kvm1"},
		{[]string{"\x1b[2J", "b"}, `\x1b[2J, b`},
	} {
		if got := hostList(c.hosts, false); got != c.want {
			t.Errorf("%v: %q, want %q", c.hosts, got, c.want)
		}
	}
	if got := hostList(numbers(1, 5), true); got != "kvm001, kvm002, kvm003, kvm004, kvm005" {
		t.Error(got)
	}
}

// What differs between two hosts must be seen: they share a group only when
// nothing but what is their own differs.
func TestGroups(t *testing.T) {
	ends := now.AddDate(0, 0, 20)
	enrolOf := func(h *plan.HostPlan, change func(*plan.Enrol)) {
		e := h.Ops[0].(plan.Enrol)
		change(&e)
		h.Ops[0] = e
	}
	for name, c := range map[string]struct {
		change func(h *plan.HostPlan)
		want   int
	}{
		"nothing":    {func(*plan.HostPlan) {}, 1},
		"generation": {func(h *plan.HostPlan) { enrolOf(h, func(e *plan.Enrol) { e.Generation = "99" }) }, 1},
		"dates in reason": {func(h *plan.HostPlan) {
			enrolOf(h, func(e *plan.Enrol) { e.Reason = "expires 2026-12-24, renewal is due since 2026-11-24" })
		}, 1},
		"reason":        {func(h *plan.HostPlan) { enrolOf(h, func(e *plan.Enrol) { e.Reason = "asked for" }) }, 2},
		"lifetime":      {func(h *plan.HostPlan) { enrolOf(h, func(e *plan.Enrol) { e.Profile.Lifetime /= 2 }) }, 2},
		"authority":     {func(h *plan.HostPlan) { enrolOf(h, func(e *plan.Enrol) { e.Authority = "other" }) }, 2},
		"issuer":        {func(h *plan.HostPlan) { enrolOf(h, func(e *plan.Enrol) { e.Issuer = "ffff" }) }, 2},
		"key mode":      {func(h *plan.HostPlan) { enrolOf(h, func(e *plan.Enrol) { e.KeyMode = 0o440 }) }, 2},
		"key algorithm": {func(h *plan.HostPlan) { enrolOf(h, func(e *plan.Enrol) { e.Profile.KeyAlgorithm = "rsa-3072" }) }, 2},
		"key usage":     {func(h *plan.HostPlan) { enrolOf(h, func(e *plan.Enrol) { e.Profile.KeyUsage = "strict" }) }, 2},
		"first one":     {func(h *plan.HostPlan) { enrolOf(h, func(e *plan.Enrol) { e.Old = nil }) }, 2},
		"old issuer":    {func(h *plan.HostPlan) { enrolOf(h, func(e *plan.Enrol) { e.Old.Issuer = "CN=someone" }) }, 2},
		"lacks an address": {func(h *plan.HostPlan) {
			enrolOf(h, func(e *plan.Enrol) {
				e.Profile.IPs = e.Profile.IPs[:1]
				e.Old.IPs = e.Old.IPs[:1]
			})
		}, 2},
		"a new address": {func(h *plan.HostPlan) {
			enrolOf(h, func(e *plan.Enrol) { e.Profile.IPs = append(e.Profile.IPs, netip.MustParseAddr("192.0.2.1")) })
		}, 2},
		"restart": {func(h *plan.HostPlan) {
			h.Ops[1] = plan.Activate{Meta: h.Ops[1].About(), Unit: "libvirtd.service", How: plan.Restart}
		}, 2},
		"one more": {func(h *plan.HostPlan) { h.Ops = append(h.Ops, plan.Remove{Path: "/etc/x"}) }, 2},
	} {
		a, b := renewal(t, "kvm1", 1, ends), renewal(t, "kvm2", 2, ends)
		c.change(&b)
		if got := groups([]*plan.HostPlan{&a, &b}); len(got) != c.want {
			t.Errorf("%s: %d groups, want %d", name, len(got), c.want)
		}
	}
	setting := func(host, value string) *plan.HostPlan {
		return &plan.HostPlan{Host: host, Ops: plan.Ops{plan.WriteFile{Path: "/etc/libvirt/libvirtd.conf", Edits: []plan.Edit{{Key: "listen_addr", New: value}}}}}
	}
	if got := groups([]*plan.HostPlan{setting("kvm1", `"0.0.0.0"`), setting("kvm2", `"10.0.0.2"`)}); len(got) != 2 {
		t.Error("two values of a setting are one change")
	}
	if got := groups([]*plan.HostPlan{setting("kvm1", `"kvm1.mig"`), setting("kvm2", `"kvm2.mig"`)}); len(got) != 1 {
		t.Error("a setting with the host's own name is two changes")
	}
	file := func(host, content string) *plan.HostPlan {
		return &plan.HostPlan{Host: host, Ops: plan.Ops{plan.WriteFile{Path: "/etc/x", Content: []byte(content)}}}
	}
	if got := groups([]*plan.HostPlan{file("kvm1", "a"), file("kvm2", "b")}); len(got) != 2 {
		t.Error("two contents of a file are one change")
	}
}

func TestVerbose(t *testing.T) {
	var b bytes.Buffer
	if err := Plan(&b, large(t), Options{Width: 200, Verbose: true}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kvm333", "kvm333.example.org", "10.0.1.77", "/etc/pki/libvirt/.virtrust/client"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is not named", want)
		}
	}
}

// A screen has to do for 500 hosts.
func TestLargePlanIsShort(t *testing.T) {
	var b bytes.Buffer
	if err := Plan(&b, large(t), Options{Width: 80}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n > 70 {
		t.Errorf("%d lines", n)
	}
	for _, exception := range []string{"kvm077", "kvm123", "kvm200"} {
		if !strings.Contains(b.String(), exception+":") && !strings.Contains(b.String(), ": "+exception) {
			t.Errorf("%s is not named", exception)
		}
	}
}

// The counts of the page are those by which the program exits.
func TestSummaryCounts(t *testing.T) {
	for _, p := range []*plan.Plan{large(t), exceptions(t), hostile(t)} {
		change, held, unread, nothing := p.Count()
		s := sortOut(p)
		if len(s.change) != change || len(s.held) != held || len(s.unread) != unread || len(s.readOnly)+len(s.nothing) != nothing {
			t.Errorf("%s, want %d %d %d %d", summaryText(s), change, held, unread, nothing)
		}
	}
}

func TestMarkdownFence(t *testing.T) {
	got := fence("text", "a ````` b\n")
	if want := "``````text\na ````` b\n``````\n"; got != want {
		t.Errorf("got %q", got)
	}
	long := fence("text", strings.Repeat("0123456789äö\n", 10000))
	if len(long) > maxMarkdown+200 || !strings.Contains(long, "shortened") || !strings.HasSuffix(long, ")\n```\n") {
		t.Errorf("%d bytes, ends %q", len(long), long[len(long)-80:])
	}
	if got := plainMarkdown("@team <b> `x` *y*"); got != "&#64;team &lt;b&gt; \\`x\\` \\*y\\*" {
		t.Errorf("got %q", got)
	}
}

func TestEventLine(t *testing.T) {
	for want, e := range map[string]plan.Event{
		"kvm1: lock":                {Host: "kvm1", Step: "lock"},
		"kvm1: sign libvirt-server": {Host: "kvm1", Step: "sign", Detail: "libvirt-server"},
		"kvm1: end: changed":        {Host: "kvm1", Step: "end", Result: plan.Changed},
		`kvm1: \x1b[2J: failed`:     {Host: "kvm1", Step: "\x1b[2J", Result: plan.Failed},
	} {
		if got := EventLine(e); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

type broken struct{}

var errBroken = errors.New("no space left")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestWriterErrors(t *testing.T) {
	p := newPlan(settled("kvm1", now))
	for _, write := range []func(io.Writer) error{
		func(w io.Writer) error { return Plan(w, p, Options{}) },
		func(w io.Writer) error { return PlanMarkdown(w, p, Options{}) },
		func(w io.Writer) error { return Apply(w, &plan.Report{}, Options{}) },
		func(w io.Writer) error { return Status(w, nil, Options{}) },
		func(w io.Writer) error { return Verify(w, nil, nil, Options{}) },
		func(w io.Writer) error { return JSON(w, p) },
	} {
		if err := write(broken{}); !errors.Is(err, errBroken) {
			t.Errorf("got %v", err)
		}
	}
}
