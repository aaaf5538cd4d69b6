// Command observer watches a host while virtrust changes it. It shares no code
// with virtrust and believes nothing that virtrust says. It answers one JSON
// request per line on a TCP connection that it opens.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// request is one line from the test.
type request struct {
	Op string `json:"op"` // watch, stop, snapshot, leftovers, wall
	// Of watch.
	Fresh   bool `json:"fresh"`   // an onboarding: absent to whole once, back only by a revert
	Restart bool `json:"restart"` // the daemon may be away while systemd restarts it
	Down    bool `json:"down"`    // the test itself takes the daemon away
	Calm    bool `json:"calm"`    // look less often: most of the time nothing happens
	// Wall is the firewall that owns the host: firewalld, ufw, nftables, iptables.
	Wall string `json:"wall"`
}

// violation is one thing that must not be seen.
type violation struct {
	Observer string  `json:"observer"` // O1, O2, O3, O5
	At       float64 `json:"at"`       // seconds since the watch began
	Text     string  `json:"text"`
}

// report is the answer to stop.
type report struct {
	Samples    int         `json:"samples"`  // O1
	Opens      int         `json:"opens"`    // O2, files opened
	Connects   int         `json:"connects"` // O3
	Failed     int         `json:"failed"`   // O3, handshakes
	Longest    float64     `json:"longest"`  // O3, seconds without a good handshake
	Outside    float64     `json:"outside"`  // O3, seconds of such a time in which nothing was restarted
	Served     string      `json:"served"`   // last leaf, sha256
	Disk       string      `json:"disk"`     // last server leaf on disk, sha256
	Walls      int         `json:"walls"`    // O5
	Violations []violation `json:"violations"`
}

// watch is one faulted run under observation.
type watch struct {
	request
	began time.Time
	stop  chan struct{}
	done  sync.WaitGroup

	mu     sync.Mutex
	rep    report
	leaves map[string]bool // every server leaf that was whole on disk
	last   map[string]bool // violations seen, so that each is told once
}

func (w *watch) violate(observer, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last[observer+text] || len(w.rep.Violations) > 50 {
		return
	}
	w.last[observer+text] = true
	w.rep.Violations = append(w.rep.Violations, violation{observer, time.Since(w.began).Seconds(), text})
}

// every is how often an observer looks.
func (w *watch) every(d time.Duration) time.Duration {
	if w.Calm {
		return 8 * d
	}
	return d
}

func (w *watch) stopped() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// start begins all observers and returns once each has looked once.
func start(r request) *watch {
	w := &watch{request: r, began: time.Now(), stop: make(chan struct{}), leaves: map[string]bool{}, last: map[string]bool{}}
	var ready sync.WaitGroup
	run := func(f func(first func())) {
		ready.Add(1)
		var once sync.Once
		w.done.Go(func() { f(func() { once.Do(ready.Done) }) })
	}
	run(w.pairs)
	ready.Wait() // the listener compares with leaves that are on disk
	run(w.listener)
	run(func(first func()) { w.reader("nobody", 65534, 65534, nil, first) })
	if gid, ok := group("kvm"); ok {
		run(func(first func()) { w.reader("a member of kvm", 65533, 65533, []int{gid}, first) })
	} else {
		w.violate("O2", "the host has no group kvm")
	}
	if w.Wall != "" {
		run(w.walls)
	}
	ready.Wait()
	return w
}

func serve(c net.Conn) {
	defer c.Close()
	in, out := bufio.NewScanner(c), json.NewEncoder(c)
	var w *watch
	end := func() {
		if w != nil {
			close(w.stop)
			w.done.Wait()
			w = nil
		}
	}
	defer end()
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			return
		}
		switch r.Op {
		case "watch":
			end()
			w = start(r)
			out.Encode(true)
		case "stop":
			if w == nil {
				return
			}
			old := w
			end()
			out.Encode(old.rep)
		case "snapshot":
			out.Encode(snapshot(r.Wall))
		case "wall":
			look, err := lookAtWall(r.Wall)
			if err != nil {
				look.Live = []string{err.Error()}
			}
			out.Encode(look)
		case "leftovers":
			out.Encode(leftovers())
		default:
			return
		}
	}
}

func main() {
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[1] == "knock":
		knock(os.Stdin, os.Args[2], os.Args[3])
	case len(os.Args) == 3:
		err = immutable(os.Args[1] == "+i", os.Args[2])
	case len(os.Args) == 2:
		// Outward: the host's firewall lets in nothing but SSH.
		var c net.Conn
		if c, err = net.DialTimeout("tcp", os.Args[1], 30*time.Second); err == nil {
			serve(c)
		}
	default:
		err = errors.New("observer: wrong arguments")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
