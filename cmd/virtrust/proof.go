package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

const (
	leftoverAge = 10 * time.Minute // after which a proof's guest is nobody's
	legLimit    = 60 * time.Second // of one migration of a throw-away guest
	renewEvery  = 5 * time.Second
)

// pair is two hosts between which migrations are proved, both ways.
type pair struct{ from, to *inventory.Host }

// proofPairs are the pairs asked for, or a ring over each cluster's members.
func (f *fleet) proofPairs(hosts []*inventory.Host, from, to string) ([]pair, error) {
	if from != "" || to != "" {
		if from == "" || to == "" || from == to {
			return nil, &hinted{errors.New("--from and --to name two hosts"), "give both, or neither for a ring over each cluster"}
		}
		a, err := f.member(from)
		if err != nil {
			return nil, err
		}
		b, err := f.member(to)
		return []pair{{a, b}}, err
	}
	var out []pair
	for _, members := range clusters(hosts) {
		for i, h := range members {
			next := members[(i+1)%len(members)]
			if next == h || len(members) == 2 && i == 1 {
				continue
			}
			out = append(out, pair{h, next})
		}
	}
	return out, nil
}

// verifyMigration proves encrypted migrations with a throw-away guest.
func (f *fleet) verifyMigration(ctx context.Context, hosts []*inventory.Host, from, to string) error {
	pairs, err := f.proofPairs(hosts, from, to)
	if err != nil {
		return err
	}
	var involved []*inventory.Host
	for _, p := range pairs {
		for _, h := range []*inventory.Host{p.from, p.to} {
			if !slices.Contains(involved, h) {
				involved = append(involved, h)
			}
		}
	}
	ends, failures := f.ends(ctx, involved)
	for _, h := range involved {
		if _, ok := ends[h.Name]; ok {
			f.sweepProofs(ctx, h)
		}
	}
	run := ledger.NewRunID(f.app.now())
	rows := []report.ProofRow{}
	for i, p := range pairs {
		row := report.ProofRow{From: p.from.Name, To: p.to.Name}
		if x, ok := unreadable(failures, p); ok {
			row.Text, row.Hint = x.Text, x.Hint
		} else if err := context.Cause(ctx); err != nil {
			row.Text = "not proved: " + err.Error()
		} else {
			f.app.note("%s and %s: migrating a throw-away guest to and fro", p.from.Name, p.to.Name)
			row = f.prove(ctx, ends[p.from.Name], ends[p.to.Name], tasks.ProofPrefix+run+"-"+strconv.Itoa(i+1))
		}
		rows = append(rows, row)
	}
	if f.app.json {
		err = report.JSON(f.app.out, map[string]any{"migrations": rows})
	} else {
		err = report.Proofs(f.app.out, rows, f.app.options())
	}
	switch {
	case err != nil:
		return err
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case len(failures) > 0:
		return &exitCode{code: exitIncomplete}
	case len(rows) == 0 || slices.ContainsFunc(rows, func(r report.ProofRow) bool { return !r.OK }):
		return &exitCode{code: exitDifferences}
	}
	return nil
}

func unreadable(failures map[string]plan.Failure, p pair) (plan.Failure, bool) {
	for _, h := range []*inventory.Host{p.from, p.to} {
		if x, ok := failures[h.Name]; ok {
			x.Text = h.Name + " could not be read: " + x.Class + ": " + x.Text
			return x, true
		}
	}
	return plan.Failure{}, false
}

// sweepProofs removes what earlier proofs left on a host, and says so.
func (f *fleet) sweepProofs(ctx context.Context, h *inventory.Host) {
	c, err := f.conn(ctx, h)
	if err != nil {
		return
	}
	can, err := remote.CanRun(ctx, c, tasks.ProofPrefix)
	if err != nil {
		return // prove meets the same error and reports it
	}
	for _, name := range tasks.ProofLeftovers(can.ThrowAways, f.app.now(), leftoverAge) {
		if err := (remote.ThrowAway{Name: name}).Remove(ctx, c); err != nil {
			f.app.note("%s: the guest %s of an earlier proof could not be removed: %s", h.Name, name, report.Safe(err.Error()))
			continue
		}
		f.app.note("%s: removed %s, which an earlier proof left", h.Name, name)
	}
}

// proof is one pair's proof at work.
type proof struct {
	*fleet
	guest    remote.ThrowAway
	row      *report.ProofRow
	jobs     int
	at       *inventory.Host // where the guest is
	lost     context.Context // ends when a guard acted or could not be renewed
	forth    tasks.Route
	back     tasks.Route
	from, to *inventory.Host
}

// prove migrates a throw-away guest between two hosts, both ways.
func (f *fleet) prove(ctx context.Context, from, to tasks.End, name string) (row report.ProofRow) {
	forth, back := tasks.Between(from, to), tasks.Between(to, from)
	row = report.ProofRow{From: forth.From, To: forth.To, Policy: string(forth.Migration)}
	for _, r := range []tasks.Route{forth, back} {
		if !r.TLS {
			row.Text = fmt.Sprintf("no encrypted migration from %s to %s: %s", r.From, r.To, report.SafeN(strings.Join(append(slices.Clone(r.Blocked), r.NoTLS...), "; "), 600))
			row.Hint = "virtrust peers shows all pairs, virtrust plan what is missing"
			return row
		}
	}
	p := &proof{fleet: f, row: &row, forth: forth, back: back, from: from.Host, to: to.Host}
	if err := p.run(ctx, name); err != nil {
		row.OK, row.Text, row.Hint = false, err.Error(), hintOf(err)
		return row
	}
	row.OK = true
	return row
}

func (p *proof) run(ctx context.Context, name string) (err error) {
	machine, kind, err := p.common(ctx)
	if err != nil {
		return err
	}
	p.row.Machine = machine
	p.guest = remote.ThrowAway{Name: name, XML: tasks.ProofGuest(name, kind, machine)}
	defer func() { err = errors.Join(err, p.remove(ctx)) }()
	both := []*inventory.Host{p.from, p.to}
	// Each script is waited for also when the run is interrupted: one that is
	// cut runs on, beside the removal.
	work := context.WithoutCancel(ctx)
	for _, h := range both {
		c, err := p.conn(work, h)
		if err != nil {
			return err
		}
		if err := p.guest.Guard(work, c); err != nil {
			return err
		}
	}
	lost, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.lost = lost
	var renewing sync.WaitGroup
	for _, h := range both {
		renewing.Go(func() { p.renew(lost, cancel, h) })
	}
	defer renewing.Wait()
	defer cancel(nil)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	c, err := p.conn(work, p.from)
	if err != nil {
		return err
	}
	if err := p.guest.Create(work, c); err != nil {
		return err
	}
	p.at = p.from
	return p.legs()
}

// common is a machine and domain type that both hosts can run.
func (p *proof) common(ctx context.Context) (machine, kind string, err error) {
	var can [2]remote.VirtualMachines
	for i, h := range []*inventory.Host{p.from, p.to} {
		c, err := p.conn(ctx, h)
		if err != nil {
			return "", "", err
		}
		if can[i], err = remote.CanRun(ctx, c, tasks.ProofPrefix); err != nil {
			return "", "", err
		}
	}
	if machine, err = tasks.ProofMachine(can[0].Machines, can[1].Machines); err != nil {
		return "", "", err
	}
	kind, err = tasks.ProofType(can[0].Types, can[1].Types)
	return machine, kind, err
}

// renew keeps a host's guard from acting while the proof runs.
func (p *proof) renew(ctx context.Context, cancel context.CancelCauseFunc, h *inventory.Host) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		work := context.WithoutCancel(ctx)
		c, err := p.conn(work, h)
		if err == nil {
			err = p.guest.Renew(work, c)
		}
		switch {
		case err != nil && remote.ClassOf(err) == remote.ClassScript:
			cancel(err)
			return
		case err != nil:
			p.log.Debug("a guard could not be renewed", "host", h.Name, "error", err)
		}
	}
}

// legs are the migrations of a proof. The two that show the credentials are
// slowed, so the times come from further ones, both in the same direction
// because the destination's start makes up most of them.
func (p *proof) legs() error {
	if p.forth.Migration == inventory.MigrationRequired || p.forth.Forced {
		if err := p.refused(); err != nil {
			return err
		}
	}
	for _, watch := range []bool{true, true, false} {
		leg, err := p.move(true, watch)
		if err != nil {
			return err
		}
		if !watch {
			p.row.SecondsTLS = leg.Seconds
		}
	}
	if !p.forth.PlainAllowed() || !p.back.PlainAllowed() {
		return nil
	}
	if _, err := p.move(true, false); err != nil {
		return err
	}
	leg, err := p.move(false, false)
	p.row.SecondsPlain = leg.Seconds
	return err
}

// refused tries a migration without TLS, which must fail and leave the guest
// where it is.
func (p *proof) refused() error {
	leg, state, err := p.migrate(false, false)
	if err != nil {
		return err
	}
	leg.OK = state.Exit != 0 && strings.Contains(state.Output, "VIR_MIGRATE_TLS")
	leg.Text = state.Why()
	p.row.Legs = append(p.row.Legs, leg)
	switch {
	case state.Exit == 0:
		p.at = p.other()
		return &hinted{fmt.Errorf("a migration without TLS from %s to %s was not refused", leg.From, leg.To), "has libvirtd on both hosts read migrate_tls_force = 1? virtrust plan"}
	case !leg.OK:
		return fmt.Errorf("a migration without TLS from %s to %s failed, but not for its lack of TLS: %s", leg.From, leg.To, leg.Text)
	}
	p.row.PlainRefused = true
	return nil
}

func (p *proof) other() *inventory.Host {
	if p.at == p.from {
		return p.to
	}
	return p.from
}

// migrate runs one migration of the guest from where it is.
func (p *proof) migrate(tls, watch bool) (report.Leg, remote.MigrationState, error) {
	route := p.forth
	if p.at == p.to {
		route = p.back
	}
	p.jobs++
	job := remote.Migration{ID: p.guest.Name + "-" + strconv.Itoa(p.jobs), Guest: p.guest.Name, URI: route.URI, Args: route.Options(tls), Limit: legLimit, Watch: watch}
	s, err := p.runJob(p.lost, p.at, job, func(remote.MigrationState) {})
	if err == nil {
		err = context.Cause(p.lost)
	}
	return report.Leg{From: route.From, To: route.To, TLS: tls, Slowed: watch, Seconds: s.Took.Seconds(), Creds: s.Creds, Hostname: s.Hostname}, s, err
}

// move migrates the guest to the other host; with watch the monitor must have
// shown credentials while the job ran.
func (p *proof) move(tls, watch bool) (report.Leg, error) {
	leg, s, err := p.migrate(tls, watch)
	if err != nil {
		return leg, err
	}
	switch {
	case s.Stopped == "limit":
		leg.Text = fmt.Sprintf("it took more than %s", legLimit)
	case s.Exit != 0:
		leg.Text = s.Why()
	case watch && s.Creds == "":
		leg.Text = "the guest's monitor showed no TLS credentials while it ran"
	}
	leg.OK = leg.Text == ""
	p.row.Legs = append(p.row.Legs, leg)
	if !leg.OK {
		return leg, &hinted{fmt.Errorf("%s to %s: %s", leg.From, leg.To, leg.Text), migrationHint(leg.Text)}
	}
	p.at = p.other()
	return leg, nil
}

// remove takes the guest and its guards away from both hosts. It does so also
// when ctx has ended; a host that cannot be reached has its guard.
func (p *proof) remove(ctx context.Context) error {
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), 90*time.Second)
	defer cancel()
	hosts := []*inventory.Host{p.from, p.to}
	if p.at == p.to {
		slices.Reverse(hosts)
	}
	var errs []error
	for _, h := range hosts {
		var err error
		for try := 0; try < 2; try++ {
			var c *remote.Conn
			if c, err = p.conn(work, h); err == nil {
				err = p.guest.Remove(work, c)
			}
			if err == nil || remote.ClassOf(err) == remote.ClassScript {
				break
			}
			p.forget(h.Name)
		}
		if err != nil {
			errs = append(errs, &hinted{fmt.Errorf("the throw-away guest could not be removed: %w", err), "its guard on the host removes it within a minute"})
		}
	}
	return errors.Join(errs...)
}
