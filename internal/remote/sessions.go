package remote

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// sessions counts the session channels of a connection. sshd allows ten at
// once by default, and as few as one where MaxSessions says so.
type sessions struct {
	mu    sync.Mutex
	open  int
	tight bool          // sshd has refused one: none is held longer than needed
	freed chan struct{} // closed when one ends
}

const (
	sessionPause = 200 * time.Millisecond
	sessionTries = 15 // while none of ours is open: sshd may take a moment to count one as ended
)

// session opens a session channel; where sshd refuses it because others are
// open, it waits for one of them to end. done must be called once the channel
// is closed.
func (c *Conn) session(ctx context.Context) (ch ssh.Channel, reqs <-chan *ssh.Request, done func(), err error) {
	s := &c.sessions
	for try := 1; ; try++ {
		s.mu.Lock()
		if s.freed == nil {
			s.freed = make(chan struct{})
		}
		freed := s.freed
		s.mu.Unlock()

		ch, reqs, err = c.open(ctx, "session", nil)
		s.mu.Lock()
		if err == nil {
			s.open++
			s.mu.Unlock()
			return ch, reqs, sync.OnceFunc(s.end), nil
		}
		s.tight = true
		others := s.open
		s.mu.Unlock()
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || refused.Reason == ssh.Prohibited || others == 0 && try >= sessionTries {
			return nil, nil, nil, err
		}
		c.dropIdleSFTP()
		pause := sessionPause
		if others > 0 {
			pause = 5 * sessionPause
		}
		select {
		case <-freed:
		case <-time.After(pause):
		case <-c.closing:
		case <-ctx.Done():
			return nil, nil, nil, context.Cause(ctx)
		}
	}
}

func (s *sessions) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.freed != nil {
		close(s.freed)
		s.freed = nil
	}
}

func (s *sessions) areTight() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tight
}
