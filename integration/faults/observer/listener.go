package main

import (
	"crypto/tls"
	"net"
	"time"
)

const (
	address = "127.0.0.1:16514"
	// window is how long a restart may keep the listener away.
	window = 10 * time.Second
)

// dial gives the leaf that is served.
func dial() (string, error) {
	d := &net.Dialer{Timeout: window}
	c, err := tls.DialWithDialer(d, "tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return "", err
	}
	defer c.Close()
	return digest(c.ConnectionState().PeerCertificates[0].Raw), nil
}

// listener is O3.
func (w *watch) listener(first func()) {
	served, err := dial()
	was := err == nil
	w.mu.Lock()
	if was {
		w.leaves[served] = true
	}
	w.mu.Unlock()
	first()
	good := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
		began := time.Now()
		leaf, err := dial()
		w.mu.Lock()
		w.rep.Connects++
		w.mu.Unlock()
		if err != nil {
			gap := time.Since(good)
			switch {
			case !was || w.Fresh || w.Down:
			case !w.Restart:
				w.violate("O3", "a handshake failed in a renewal: %v", err)
			case gap > window:
				w.violate("O3", "no handshake for more than %s: %v", window, err)
			}
			continue
		}
		w.mu.Lock()
		if gap := time.Since(good).Seconds(); gap > w.rep.Longest {
			w.rep.Longest = gap
		}
		w.rep.Served = leaf
		known := w.leaves[leaf]
		w.mu.Unlock()
		if took := time.Since(began); was && !w.Fresh && !w.Down && took > window {
			w.violate("O3", "a handshake took longer than %s", window)
		}
		good, was = time.Now(), true
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
