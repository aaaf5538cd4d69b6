package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
)

// Password is one secret for many hosts. No second host is told it before one
// has accepted it: a mistyped password would otherwise count once for each
// host against an account that they share.
type Password struct {
	ask func(context.Context) ([]byte, error)

	gate  chan struct{} // held by the one host that tries it first
	mu    sync.Mutex
	asked bool
	text  []byte
	err   error
	good  bool
	bad   string // host that refused it
}

// NewPassword makes a password that ask gives when it is wanted first. It is
// asked once; ask's bytes are cleared by [Password.Wipe].
func NewPassword(ask func(context.Context) ([]byte, error)) *Password {
	return &Password{ask: ask, gate: make(chan struct{}, 1)}
}

// Load asks for the password, unless that was done before.
func (p *Password) Load(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked {
		p.asked = true
		p.text, p.err = p.ask(ctx)
		if p.err == nil && len(p.text) == 0 {
			p.err = errors.New("the password is empty")
		}
		if bytes.ContainsAny(p.text, "\r\n\x00") {
			p.err = errors.New("the password holds a line break or a NUL")
		}
	}
	return p.err
}

// Wipe overwrites the password. Nothing can be told it afterwards.
func (p *Password) Wipe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.text)
	p.text, p.asked, p.err = nil, true, errors.New("the run is over")
}

// verdict is what a host made of a password.
type verdict int

const (
	undecided verdict = iota
	accepted
	rejected
)

// errRejected means that another host refused the password.
var errRejected = errors.New("the password was refused")

// take gives the password for one try on a host. settle must be called with
// what came of it; only the first call counts.
func (p *Password) take(ctx context.Context, host string) (text []byte, settle func(verdict), err error) {
	none := func(verdict) {}
	if err := p.Load(ctx); err != nil {
		return nil, none, err
	}
	p.mu.Lock()
	text, good := p.text, p.good
	p.mu.Unlock()
	if good {
		return text, none, nil
	}
	select {
	case p.gate <- struct{}{}:
	case <-ctx.Done():
		return nil, none, context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil:
		<-p.gate
		return nil, none, p.err
	case p.bad != "":
		<-p.gate
		return nil, none, fmt.Errorf("%w by %s and is not tried on other hosts, lest it lock an account that they share", errRejected, p.bad)
	case p.good:
		<-p.gate
		return p.text, none, nil
	}
	var once sync.Once
	return p.text, func(v verdict) {
		once.Do(func() {
			p.mu.Lock()
			switch v {
			case accepted:
				p.good = true
			case rejected:
				p.bad = host
			}
			p.mu.Unlock()
			<-p.gate
		})
	}, nil
}
