package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

// departed adds to a plan what is to be said and done of hosts that left the
// inventory and whose certificates have not ended.
func (f *fleet) departed(ctx context.Context, p *plan.Plan) error {
	l, err := ledger.Open(ctx, f.LedgerPath, ledger.ReadOnly, ledger.WithClock(f.app.now))
	if errors.Is(err, ledger.ErrMissing) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	leaves, err := l.Leaves(ctx, func(host string) bool { _, here := f.Host(host); return !here && !ledger.IsOutside(host) }, true, f.app.now())
	if err != nil {
		return err
	}
	var hosts []string
	used := map[string][]ledger.Leaf{}
	for _, k := range leaves {
		i := slices.IndexFunc(f.Removed, func(r inventory.Removed) bool { return r.Host == k.Host })
		switch {
		case i >= 0 && f.Removed[i].Revoke:
			if a, ok := f.Fleet.Authority(k.Authority); ok && !a.External() {
				v := revocationOf(k)
				v.Reason = "the host was removed"
				p.Revocations = append(p.Revocations, v)
			}
		case i < 0 && k.State != ledger.StateSuperseded:
			if used[k.Host] == nil {
				hosts = append(hosts, k.Host)
			}
			used[k.Host] = append(used[k.Host], k)
		}
	}
	slices.Sort(hosts)
	for _, h := range hosts {
		end := used[h][0].NotAfter
		var names []string
		for _, k := range used[h] {
			names = append(names, k.Certificate)
			if k.NotAfter.After(end) {
				end = k.NotAfter
			}
		}
		p.Findings = append(p.Findings, plan.Finding{Code: tasks.CodeOrphans, Severity: plan.Warning, Host: h,
			Text: fmt.Sprintf("%s is not in the inventory and has certificates until %s: %s", h, end.UTC().Format("2006-01-02"), strings.Join(names, ", ")),
			Hint: fmt.Sprintf("write removed { host = %q } (and revoke = true to have them refused), each attribute on its own line", h)})
	}
	return nil
}

// replaced lists what certificates with on_replace = "revoke" followed on hosts
// that a run has changed.
func (f *fleet) replaced(ctx context.Context, p *plan.Plan, rep *plan.Report) ([]plan.Revocation, error) {
	made := map[string][]string{} // certificates by host
	for i, h := range rep.Hosts {
		inv, ok := f.Host(h.Host)
		if !ok || h.Result != plan.Changed {
			continue
		}
		for _, o := range p.Hosts[i].Ops {
			e, ok := o.(plan.Enrol)
			if ok && slices.ContainsFunc(inv.Policy.Certificates, func(c inventory.Certificate) bool { return c.Name == e.Certificate && c.OnReplace == "revoke" }) {
				made[h.Host] = append(made[h.Host], e.Certificate)
			}
		}
	}
	if len(made) == 0 {
		return nil, nil
	}
	l, err := ledger.Open(ctx, f.LedgerPath, ledger.ReadOnly, ledger.WithClock(f.app.now))
	if err != nil {
		return nil, err
	}
	defer func() { _ = l.Close() }()
	leaves, err := l.Leaves(ctx, func(host string) bool { return made[host] != nil }, true, f.app.now())
	if err != nil {
		return nil, err
	}
	var out []plan.Revocation
	for _, k := range leaves {
		a, ok := f.Fleet.Authority(k.Authority)
		if !ok || a.External() || k.State != ledger.StateSuperseded || !slices.Contains(made[k.Host], k.Certificate) {
			continue
		}
		v := revocationOf(k)
		v.Reason = "replaced"
		out = append(out, v)
	}
	return out, nil
}

// withdraw revokes what a plan and its outcome ask for, and brings the lists that
// have it to the plan's hosts, and to those of also that have an authority of
// them. It adds what it did to the report.
func (f *fleet) withdraw(ctx context.Context, p *plan.Plan, rep *plan.Report, command string, tell func(plan.Event), also ...*inventory.Host) error {
	todo := slices.Clone(p.Revocations)
	more, err := f.replaced(ctx, p, rep)
	if err != nil {
		return err
	}
	todo = append(todo, more...)
	if len(todo) == 0 || context.Cause(ctx) != nil {
		return nil
	}
	r, err := f.revoker(ctx)
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.start(ctx); err != nil {
		return err
	}
	_, err = r.revoke(ctx, todo)
	r.end(err)
	if err != nil {
		return err
	}
	rep.Revoked = todo
	if f.trust, err = readTrust(ctx, f.Fleet); err != nil {
		return err
	}
	var hosts []*inventory.Host
	for i := range p.Hosts {
		if h, ok := f.Host(p.Hosts[i].Host); ok && p.Hosts[i].ReadOnly == "" {
			hosts = append(hosts, h)
		}
	}
	for _, h := range also {
		if slices.Contains(hosts, h) || !h.Managed || h.Away != nil && h.Away.Until.After(f.app.now()) {
			continue
		}
		if slices.ContainsFunc(todo, func(v plan.Revocation) bool { return slices.Contains(tasks.Authorities(h), v.Authority) }) {
			hosts = append(hosts, h)
		}
	}
	before := f.opts
	f.opts = tasks.Options{Lists: true, Hosts: before.Hosts}
	defer func() { f.opts = before }()
	lists, err := f.plan(ctx, hosts, true)
	if err != nil {
		return err
	}
	second, err := f.carryOut(ctx, lists, command, tell)
	if err != nil {
		return err
	}
	rep.Then(second)
	return nil
}
