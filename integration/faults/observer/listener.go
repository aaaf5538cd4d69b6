package main

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

const (
	address = "127.0.0.1:16514"
	// patience is how long one handshake may take where nothing restarts.
	patience = 10 * time.Second
	// latest is how long a client may take to begin its handshake.
	latest = 200 * time.Millisecond
	// margin is how much longer than systemd's restart of the daemon a client
	// may wait: five seconds of it for a reload, see internal/remote/reload.sh.
	margin = 7 * time.Second
	// bound is how long a restart may keep the listener away in all: libvirtd
	// gives up a clean stop after 30 s.
	bound = 45 * time.Second
	// ahead is how long before systemd's "Stopping" a restart may be felt:
	// systemd sends the signal first and then writes the message, and on a busy
	// machine it waits in between (job_perform_on_unit in its src/core/job.c).
	ahead = time.Second
)

// dial gives the leaf that is served, to a client whose first message comes as
// late as from another continent.
func dial(limit time.Duration) (string, error) {
	c, err := net.DialTimeout("tcp", address, limit)
	if err != nil {
		return "", err
	}
	defer c.Close()
	time.Sleep(rand.N(latest))
	_ = c.SetDeadline(time.Now().Add(limit))
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	if err := t.Handshake(); err != nil {
		return "", err
	}
	return digest(t.ConnectionState().PeerCertificates[0].Raw), nil
}

// gap is a time without a good handshake.
type gap struct {
	from, to time.Time
	failed   []failure
}

type failure struct {
	from, to time.Time
	err      error
}

// listener is O3.
func (w *watch) listener(first func()) {
	limit := patience
	if w.Restart {
		limit = bound + patience
	}
	served, err := dial(limit)
	was := err == nil
	w.mu.Lock()
	if was {
		w.leaves[served] = true
	}
	w.mu.Unlock()
	first()
	g := gap{from: time.Now()}
	var gaps []gap // longer than the margin, or with failures
	tick := time.NewTicker(w.every(50 * time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			if len(g.failed) > 0 {
				g.to = time.Now()
				gaps = append(gaps, g)
			}
			if w.Restart && was && !w.Fresh && !w.Down {
				w.judgeGaps(gaps)
			}
			return
		case <-tick.C:
		}
		began := time.Now()
		leaf, err := dial(limit)
		w.mu.Lock()
		w.rep.Connects++
		if err != nil {
			w.rep.Failed++
		}
		w.mu.Unlock()
		if err != nil {
			g.failed = append(g.failed, failure{began, time.Now(), err})
			if was && !w.Fresh && !w.Down && !w.Restart {
				w.violate("O3", "a handshake failed in a renewal: %v", err)
			}
			continue
		}
		g.to = time.Now()
		away := g.to.Sub(g.from)
		w.mu.Lock()
		w.rep.Longest = max(w.rep.Longest, away.Seconds())
		w.rep.Served = leaf
		known := w.leaves[leaf]
		w.mu.Unlock()
		if was && !w.Fresh && !w.Down && !w.Restart && away > patience {
			w.violate("O3", "no handshake for more than %s", patience)
		}
		if away > margin || len(g.failed) > 0 {
			gaps = append(gaps, g)
		}
		g, was = gap{from: time.Now()}, true
		if !known {
			// The other observer may be a moment behind.
			time.Sleep(20 * time.Millisecond)
			w.mu.Lock()
			known = w.leaves[leaf]
			w.mu.Unlock()
			if !known {
				w.violate("O3", "the listener shows a leaf that never lay on disk: %s", leaf)
			}
		}
	}
}

// judgeGaps compares the times without a handshake with the restarts in the
// host's own journal: the listener is away while systemd restarts the daemon,
// and not for longer.
func (w *watch) judgeGaps(gaps []gap) {
	if len(gaps) == 0 {
		return
	}
	restarts, err := restartsSince(w.began)
	if err != nil {
		w.violate("O3", "the journal cannot be read: %v", err)
		return
	}
	for _, g := range gaps {
		var within time.Duration
		for _, r := range restarts {
			within += overlap(g.from, g.to, r.from, r.to)
		}
		away := g.to.Sub(g.from)
		w.mu.Lock()
		w.rep.Outside = max(w.rep.Outside, (away - within).Seconds())
		w.mu.Unlock()
		if away-within > margin {
			w.violate("O3", "no handshake for %.1f s, and the restarts in it took %.1f s", away.Seconds(), within.Seconds())
		}
		if away > bound {
			w.violate("O3", "no handshake for %.1f s", away.Seconds())
		}
		for _, f := range g.failed {
			known := false
			for _, r := range restarts {
				known = known || overlap(f.from, f.to, r.from.Add(-ahead), r.to.Add(margin)) > 0
			}
			if !known {
				w.violate("O3", "a handshake failed while nothing was restarted, %.3f s to %.3f s: %v (restarts: %s)",
					f.from.Sub(w.began).Seconds(), f.to.Sub(w.began).Seconds(), f.err, w.told(restarts))
			}
		}
	}
}

// told is when restarts were, in seconds since the watch began.
func (w *watch) told(restarts []span) string {
	var out []string
	for _, r := range restarts {
		out = append(out, fmt.Sprintf("%.3f s to %.3f s", r.from.Sub(w.began).Seconds(), r.to.Sub(w.began).Seconds()))
	}
	return strings.Join(out, ", ")
}

// overlap is the time that two spans share.
func overlap(a, b, c, d time.Time) time.Duration {
	if a.Before(c) {
		a = c
	}
	if b.After(d) {
		b = d
	}
	return max(0, b.Sub(a))
}
