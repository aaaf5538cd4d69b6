package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// caught notes that a planted bug was found.
func caught(bug, by string) {
	table.Lock()
	defer table.Unlock()
	table.controls = append(table.controls, fmt.Sprintf("| %s | %s |", bug, strings.ReplaceAll(by, "|", "/")))
}

// TestNoSyncIsCaught plants a switch that syncs nothing. The true program has
// to pass the same check.
func TestNoSyncIsCaught(t *testing.T) {
	t.Parallel()
	needStrace(t)
	s := alone(t)
	bad := mutant(t, "lease.sh", `durable() { sync "$@" 2>/dev/null || sync; }`, `durable() { :; }`)
	look := func(sc scenario) ([]string, int, result) {
		sc.prepare(s)
		var r result
		// Each call of each process is stopped twice: that takes its time.
		calls := s.trace(func() { r = s.run(3*programLimit, applyArgs("12m")...) })
		if r.code != 0 {
			t.Fatalf("apply under strace: %s\n%s", r, r.stderr)
		}
		s.round++
		problems, renames := undurable(calls)
		return problems, renames, r
	}
	list := scenarios
	if !full {
		list = []scenario{renewal}
	}
	for _, sc := range list {
		problems, renames, r := look(sc)
		if renames == 0 {
			t.Fatalf("%s: strace saw no rename", sc.name)
		}
		note(t, s, sc, "loss of power after the switch (what is synced, by strace)", 0, []result{r}, problems...)
	}
	s.virtrust = bad
	problems, _, _ := look(renewal)
	if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, "key.pem was not synced") }) {
		t.Fatalf("the planted bug is not found: %v", problems)
	}
	caught("no sync before the switch", "strace: "+problems[0])
}

// TestLateModeIsCaught plants a key that is readable until its mode is set.
func TestLateModeIsCaught(t *testing.T) {
	t.Parallel()
	s := alone(t)
	s.onboarded()
	s.virtrust = mutant(t, "stage.go",
		`mkdir -m 0700 "$2" ||`, `mkdir -m 0755 "$2" ||`,
		`mkdir -m 0700 %s ||`, `mkdir -m 0755 %s ||`,
		`openssl genpkey -algorithm "$4" -pkeyopt "$5" -out "$2/key.pem" >/dev/null 2>&1 </dev/null ||`,
		`umask 022; openssl genpkey -algorithm "$4" -pkeyopt "$5" 2>/dev/null </dev/null >"$2/key.pem" && umask 077 && chmod 0600 "$2/key.pem" ||`)
	for range 5 {
		o := s.try(trial{scenario: renewal, recovery: byNextRun, canAsk: true})
		for _, f := range o.findings {
			if f.class == "O2" {
				caught("mode set after creation, outside a 0700 directory", "O2: "+f.text)
				return
			}
		}
		t.Logf("not seen: %s %+v", o.result, o.seen)
	}
	t.Fatal("the planted bug is not found")
}

// TestNoReverterIsCaught plants a switch without a timer, and kills virtrust
// between switch and confirmation.
func TestNoReverterIsCaught(t *testing.T) {
	t.Parallel()
	s := alone(t)
	s.virtrust = mutant(t, "switch.sh", `systemd-run --quiet`, `: systemd-run --quiet`)
	for range 5 {
		o := s.try(trial{scenario: renewal, fault: fault{kind: killThere}, recovery: byWaiting, canAsk: true})
		for _, f := range o.findings {
			if f.class == "reverter" {
				caught("reverter not armed", f.text)
				return
			}
		}
		t.Logf("killed too early or too late: %s\n%s", o.result, o.records)
	}
	t.Fatal("the planted bug is not found")
}

// TestOpenAfterRevertIsCaught plants a reverter that leaves the firewall as it
// is, and kills virtrust between switch and confirmation.
func TestOpenAfterRevertIsCaught(t *testing.T) {
	t.Parallel()
	s := alone(t)
	s.virtrust = mutant(t, "revert.sh", `firewall.sh" undo`, `firewall.sh" check`)
	for range 5 {
		o := s.try(trial{scenario: firewall, fault: fault{kind: killThere}, recovery: byTimer, canAsk: true})
		for _, f := range o.findings {
			if f.class == "reverter" && strings.Contains(f.text, "rule ") {
				caught("reverter leaves the firewall open", f.text)
				return
			}
		}
		t.Logf("killed too early or too late: %s\n%s", o.result, o.records)
	}
	t.Fatal("the planted bug is not found")
}
