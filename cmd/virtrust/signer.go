package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/inventory"
)

// signer is an authority that is ready to sign.
type signer interface {
	authority.Authority
	Close() error
}

// unlock makes an authority ready: the key of a local one is opened, what is
// needed to ask another is found.
func (r *applyRun) unlock(ctx context.Context, name string) error {
	decl, ok := r.Fleet.Authority(name)
	if !ok {
		return &exitCode{exitRefused, fmt.Errorf("authority %q is not in the configuration", name)}
	}
	a, err := r.opened(ctx, decl)
	if err != nil {
		if errors.Is(err, ledger.ErrForeign) {
			return &exitCode{exitRefused, err}
		}
		return err
	}
	r.authorities[name] = a
	return nil
}

func (r *applyRun) opened(ctx context.Context, d *inventory.Authority) (signer, error) {
	o := r.app.secretOptions(r.Fleet, d.Name, false)
	secret := func(ctx context.Context) (authority.Secret, error) { return authority.Resolve(ctx, d.SecretFrom(), o) }
	switch {
	case d.Exec != nil:
		return authority.OpenCommand(ctx, d.Name, d.Directory, r.id, authority.Command{
			Argv: d.Exec.Command, Dir: r.Dir, Timeout: d.Exec.Timeout, HideEnv: o.HideEnv, Allowed: r.app.exec,
		}, r.ledger)
	case d.Offline != nil:
		return authority.OpenFolder(ctx, d.Name, d.Directory, r.id, authority.Folder{Dir: d.Offline.Folder}, r.ledger)
	case d.Step != nil:
		o.Label = "Password of provisioner " + d.Step.Provisioner + " of authority " + d.Name
		password, err := secret(ctx)
		if err != nil {
			return nil, fmt.Errorf("authority %s: %w", d.Name, err)
		}
		r.secrets = append(r.secrets, password)
		return authority.OpenStep(ctx, d.Name, d.Directory, r.id, authority.Step{
			Address: d.Step.URL, Roots: d.Step.Roots, Provisioner: d.Step.Provisioner, Password: password, Now: r.app.now,
		}, r.ledger)
	case d.Vault != nil:
		o.Label = "Token of authority " + d.Name
		token, err := secret(ctx)
		if err != nil {
			return nil, fmt.Errorf("authority %s: %w", d.Name, err)
		}
		r.secrets = append(r.secrets, token)
		v := d.Vault
		return authority.OpenVault(ctx, d.Name, d.Directory, r.id, authority.Vault{
			Address: v.Address, Mount: v.Mount, Role: v.Role, ClientRole: v.ClientRole, Namespace: v.Namespace, Roots: v.Roots, Token: token,
		}, r.ledger)
	}
	a, err := authority.Open(ctx, d.Name, d.Directory, d.KeyDirectory, r.ledger, r.app.now)
	if err != nil {
		return nil, err
	}
	if err := a.Unlock(ctx, secret); err != nil {
		return nil, err
	}
	// A passphrase costs some hundred MiB for a moment, by design. Left to the
	// collector they would count as live until the heap had doubled once more.
	debug.FreeOSMemory()
	return a, nil
}

// onlyExternal tells whether no authority of the fleet signs here.
func (f *fleet) onlyExternal() bool {
	for i := range f.Authorities {
		if !f.Authorities[i].External() {
			return false
		}
	}
	return len(f.Authorities) > 0
}
