package main

import (
	"context"
	"errors"
	"slices"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

// settle puts hosts in order that a dead run left switched or staged, and makes
// the plan anew. That is no change of its own: the host's reverter would do the
// same. A host on which a run is at work is held, and says who it is.
func (f *fleet) settle(ctx context.Context, hosts []*inventory.Host, p *plan.Plan) (*plan.Plan, error) {
	run := &applyRun{fleet: f, id: ledger.NewRunID(f.app.now()), plan: p}
	failed := map[string]*plan.Failure{}
	settled := false
	for i := range p.Hosts {
		h := &p.Hosts[i]
		if h.ReadOnly != "" || !slices.ContainsFunc(h.Findings, func(x plan.Finding) bool { return x.Code == tasks.CodeUnfinished }) {
			continue
		}
		err := run.settle(ctx, h.Host)
		if err != nil {
			failure := classify(err)
			failed[h.Host] = &failure
		}
		settled = settled || err == nil
	}
	if settled {
		var err error
		if p, err = f.plan(ctx, hosts, true); err != nil {
			return nil, err
		}
	}
	for i := range p.Hosts {
		if failure := failed[p.Hosts[i].Host]; failure != nil {
			p.Hosts[i].Failure = failure
		}
	}
	return p, nil
}

// settle takes a host's lease, which settles what is left there, and gives it
// back.
func (r *applyRun) settle(ctx context.Context, host string) error {
	s, err := r.session(ctx, host)
	if err != nil {
		return err
	}
	_, err = s.Lock(ctx, r.queries(host))
	_, endErr := s.End(context.WithoutCancel(ctx), false)
	return errors.Join(err, endErr)
}
