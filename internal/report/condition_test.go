package report

import (
	"strings"
	"testing"

	"github.com/virtrust/virtrust/plan"
)

// TestCondition has a page say what waits for whom, before and after.
func TestCondition(t *testing.T) {
	late := func(host string, peers ...string) plan.HostPlan {
		when := &plan.Condition{Kind: plan.Ready, Authority: "qemu", Certificate: "qemu", Hosts: peers}
		return plan.HostPlan{Host: host, Ops: plan.Ops{plan.Activate{Meta: plan.Meta{When: when, Reason: "required"}, Unit: "libvirtd.service", How: plan.Restart}}}
	}
	text := func(hosts ...plan.HostPlan) string {
		var b strings.Builder
		if err := Plan(&b, &plan.Plan{Hosts: hosts}, Options{Width: 200}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for want, got := range map[string]string{
		"when kvm2, kvm3 have proved their credentials":                       text(late("kvm1", "kvm2", "kvm3")),
		"when kvm2 has proved its credentials":                                text(late("kvm1", "kvm2")),
		"when each other host of kvm1, kvm2, kvm3 has proved its credentials": text(late("kvm1", "kvm2", "kvm3"), late("kvm2", "kvm1", "kvm3"), late("kvm3", "kvm1", "kvm2")),
		"when kvm1 has proved its credentials":                                text(late("kvm1", "kvm2"), late("kvm2", "kvm1"), late("kvm9", "kvm1")),
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	held := plan.HeldOp{Kind: "activate", Subject: "libvirtd.service", For: []plan.Unmet{{Host: "kvm9", Why: "it cannot be read"}}}
	other := held
	other.Subject = "/etc/libvirt/qemu.conf"
	var b strings.Builder
	if err := Apply(&b, &plan.Report{Hosts: []plan.HostReport{{Host: "kvm1", Result: plan.Changed, HeldOps: []plan.HeldOp{other, held}}}}, Options{Width: 200}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Held for other hosts", "/etc/libvirt/qemu.conf, libvirtd.service: kvm1", "waits for kvm9: it cannot be read", "Incomplete:"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, b.String())
		}
	}
}
