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

// forSudo is the password that sudo of a host is told; nil where it must not
// ask.
func (p *passwords) forSudo(h *inventory.Host) *remote.Password {
	if h.SSH.Become != remote.BecomeSudo {
		return nil
	}
	return p.of(h.SSH.BecomePassword, h.SSH.User)
}

// forLogin is the password of the login; nil where keys must do.
func (p *passwords) forLogin(h *inventory.Host) *remote.Password {
	return p.of(h.SSH.Password, h.SSH.User)
}

// of is what a reference names. A person is asked once for each account, for
// login and sudo alike.
func (p *passwords) of(ref, user string) *remote.Password {
	if ref == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := ref
	if ref == "prompt" {
		key += " " + user
	}
	if p.have[key] == nil {
		if p.have == nil {
			p.have = map[string]*remote.Password{}
		}
		label := "Password of " + user
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
				`set password or become_password = "env:NAME" or "file:PATH" in the ssh block`}
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
