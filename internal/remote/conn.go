package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Conn is an authenticated connection to one host. Its methods may be called
// concurrently; where sshd allows fewer sessions at once than that takes, they
// wait for each other. Forwarded connections do not count among them.
type Conn struct {
	host   string
	client *ssh.Client
	wire   *wire
	key    string
	log    *slog.Logger

	become   string    // how scripts get root's rights
	password *Password // for sudo

	closing chan struct{}
	once    sync.Once
	tasks   sync.WaitGroup

	mu    sync.Mutex
	cause error // why it ended, nil while it is open

	sessions  sessions
	noForward atomic.Bool // sshd forbids it

	sftpMu    sync.Mutex
	sftp      *sftp.Client
	sftpUsers int
	sftpDone  func()
	sftpErr   *Error // why there is none
}

func newConn(host string, client *ssh.Client, w *wire, key string, log *slog.Logger) *Conn {
	c := &Conn{host: host, client: client, wire: w, key: key, log: log, closing: make(chan struct{})}
	c.tasks.Go(c.keepalive)
	c.tasks.Go(func() { c.abort(client.Wait()) })
	return c
}

// HostKey returns the SHA256 fingerprint of the key that the host proved.
func (c *Conn) HostKey() string { return c.key }

// Trips returns how often the host's answer followed something that we sent,
// seen on the transport: the round trips since the connection's first byte
// without TCP's own one. Where several things run at once it may count more
// than were waited for.
func (c *Conn) Trips() int { return c.wire.count() }

// Close ends the connection and all that runs on it. What a host was doing at
// that time is not stopped. It may be called more than once.
func (c *Conn) Close() error {
	c.abort(errors.New("the connection was closed"))
	c.tasks.Wait()
	return nil
}

// abort closes the transport, which ends every pending call.
func (c *Conn) abort(cause error) {
	c.once.Do(func() {
		c.mu.Lock()
		c.cause = cause
		c.mu.Unlock()
		close(c.closing)
		_ = c.wire.Close()
		_ = c.client.Close()
	})
}

// alive reports whether the connection has not ended.
func (c *Conn) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause == nil && !c.wire.ended.Load()
}

// guard aborts the connection when ctx ends. x/crypto/ssh and pkg/sftp have no
// deadlines of their own: a host that falls silent would hold a call forever.
func (c *Conn) guard(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { c.abort(context.Cause(ctx)) })
}

func (c *Conn) keepalive() {
	tick := time.NewTicker(keepaliveEvery)
	defer tick.Stop()
	answered := make(chan error, 1)
	pending, missed := false, 0
	for {
		select {
		case <-c.closing:
			return
		case err := <-answered:
			pending, missed = false, 0
			if err != nil {
				c.abort(fmt.Errorf("keepalive: %w", err))
				return
			}
		case <-tick.C:
			if pending {
				if missed++; missed >= keepaliveMissed {
					c.abort(fmt.Errorf("the host answered no keepalive for %s", keepaliveMissed*keepaliveEvery))
					return
				}
				continue
			}
			pending = true
			c.tasks.Go(func() {
				_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
				answered <- err
			})
		}
	}
}

// open opens a channel. When ctx ends first, a channel that opens later is
// closed again, and the connection lives on.
//
// It does not rely on x/crypto/ssh to return when the connection ends:
// OpenChannel called after the multiplexer dropped its channels never does,
// because the transport swallows the error of that write. Such a call leaves
// its goroutine behind, one at most for each call of open.
func (c *Conn) open(ctx context.Context, kind string, payload []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	type result struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	if c.wire.ended.Load() {
		return nil, nil, io.EOF
	}
	done := make(chan result)
	left := make(chan struct{})
	defer close(left)
	go func() {
		ch, reqs, err := c.client.OpenChannel(kind, payload)
		select {
		case done <- result{ch, reqs, err}:
		case <-left:
			if err == nil {
				_ = ch.Close()
				ssh.DiscardRequests(reqs)
			}
		}
	}()
	var refused *ssh.OpenChannelError
	select {
	case r := <-done:
		if r.err == nil || errors.As(r.err, &refused) {
			return r.ch, r.reqs, r.err
		}
		// A connection that ends says so in odd words here; learn of its end first.
		select {
		case <-c.closing:
			return nil, nil, io.EOF
		case <-time.After(time.Second):
			return nil, nil, r.err
		}
	case <-c.closing:
		return nil, nil, io.EOF
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// fail makes an error of an operation. It prefers the reason for which we
// closed the connection to the bare fact that it is closed.
func (c *Conn) fail(ctx context.Context, otherwise Class, op string, err error, hint string) *Error {
	class := netClass(ctx, err, otherwise)
	if c.wire.overflow.Load() {
		return &Error{Class: ClassProtocol, Host: c.host, Op: op, Err: ErrOutputLimit, Hint: hint}
	}
	c.mu.Lock()
	cause := c.cause
	c.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case cause != nil && class == ClassLost:
		err = fmt.Errorf("the connection was lost: %w", cause)
		class = netClass(ctx, cause, ClassLost)
	case class == ClassLost:
		err = fmt.Errorf("the connection was lost: %w", err)
	}
	return &Error{Class: class, Host: c.host, Op: op, Err: err, Hint: hint}
}
