package tasks

import (
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
)

// loadedFile is where the switch records what a daemon has read: lines of
// unit, invocation id, item and digest.
const loadedFile = "/var/lib/virtrust/loaded"

// loaded reports whether the running daemon has read item as it lies on disk
// with that digest. A daemon that does not run will read what lies there. For
// an invocation that nobody recorded, its start is compared with the last
// change of the files.
func loaded(h *facts.Host, unit, item, digest string, paths ...string) bool {
	u := h.Units[unit]
	if u.MainPID == 0 {
		return true
	}
	content, _ := h.Content(loadedFile)
	for _, l := range strings.Split(string(content), "\n") {
		f := strings.Fields(l)
		if len(f) == 4 && f[0] == unit && f[1] == u.Invocation && f[2] == item {
			return f[3] == digest
		}
	}
	started := h.Since(u.Started)
	for _, p := range paths {
		// The two clocks are known to some hundredths of a second: a change
		// just before the start counts as not read.
		if changed(h, p).After(started.Add(-startSlack)) {
			return false
		}
	}
	return true
}

// startSlack is how exactly a process's start is known: the kernel tells the
// uptime in hundredths, read a moment after the clock.
const startSlack = 100 * time.Millisecond

// changed is the last change of p or of a link on the way to its content.
func changed(h *facts.Host, p string) time.Time {
	last := h.Path(p).CTime
	if q, f, ok := h.Resolve(p); ok && q != p && f.CTime.After(last) {
		last = f.CTime
	}
	return last
}

// listening reports whether a TLS listener answers on the port.
func listening(h *facts.Host, port int) bool {
	for _, l := range h.Listening {
		if int(l.Port()) == port {
			return true
		}
	}
	return false
}
