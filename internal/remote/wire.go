package remote

import (
	"net"
	"sync"
	"sync/atomic"
)

// wire is the transport under SSH: it counts round trips, caps what the host
// may send, and keeps the first bytes of it for messages.
type wire struct {
	net.Conn
	limit    atomic.Int64 // bytes that may have been read in all
	overflow atomic.Bool
	ended    atomic.Bool // a read has failed

	mu    sync.Mutex
	read  int64
	wrote bool // since the last read
	trips int
	first []byte
}

func newWire(c net.Conn, limit int64) *wire {
	w := &wire{Conn: c}
	w.limit.Store(limit)
	return w
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	if n > 0 {
		if w.wrote {
			w.trips++
			w.wrote = false
		}
		if room := 256 - len(w.first); room > 0 {
			w.first = append(w.first, p[:min(n, room)]...)
		}
		w.read += int64(n)
	}
	over := w.read > w.limit.Load()
	w.mu.Unlock()
	if err != nil {
		w.ended.Store(true)
	}
	if over {
		w.overflow.Store(true)
		_ = w.Conn.Close()
		return 0, ErrOutputLimit
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.wrote = true
	w.mu.Unlock()
	return w.Conn.Write(p)
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trips
}

func (w *wire) opening() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}
