package faults

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

// A fault is what happens to a connection, or to virtrust, at the n-th chunk
// that virtrust sends, counted over all connections of a run.
type fault struct {
	kind string
	n    int    // chunk, or byte when bytes is set
	hit  func() // what happens to the process
	// early happens before the chunk passes.
	early func()
}

// Kinds of faults on the way.
const (
	cutBefore  = "connection cut before operation n"
	cutAfter   = "connection cut after operation n, reply lost"
	blackhole  = "replies dropped from operation n on"
	stall      = "nothing passes from operation n on"
	killBefore = "SIGKILL before operation n"
	killAfter  = "SIGKILL after operation n"
	killThere  = "SIGKILL during the switch"
	interrupt1 = "SIGINT at operation n"
	interrupt2 = "SIGINT twice at operation n"
	terminate1 = "SIGTERM at operation n"
	terminate2 = "SIGTERM twice at operation n"
	cutBytesUp = "connection cut at a random byte to the host"
	cutBytesDn = "connection cut at a random byte from the host"
	freeze     = "SIGSTOP at operation n past the lease, then woken"
)

// proxy stands between virtrust and the sshd of one host.
type proxy struct {
	lab    *lab.Lab
	listen net.Listener
	target string
	port   uint16

	mu       sync.Mutex
	fault    fault
	chunks   int // from virtrust
	up, down int // bytes
	struck   bool
	open     map[net.Conn]bool
}

func newProxy(t testing.TB, l *lab.Lab, h *lab.Host) *proxy {
	t.Helper()
	ln, err := l.Listen(t.Context(), "tcp", netip.AddrPortFrom(lab.ControllerAddresses.Management4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{lab: l, listen: ln, target: netip.AddrPortFrom(h.Addresses.Management4, 22).String(), open: map[net.Conn]bool{}}
	p.port = uint16(ln.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	t.Cleanup(func() { ln.Close(); p.reset(fault{}) })
	return p
}

// reset closes what is open and arms a fault for the next run.
func (p *proxy) reset(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Close()
	}
	p.fault, p.chunks, p.up, p.down, p.struck = f, 0, 0, 0, false
}

// state is whether the fault was hit and how many chunks and bytes passed.
func (p *proxy) state() (struck bool, chunks, up, down int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.struck, p.chunks, p.up, p.down
}

func (p *proxy) serve(client net.Conn) {
	host, err := p.lab.Dial(context.Background(), "tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.open[client], p.open[host] = true, true
	p.mu.Unlock()
	s := &stream{proxy: p, client: client, host: host}
	var both sync.WaitGroup
	both.Go(s.upward)
	both.Go(s.downward)
	both.Wait()
	client.Close()
	host.Close()
	p.mu.Lock()
	delete(p.open, client)
	delete(p.open, host)
	p.mu.Unlock()
}

// stream is one connection.
type stream struct {
	proxy        *proxy
	client, host net.Conn
	mu           sync.Mutex
	mute, still  bool // replies are dropped; nothing passes
}

// strike reports whether the chunk, of size bytes, meets the fault.
func (p *proxy) strike(upward bool, size int) (fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := 0
	switch {
	case upward:
		p.chunks++
		p.up += size
		at = p.chunks
		if p.fault.kind == cutBytesUp {
			at = p.up
		}
	default:
		p.down += size
		at = p.down
	}
	if p.struck || p.fault.kind == "" || upward == (p.fault.kind == cutBytesDn) || at < p.fault.n {
		return fault{}, false
	}
	p.struck = true
	return p.fault, true
}

func (s *stream) set(mute, still bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute, s.still = mute, still
}

// cut ends the connection for virtrust at once. The host reads what it has
// got: a reset would take that away again.
func (s *stream) cut() {
	s.client.(*net.TCPConn).SetLinger(0)
	s.client.Close()
	s.host.(*net.TCPConn).CloseWrite()
}

func (s *stream) upward() {
	buf := make([]byte, 64<<10)
	for {
		n, err := s.client.Read(buf)
		if err != nil {
			s.host.(*net.TCPConn).CloseWrite()
			// A host that answers nothing more is not waited for.
			time.AfterFunc(2*time.Second, func() { s.host.Close() })
			return
		}
		data := buf[:n]
		s.mu.Lock()
		still := s.still
		s.mu.Unlock()
		if still {
			continue
		}
		f, hit := s.proxy.strike(true, n)
		if hit && f.early != nil {
			f.early()
		}
		if hit {
			switch f.kind {
			case cutBefore:
				s.cut()
				return
			case cutBytesUp:
				_, _, up, _ := s.proxy.state()
				s.host.Write(data[:max(0, n-(up-f.n))])
				s.cut()
				return
			case killBefore:
				f.hit()
				s.cut()
				return
			case stall:
				s.set(true, true)
				continue
			case cutAfter, blackhole:
				s.set(true, false)
			}
		}
		if _, err := s.host.Write(data); err != nil {
			s.client.Close()
			return
		}
		if hit {
			switch f.kind {
			case cutAfter:
				s.cut()
				return
			case killAfter:
				f.hit()
				s.cut()
				return
			case blackhole:
			default:
				if f.hit != nil {
					f.hit()
				}
			}
		}
	}
}

func (s *stream) downward() {
	buf := make([]byte, 64<<10)
	for {
		n, err := s.host.Read(buf)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.client.(*net.TCPConn).SetLinger(0)
			}
			s.mu.Lock()
			dead := s.mute
			s.mu.Unlock()
			if !dead {
				s.client.Close()
			}
			return
		}
		s.mu.Lock()
		mute := s.mute
		s.mu.Unlock()
		if mute {
			continue
		}
		f, hit := s.proxy.strike(false, n)
		if hit {
			_, _, _, down := s.proxy.state()
			s.client.Write(buf[:max(0, n-(down-f.n))])
			s.set(true, false)
			time.Sleep(5 * time.Millisecond)
			s.cut()
			return
		}
		if _, err := s.client.Write(buf[:n]); err != nil {
			return
		}
	}
}
