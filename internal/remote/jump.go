package remote

import (
	"context"
	"errors"
	"math"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	// jumpOpens bounds the connections that one jump host is asked for at a
	// time. They are no sessions, so sshd's MaxSessions does not count them, but
	// it looks up names one after the other.
	jumpOpens = 32
	// handshakesAtOnce bounds the logins under way to one address: sshd's
	// MaxStartups begins to drop connections at ten.
	handshakesAtOnce = 8
	// jumpPause is how long a jump host that could not be reached is left alone.
	jumpPause = 15 * time.Second
)

// jumpHosts are the connections to jump hosts that a run shares.
type jumpHosts struct {
	mu     sync.Mutex
	all    map[string]*jumpHost
	closed bool
}

// jumpHost is one of them: one login serves all hosts behind it. It lives while
// somebody uses it, and until the run ends.
type jumpHost struct {
	opens chan struct{}

	mu      sync.Mutex
	dialing chan struct{} // closed when the login under way has ended
	conn    *Conn
	users   int
	err     error // why the last login failed
	until   time.Time
	closed  bool
}

func (j *jumpHosts) get(w *way) *jumpHost {
	j.mu.Lock()
	defer j.mu.Unlock()
	id := w.id()
	h := j.all[id]
	if h == nil {
		h = &jumpHost{opens: make(chan struct{}, jumpOpens), closed: j.closed}
		if j.all == nil {
			j.all = map[string]*jumpHost{}
		}
		j.all[id] = h
	}
	return h
}

// close ends the connections that nobody uses now, and the others when their
// last user leaves.
func (j *jumpHosts) close() {
	j.mu.Lock()
	j.closed = true
	all := j.all
	j.all = nil
	j.mu.Unlock()
	for _, h := range all {
		h.mu.Lock()
		h.closed = true
		idle := h.conn
		if h.users > 0 {
			idle = nil
		} else {
			h.conn = nil
		}
		h.mu.Unlock()
		if idle != nil {
			_ = idle.Close()
		}
	}
}

// acquire returns a connection to the jump host that lives, and counts its
// user in. A login that was refused is not tried again in this run; a jump host
// that could not be reached is tried again after a pause.
func (h *jumpHost) acquire(ctx context.Context, d *Dialer, w *way) (*Conn, error) {
	for {
		h.mu.Lock()
		switch {
		case h.conn != nil && h.conn.alive():
			h.users++
			c := h.conn
			h.mu.Unlock()
			return c, nil
		case h.dialing != nil:
			wait := h.dialing
			h.mu.Unlock()
			select {
			case <-wait:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			continue
		case h.err != nil && (h.until.IsZero() || time.Now().Before(h.until)):
			err := h.err
			h.mu.Unlock()
			return nil, err
		}
		done := make(chan struct{})
		h.dialing = done
		h.mu.Unlock()

		c, err := d.connect(ctx, w)
		h.mu.Lock()
		h.dialing = nil
		close(done)
		old := h.conn
		h.conn, h.err, h.until = c, nil, time.Time{}
		if c != nil {
			h.users = 0 // those of the connection before this one have lost it
			c.wire.limit.Store(math.MaxInt64)
		} else if ctx.Err() == nil {
			h.err = err
			switch ClassOf(err) {
			case ClassDNS, ClassRefused, ClassUnreachable, ClassTimeout, ClassThrottled, ClassLost:
				h.until = time.Now().Add(jumpPause)
			}
		}
		h.mu.Unlock()
		if old != nil {
			_ = old.Close()
		}
		if err != nil {
			return nil, err
		}
	}
}

func (h *jumpHost) release(c *Conn) {
	h.mu.Lock()
	last := false
	if h.conn == c {
		h.users--
		if last = h.closed && h.users == 0; last {
			h.conn = nil
		}
	}
	h.mu.Unlock()
	if last {
		_ = c.Close()
	}
}

// through opens a connection to a way's address from the jump host before it.
// A jump host's connection that turns out to be dead is made once more.
func (d *Dialer) through(ctx context.Context, w *way) (net.Conn, error) {
	h := d.jumps.get(w.via)
	for again := false; ; again = true {
		c, err := h.acquire(ctx, d, w.via)
		if err != nil {
			return nil, w.behind(ctx, err)
		}
		select {
		case h.opens <- struct{}{}:
		case <-ctx.Done():
			h.release(c)
			return nil, w.behind(ctx, context.Cause(ctx))
		}
		raw, err := c.Forward(ctx, "tcp", w.address())
		<-h.opens
		if err == nil {
			return &hop{Conn: raw, release: func() { h.release(c) }}, nil
		}
		h.release(c)
		if !again && ctx.Err() == nil && !c.alive() {
			continue
		}
		return nil, w.refusedBy(err)
	}
}

// hop is a connection through a jump host.
type hop struct {
	net.Conn
	once    sync.Once
	release func()
}

// Close ends the connection and leaves the jump host.
func (h *hop) Close() error {
	err := h.Conn.Close()
	h.once.Do(h.release)
	return err
}

// behind is the error of a host whose jump host cannot be used.
func (w *way) behind(ctx context.Context, err error) error {
	name := w.via.label()
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Class: netClass(ctx, err, ClassUnreachable), Host: w.label(), Op: "waiting for jump host " + name, Err: err}
	}
	return &Error{Class: e.Class, Host: w.label(), Op: "jump host " + name + ": " + e.Op, Err: e.Err, Hint: e.Hint}
}

// refusedBy is the error of a host that its jump host does not open.
func (w *way) refusedBy(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	name := w.via.label()
	out := &Error{Class: e.Class, Host: w.label(), Op: "connecting to " + w.address() + " from jump host " + name, Err: e.Err}
	if e.Class == ClassRefused {
		// What sshd tells is the text of an error of its own system.
		text := strings.ToLower(e.Err.Error())
		for _, said := range []string{"name or service not known", "not known", "name resolution", "no address associated"} {
			if strings.Contains(text, said) {
				out.Class = ClassDNS
			}
		}
	}
	switch out.Class {
	case ClassDNS:
		out.Hint = "the jump host looks the address up: does " + name + " know this name?"
	case ClassProhibited:
		out.Hint = "sshd_config of " + name + ": AllowTcpForwarding, PermitOpen, DisableForwarding"
	case ClassThrottled:
		out.Hint = name + " has no room for another connection: take fewer hosts at once with --parallel"
	default:
		out.Hint = dialHints[out.Class]
	}
	return out
}

// startLimits bound the logins under way to one address.
type startLimits struct {
	mu  sync.Mutex
	all map[string]chan struct{}
}

func (s *startLimits) enter(ctx context.Context, addr string) (leave func(), err error) {
	s.mu.Lock()
	slots := s.all[addr]
	if slots == nil {
		slots = make(chan struct{}, handshakesAtOnce)
		if s.all == nil {
			s.all = map[string]chan struct{}{}
		}
		s.all[addr] = slots
	}
	s.mu.Unlock()
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
