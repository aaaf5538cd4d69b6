package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Run runs a POSIX shell script on the host: `/bin/sh -s` with the script on
// its standard input, so that neither argv nor the environment shows it; where
// the endpoint says so, as root through sudo. It takes two round trips and the
// script's own time, and up to two more where sudo may ask for a password.
//
// A script that ends with a status other than 0 is no error: see Output.Exit.
// Once the script may have started, every error is of [ClassUnknown], also
// when the host sent too much ([ErrOutputLimit] in its chain) or the time was
// over; the output so far is returned with it. A context that ends, a timeout
// and too much output close the connection, because nothing else is sure to
// end the call; the script may run on.
func (c *Conn) Run(ctx context.Context, script []byte, limits Limits) (Output, error) {
	return c.run(ctx, c.enter(true), script, limits)
}

func (c *Conn) run(ctx context.Context, e *entry, script []byte, limits Limits) (Output, error) {
	limits = limits.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, limits.Timeout)
	defer cancel()
	const op = "running a script"

	ch, reqs, done, err := c.session(ctx)
	if err != nil {
		return Output{}, c.sessionError(ctx, op, err)
	}
	defer done()
	defer ch.Close()
	defer c.guard(ctx)()

	refused, err := start(ch, "exec", ssh.Marshal(struct{ Command string }{e.command}))
	if err != nil {
		return Output{}, c.unknown(ctx, op, err)
	}
	go e.give(ch, script)
	defer e.end()

	var out Output
	var stdoutErr error
	var streams sync.WaitGroup
	streams.Go(func() {
		var over bool
		if out.Stdout, over = readUpTo(e.stdout(ch), limits.Stdout, commonAnswer); over {
			stdoutErr = fmt.Errorf("%w: stdout, %d bytes", ErrOutputLimit, limits.Stdout)
			c.abort(stdoutErr)
		}
	})
	streams.Go(func() {
		stderr := e.stderr(ctx, ch)
		if out.Stderr, out.StderrTruncated = readUpTo(stderr, limits.Stderr, 0); out.StderrTruncated {
			_, _ = io.Copy(io.Discard, stderr)
		}
	})
	end := awaitEnd(reqs)
	streams.Wait()
	switch {
	case e.gaveUp():
		return Output{}, e.failed(op, out.Stderr, end.status)
	case stdoutErr != nil:
		return out, c.unknown(ctx, op, stdoutErr)
	case <-refused:
		return Output{}, &Error{Class: ClassShell, Host: c.host, Op: op,
			Err: errors.New("sshd did not start " + shell), Hint: "does the login user have a shell, and may it start processes?"}
	case !end.seen:
		return out, c.unknown(ctx, op, errors.New("the session ended without an exit status"))
	case !e.hasBegun() && e.drowned():
		return out, c.unknown(ctx, op, fmt.Errorf("%w: %d bytes before the script began", ErrOutputLimit, maxNoise))
	case !e.hasBegun():
		return Output{}, e.failed(op, out.Stderr, end.status)
	}
	out.Exit, out.Signal = end.status, end.signal
	return out, nil
}

// start sends a request that starts a program on a session channel, without
// waiting for the answer, so that what the program reads can follow at once. A
// channel starts one program only (RFC 4254, 6.5): a second request that is
// answered with success tells that the first one was not.
//
// refused gives one value, at the latest when the channel has closed.
func start(ch ssh.Channel, kind string, payload []byte) (refused <-chan bool, err error) {
	if _, err := ch.SendRequest(kind, false, payload); err != nil {
		return nil, err
	}
	answer := make(chan bool, 1)
	go func() {
		ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{"exit 0"}))
		answer <- ok && err == nil
	}()
	return answer, nil
}

type ending struct {
	seen   bool
	status int
	signal string
}

// awaitEnd reads a session's requests until its channel is closed.
func awaitEnd(reqs <-chan *ssh.Request) (end ending) {
	for r := range reqs {
		switch r.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if ssh.Unmarshal(r.Payload, &m) == nil {
				end = ending{seen: true, status: int(m.Status)}
			}
		case "exit-signal":
			var m struct {
				Signal     string
				CoreDumped bool
				Message    string
				Language   string
			}
			if ssh.Unmarshal(r.Payload, &m) == nil {
				end = ending{seen: true, status: 255, signal: clean(m.Signal, 20)}
			}
		default:
			if r.WantReply {
				_ = r.Reply(false, nil)
			}
		}
	}
	return end
}

// commonAnswer is what a look at a host mostly stays below, in bytes.
const commonAnswer = 32 << 10

// readUpTo reads r to its end, or to limit bytes; over tells that there was
// more. There is room for size bytes from the start.
func readUpTo(r io.Reader, limit, size int) (data []byte, over bool) {
	var b bytes.Buffer
	b.Grow(min(limit, size))
	n, _ := io.Copy(&b, io.LimitReader(r, int64(limit)+1))
	if n > int64(limit) {
		b.Truncate(limit)
		return b.Bytes(), true
	}
	return b.Bytes(), false
}

// unknown is an error of something that was sent and may have been carried out.
func (c *Conn) unknown(ctx context.Context, op string, err error) error {
	cause := err
	c.mu.Lock()
	own := c.cause
	c.mu.Unlock()
	switch {
	case c.wire.overflow.Load():
		cause = ErrOutputLimit
	case errors.Is(err, ErrOutputLimit):
	case ctx.Err() != nil:
		cause = context.Cause(ctx)
	case own != nil:
		cause = own
	}
	return &Error{Class: ClassUnknown, Host: c.host, Op: op, Err: fmt.Errorf("sent, but not answered to the end: %w", cause),
		Hint: "look at the host again before changing it"}
}

// sessionError is an error of a session that did not open: nothing ran.
func (c *Conn) sessionError(ctx context.Context, op string, err error) *Error {
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) {
		return &Error{Class: ClassShell, Host: c.host, Op: op,
			Err:  fmt.Errorf("sshd opens no session: %s (%s)", clean(refused.Message, 120), refused.Reason),
			Hint: "MaxSessions in sshd_config must be 1 at least"}
	}
	return c.fail(ctx, ClassProtocol, op, err, "")
}
