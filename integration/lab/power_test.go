package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPower(t *testing.T) {
	_, hosts := start(t, HostSpec{})
	h, ctx := hosts[0], t.Context()
	boot := func() string {
		leader, err := h.leader()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(leader)
	}
	seen := []string{boot()}
	if err := h.WriteFile(ctx, "/var/lib/lab/mark", []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(step string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if got, err := h.ReadFile(ctx, "/var/lib/lab/mark"); err != nil || string(got) != "kept" {
			t.Errorf("%s: the file holds %q, %v", step, got, err)
		}
		now := boot()
		if slices.Contains(seen, now) {
			t.Errorf("%s: the host did not start anew", step)
		}
		seen = append(seen, now)
		must(t)(h.Run(ctx, "virsh", "-c", "qemu:///system", "uri"))
	}
	check("reboot", h.Reboot(ctx))
	if err := h.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Run(ctx, "true"); err == nil || h.Running() {
		t.Error("a host that is off runs commands")
	}
	check("power on", h.Start(ctx))
	if err := h.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if h.Running() {
		t.Error("a killed host runs")
	}
	check("start after kill", h.Start(ctx))
}

// A host that does not get ready says why.
func TestBrokenBoot(t *testing.T) {
	Require(t)
	l, err := New(t.Context(), Config{Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Start(t.Context(), HostSpec{Files: map[string]File{"/etc/ssh/sshd_config.d/broken.conf": {Content: []byte("Nonsense yes\n")}}})
	if err == nil || !strings.Contains(err.Error(), "sshd does not answer") || !strings.Contains(err.Error(), "Failed to start ssh.service") {
		t.Errorf("the error is %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left := traces(t, l.ID); len(left) > 0 {
		t.Errorf("the closed lab left:\n%s", strings.Join(left, "\n"))
	}
}

func TestPause(t *testing.T) {
	l, hosts := start(t, HostSpec{}, HostSpec{Cheap: true})
	ctx := t.Context()
	if err := hosts[0].Pause(ctx); err != nil {
		t.Fatal(err)
	}
	for _, a := range hosts[0].Addresses.list() {
		if r, err := hosts[1].Run(ctx, "ping", "-c1", "-W1", a); err != nil || r.Code == 0 {
			t.Errorf("%s answers while paused: %v", a, err)
		}
	}
	if err := hosts[0].Resume(ctx); err != nil {
		t.Fatal(err)
	}
	for _, a := range hosts[0].Addresses.list() {
		// An unanswered neighbour stays unreachable for up to three seconds.
		must(t)(hosts[1].Script(ctx, "n=0; until ping -c1 -W1 "+a+"; do n=$((n+1)); [ $n -lt 10 ]; sleep 0.5; done"))
	}
	if _, err := login(t, l, "root", "kvm1:22"); err != nil {
		t.Error(err)
	}
}
