package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/inventory"
)

// passwords are those that hosts ask for, each resolved once in a run.
type passwords struct {
	resolve func(ctx context.Context, ref, label string) ([]byte, error)

	mu   sync.Mutex
	have map[string]*remote.Password
}

// of is the password that sudo of a host is told; nil where it must not ask.
// A person is asked once for each account.
func (p *passwords) of(h *inventory.Host) *remote.Password {
	ref := h.SSH.BecomePassword
	if h.SSH.Become != remote.BecomeSudo || ref == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := ref
	if ref == "prompt" {
		key += " " + h.SSH.User
	}
	if p.have[key] == nil {
		if p.have == nil {
			p.have = map[string]*remote.Password{}
		}
		label := fmt.Sprintf("Password of %s for sudo", h.SSH.User)
		p.have[key] = remote.NewPassword(func(ctx context.Context) ([]byte, error) { return p.resolve(ctx, ref, label) })
	}
	return p.have[key]
}

func (p *passwords) wipe() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.have {
		x.Wipe()
	}
}

// loginPassword resolves a reference to a password of the login.
func (a *app) loginPassword(ctx context.Context, fleet *inventory.Fleet, ref, label string) ([]byte, error) {
	o := authority.Options{Label: label, Dir: fleet.Dir, Stderr: a.err, Prompt: func(ctx context.Context, label string, _ bool) (authority.Secret, error) {
		if !a.inTerm {
			return authority.Secret{}, &hinted{fmt.Errorf("%s: there is no terminal to ask on", label),
				`set become_password = "env:NAME" or "file:PATH" in the ssh block`}
		}
		return a.prompt(ctx, label, false)
	}}
	secret, err := authority.Resolve(ctx, ref, o)
	if err != nil {
		var h *hinted
		if errors.As(err, &h) {
			return nil, h
		}
		return nil, err
	}
	text := slices.Clone(secret.Bytes())
	secret.Wipe()
	return text, nil
}
