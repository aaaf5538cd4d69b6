//go:build faults

package faults

import "testing"

// slow kinds of transport faults take until virtrust notices that nobody
// answers.
var slow = []string{blackhole, stall}

// TestSilence drops answers, or everything, from every operation on, in turn.
func TestSilence(t *testing.T) {
	t.Parallel()
	r := seed(t)
	sites := startHosts(t, 8)
	sizes := measure(t, sites[0], scenarios)
	trials := trialsOf(scenarios, sizes, slow, stride(t, len(slow)), r, 0)
	sweep(t, sites, trials, true)
	complete(t, trials)
}
