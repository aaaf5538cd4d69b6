//go:build faults

package faults

import "testing"

// slow kinds of transport faults take until virtrust notices that nobody
// answers.
var slow = []string{blackhole, stall}

// TestSilence drops answers, or everything, from every operation on.
func TestSilence(t *testing.T) {
	r := seed(t)
	sites := startHosts(t, 6)
	sizes := measure(t, sites[0], scenarios)
	trials := trialsOf(scenarios, sizes, slow, stride(t, 4), r, 0)
	sweep(t, sites, trials)
	complete(t, scenarios, trials)
}
