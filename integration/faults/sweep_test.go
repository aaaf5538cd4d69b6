package faults

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Kinds of transport faults; silence_test.go has the slow ones.
var (
	drops   = []string{cutBefore, cutAfter}
	kills   = []string{killBefore, killAfter}
	signals = []string{interrupt1, interrupt2, terminate1, terminate2}
	cuts    = []string{cutBytesUp, cutBytesDn}
)

// recoveries are taken in turn; waiting is real time and so the rarest.
func recoveryOf(i int) recovery {
	switch {
	case i%16 == 7:
		return byWaiting
	case i%2 == 0:
		return byTimer
	}
	return byNextRun
}

// size is how long one undisturbed run of a scenario is.
type size struct{ chunks, up, down int }

// measure runs every scenario once without a fault.
func measure(t testing.TB, s *site, list []scenario) map[string]size {
	t.Helper()
	sizes := map[string]size{}
	for _, sc := range list {
		s.proxy.reset(fault{})
		sc.prepare(s)
		s.proxy.reset(fault{})
		if r := s.apply(); r.code != 0 {
			t.Fatalf("%s without a fault: %s\n%s", sc.name, r, r.stderr)
		}
		_, chunks, up, down := s.proxy.state()
		sizes[sc.name] = size{chunks, up, down}
		s.round++
	}
	return sizes
}

// busy limits how many trials of all tests are at work at once: beyond that
// they would disturb each other.
var busy = make(chan bool, 4)

// alone takes one of those places for a test on a host of its own.
func alone(t testing.TB) *site {
	t.Helper()
	busy <- true
	t.Cleanup(func() { <-busy })
	return startHosts(t, 1)[0]
}

// sweep carries trials out on several hosts at once. Those that mostly wait do
// not count as work.
func sweep(t *testing.T, sites []*site, trials []trial, waiting bool) {
	t.Helper()
	trials = slices.DeleteFunc(slices.Clone(trials), func(tr trial) bool { return !selected(tr.fault.kind) })
	work := make(chan trial)
	var wg sync.WaitGroup
	for _, s := range sites {
		wg.Go(func() {
			for tr := range work {
				if !waiting {
					busy <- true
				}
				began := time.Now()
				if waiting {
					tr.watch = append(tr.watch, "calm")
				}
				o := s.try(tr)
				if !waiting {
					<-busy
				}
				record(t, o)
				if testing.Verbose() {
					t.Logf("%s %-10s %s n=%d struck=%v: %s (%.1f s)", s.host.Name, tr.scenario.name, tr.fault.kind, tr.fault.n, o.struck, o.result, time.Since(began).Seconds())
				}
			}
		})
	}
	for i, tr := range trials {
		// The table is worth more than the last trials.
		if limit, ok := deadline(t); ok && time.Until(limit) < 3*time.Minute {
			t.Errorf("time is over: %d of %d trials were not run", len(trials)-i, len(trials))
			break
		}
		work <- tr
	}
	close(work)
	wg.Wait()
}

// selected says whether faults of this kind are wanted.
func selected(kind string) bool { return strings.Contains(kind, os.Getenv("VIRTRUST_FAULTS_KIND")) }

// deadline is when the test binary is ended.
func deadline(t testing.TB) (time.Time, bool) {
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		return d.Deadline()
	}
	return time.Time{}, false
}

// seed makes random bytes and orders reproducible.
func seed(t testing.TB) *rand.Rand {
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("VIRTRUST_FAULTS_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n = v
	}
	t.Logf("VIRTRUST_FAULTS_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// trialsOf has each kind of fault at every stride-th operation, up to past the
// end: the sweep of a kind is over when a run is not disturbed. Which change is
// disturbed goes round, differently for each kind, so that a kind meets every
// operation and a change meets some kind at each of its operations.
func trialsOf(list []scenario, sizes map[string]size, kinds []string, stride int, r *rand.Rand, samples int) []trial {
	var out []trial
	longest := 0
	for _, sc := range list {
		longest = max(longest, sizes[sc.name].chunks)
	}
	for k, kind := range kinds {
		if kind == cutBytesUp || kind == cutBytesDn {
			for _, sc := range list {
				top := sizes[sc.name].up
				if kind == cutBytesDn {
					top = sizes[sc.name].down
				}
				for range samples {
					out = append(out, trial{scenario: sc, fault: fault{kind: kind, n: 1 + r.IntN(top)}, canAsk: true})
				}
			}
			continue
		}
		// Chunks vary a little with timing: well past the end is past it.
		for n := 1 + k%stride; n < longest+8; n += stride {
			long := slices.DeleteFunc(slices.Clone(list), func(sc scenario) bool { return n >= sizes[sc.name].chunks+8 })
			sc := long[(n/stride+k)%len(long)]
			out = append(out, trial{scenario: sc, fault: fault{kind: kind, n: n}, canAsk: true})
		}
		out = append(out, trial{scenario: list[k%len(list)], fault: fault{kind: kind, n: 3 * longest}, canAsk: true})
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	for i := range out {
		out[i].recovery = recoveryOf(i)
	}
	return out
}

func stride(t testing.TB, otherwise int) int {
	if s := os.Getenv("VIRTRUST_FAULTS_STRIDE"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("VIRTRUST_FAULTS_STRIDE=%q", s)
		}
		return n
	}
	return otherwise
}

// TestTransport breaks the connection or the program at every operation.
func TestTransport(t *testing.T) {
	t.Parallel()
	r := seed(t)
	list, hosts := scenarios, 4
	if !full {
		list, hosts = []scenario{renewal, firewall}, 2
	}
	sites := startHosts(t, hosts)
	sizes := measure(t, sites[0], list)
	t.Logf("undisturbed: %+v", sizes)
	var trials []trial
	if full {
		every := stride(t, 1)
		trials = slices.Concat(trialsOf(list, sizes, slices.Concat(kills, drops), every, r, 0), trialsOf(list, sizes, signals, 6*every, r, 0), trialsOf(list, sizes, cuts, 1, r, 5))
	} else {
		trials = append(trialsOf(list, sizes, slices.Concat(drops, kills), 9, r, 0), trialsOf(list, sizes, cuts, 1, r, 2)...)
		for i := range trials {
			if trials[i].recovery == byWaiting {
				trials[i].recovery = byTimer
			}
		}
	}
	sweep(t, sites, trials, false)
	complete(t, trials)
}

// complete checks that the sweep of each kind ended with a run that was not
// disturbed.
func complete(t *testing.T, trials []trial) {
	t.Helper()
	table.Lock()
	defer table.Unlock()
	kinds := map[string]bool{}
	for _, tr := range trials {
		if selected(tr.fault.kind) {
			kinds[tr.fault.kind] = true
		}
	}
	delete(kinds, cutBytesUp)
	delete(kinds, cutBytesDn)
	for kind := range kinds {
		if r := table.rows[kind]; r == nil || r.missed == 0 {
			t.Errorf("%s: no run ended undisturbed: the sweep is not complete", kind)
		}
	}
}
