package remotetest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Pipe is a connection in memory whose bytes take oneWay from end to end, of
// unbounded bandwidth. Writes never block. Each end has one reader at a time
// and no deadlines.
func Pipe(oneWay time.Duration) (client, server net.Conn) {
	there, back := newLane(oneWay), newLane(oneWay)
	return &end{in: back, out: there, closed: make(chan struct{})}, &end{in: there, out: back, closed: make(chan struct{})}
}

// lane is one direction.
type lane struct {
	delay time.Duration
	mu    sync.Mutex
	queue []parcel
	kick  chan struct{} // something was queued
}

type parcel struct {
	data []byte // nil: the end
	at   time.Time
}

func newLane(delay time.Duration) *lane {
	return &lane{delay: delay, kick: make(chan struct{}, 1)}
}

func (l *lane) put(data []byte) {
	l.mu.Lock()
	l.queue = append(l.queue, parcel{data, time.Now().Add(l.delay)})
	l.mu.Unlock()
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// take returns what has arrived, or how long to wait; negative is unknown.
func (l *lane) take(p []byte) (n int, wait time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return 0, -1, nil
	}
	first := &l.queue[0]
	if wait := time.Until(first.at); wait > 0 {
		return 0, wait, nil
	}
	if first.data == nil {
		return 0, 0, io.EOF
	}
	n = copy(p, first.data)
	if first.data = first.data[n:]; len(first.data) == 0 {
		l.queue = l.queue[1:]
	}
	return n, 0, nil
}

type end struct {
	in, out *lane
	once    sync.Once
	closed  chan struct{}
}

func (e *end) Read(p []byte) (int, error) {
	for {
		select {
		case <-e.closed:
			return 0, net.ErrClosed
		default:
		}
		n, wait, err := e.in.take(p)
		if n > 0 || err != nil {
			return n, err
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-e.in.kick:
		case <-due:
		case <-e.closed:
		}
	}
}

func (e *end) Write(p []byte) (int, error) {
	select {
	case <-e.closed:
		return 0, net.ErrClosed
	default:
	}
	if len(p) > 0 {
		e.out.put(append([]byte(nil), p...))
	}
	return len(p), nil
}

func (e *end) Close() error {
	e.once.Do(func() {
		e.out.put(nil)
		close(e.closed)
	})
	return nil
}

func (*end) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (*end) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }
func (*end) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (*end) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (*end) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
