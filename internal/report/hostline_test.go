package report

import (
	"testing"

	"github.com/virtrust/virtrust/plan"
)

func TestHostLine(t *testing.T) {
	e := func(step, detail string, result plan.Result) plan.Event {
		return plan.Event{Host: "kvm1", Step: step, Detail: detail, Result: result}
	}
	tests := []struct {
		name   string
		events []plan.Event
		want   string
	}{
		{"all", []plan.Event{e("lock", "", ""), e("sign", "libvirt-server", ""), e("sign", "qemu", ""), e("switch", "", ""), e("prove", "", ""), e("end", "", plan.Changed)},
			"kvm1: lock, sign libvirt-server, qemu, switch, prove: changed"},
		{"it failed", []plan.Event{e("lock", "", ""), e("stage", "", plan.Failed)}, "kvm1: lock, stage: failed"},
		{"no step", []plan.Event{e("end", "", plan.Held)}, "kvm1: held"},
		{"hostile", []plan.Event{{Host: "k\x1b[2J", Step: "end", Result: plan.Held}}, `k\x1b[2J: held`},
		{"long", []plan.Event{e("lock", "", ""), e("sign", "a-certificate-with-a-name", ""), e("sign", "another-certificate", ""), e("end", "", plan.Changed)},
			"kvm1: lock, sign a-certificate-with-a-name,\n      another-certificate: changed"},
	}
	for _, tt := range tests {
		if got := HostLine(tt.events, 62); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
