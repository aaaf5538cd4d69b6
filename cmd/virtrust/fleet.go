package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

// fleet is a configuration with its trust, and the connections of one run.
type fleet struct {
	*inventory.Fleet
	app    *app
	trust  pki.Trust
	log    *slog.Logger
	dialer *remote.Dialer
	opts   tasks.Options
	// revertAfter is how long hosts wait for a confirmation.
	revertAfter time.Duration
	// withPeers lets hosts change that are read only because a condition of a
	// selected one names them.
	withPeers bool
	// waitJobs is how long a restart waits for guests' jobs.
	waitJobs time.Duration
	// settled are hosts that need nothing as far as the ledger knows: they can
	// be asked to dial others without being looked at.
	settled []string
	// whole, where it is set, gathers beside a limited comparison what an apply
	// would do with each host.
	whole map[string]plan.HostPlan
	// undoQueries replaces the tasks' questions in a rollback.
	undoQueries map[string]*tasks.Journal

	passwords passwords

	mu    sync.Mutex
	conns map[string]*remote.Conn
	kept  int // connections that stay open beside those at work
}

// open loads the configuration and the trust snapshot. Hosts are not
// contacted.
func (a *app) open(ctx context.Context, opts tasks.Options) (*fleet, error) {
	inv, err := a.load(false)
	if err != nil {
		return nil, err
	}
	opts.Hosts = inv.Hosts
	f := &fleet{Fleet: inv, app: a, log: a.logger(), opts: opts, conns: map[string]*remote.Conn{}}
	f.dialer = &remote.Dialer{Log: f.log}
	if err := f.enoughFiles(); err != nil {
		return nil, err
	}
	f.passwords.resolve = func(ctx context.Context, ref, label string) ([]byte, error) {
		return a.loginPassword(ctx, inv, ref, label)
	}
	if f.trust, err = readTrust(ctx, inv); err != nil {
		return nil, err
	}
	return f, nil
}

// readTrust reads the authorities' public files and what the ledger knows.
func readTrust(ctx context.Context, inv *inventory.Fleet) (pki.Trust, error) {
	var public []pki.Authority
	for _, au := range inv.Authorities {
		p, err := authority.Read(au.Name, au.Directory)
		if err != nil {
			return pki.Trust{}, err
		}
		if len(p.Generations) > 0 {
			public = append(public, p)
		}
	}
	l, err := ledger.Open(ctx, inv.LedgerPath, ledger.ReadOnly)
	if errors.Is(err, ledger.ErrMissing) {
		return pki.Trust{Authorities: public}, nil
	}
	if errors.Is(err, ledger.ErrOlder) {
		// Of an earlier version of virtrust: no command could read it.
		l, err = ledger.Open(ctx, inv.LedgerPath, ledger.Existing)
	}
	if err != nil {
		return pki.Trust{}, err
	}
	defer func() { _ = l.Close() }()
	return completed(ctx, inv, public, l)
}

// completed completes the public files with what the ledger knows. An external
// authority that came with the configuration, from another machine, is recorded
// by the first apply.
func completed(ctx context.Context, inv *inventory.Fleet, public []pki.Authority, l *ledger.Ledger) (pki.Trust, error) {
	var known, fresh []pki.Authority
	for _, p := range public {
		d, _ := inv.Authority(p.Name)
		if d != nil && d.External() {
			have, err := l.Generations(ctx, p.Name)
			if err != nil {
				return pki.Trust{}, err
			}
			if len(have) == 0 {
				fresh = append(fresh, p)
				continue
			}
		}
		known = append(known, p)
	}
	t, err := l.Trust(ctx, known)
	t.Authorities = append(t.Authorities, fresh...)
	return t, err
}

// ready refuses when an authority that a policy uses has no files yet.
func (f *fleet) ready(hosts []*inventory.Host) error {
	for _, h := range hosts {
		names := tasks.Authorities(h)
		for _, s := range h.Policy.Stores {
			names = append(names, s.Authorities...)
		}
		if missing := f.trust.Missing(names...); len(missing) > 0 {
			name := missing[0]
			hint := "run `virtrust ca init " + name + "`"
			if d, ok := f.Authority(name); ok {
				hint = "run `virtrust " + makes(d) + "`"
			}
			return &hinted{fmt.Errorf("authority %q has no certificate yet", name), hint}
		}
	}
	return nil
}

// alive refuses when an authority that would sign has ended: nothing that it
// signs would be accepted.
func (f *fleet) alive(hosts []*inventory.Host) error {
	for _, h := range hosts {
		for _, name := range tasks.Authorities(h) {
			a, _ := f.trust.Authority(name)
			if g, ok := a.Issuing(); ok && !g.NotAfter.After(f.app.now()) {
				hint := "run `virtrust ca rotate " + name + "`, which makes a new generation; the next apply installs it everywhere"
				if d, ok := f.Authority(name); ok && d.External() {
					hint = "bring its new certificate in with `virtrust ca import " + name + " CHAIN.pem`; if that has another key, run `virtrust ca rotate " + name + "`; then apply"
				}
				return &exitCode{exitRefused, &hinted{
					fmt.Errorf("authority %q ended %s: nothing that it signs would be accepted", name, g.NotAfter.UTC().Format("2006-01-02")),
					hint,
				}}
			}
		}
	}
	return nil
}

func (f *fleet) endpoint(h *inventory.Host) remote.Endpoint {
	return endpoint(f.Fleet, h, func(h *inventory.Host, e *remote.Endpoint) {
		e.Become, e.SudoPassword, e.Password = h.SSH.Become, f.passwords.forSudo(h), f.passwords.forLogin(h)
	})
}

// conn connects to a host, once per run.
func (f *fleet) conn(ctx context.Context, h *inventory.Host) (*remote.Conn, error) {
	f.mu.Lock()
	c := f.conns[h.Name]
	f.mu.Unlock()
	if c != nil {
		return c, nil
	}
	e := f.endpoint(h)
	if err := loadPasswords(ctx, h.Name, e); err != nil {
		return nil, err
	}
	c, err := f.dialer.Connect(ctx, e)
	if err != nil {
		return nil, err
	}
	f.keep(h.Name, c)
	return c, nil
}

func (f *fleet) keep(host string, c *remote.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[host] = c
}

// forget drops a host's connection.
func (f *fleet) forget(host string) {
	f.mu.Lock()
	c := f.conns[host]
	delete(f.conns, host)
	f.mu.Unlock()
	if c != nil {
		_ = c.Close()
	}
}

// close ends all connections.
func (f *fleet) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = map[string]*remote.Conn{}
	_ = f.dialer.Close()
	f.passwords.wipe()
	if f.log.Enabled(context.Background(), slog.LevelDebug) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		f.log.Debug("memory", "allocated_kib", m.TotalAlloc>>10, "from_system_kib", m.Sys>>10)
	}
}

// ports are the TLS ports that a host's policy has a listener on.
func ports(h *inventory.Host) []int {
	var out []int
	for _, l := range h.Policy.Listeners {
		out = append(out, l.Port)
	}
	return out
}

// look asks a host everything in queries.
func (f *fleet) look(ctx context.Context, h *inventory.Host, queries []facts.Query) (*facts.Host, error) {
	c, err := f.conn(ctx, h)
	if err != nil {
		return nil, err
	}
	seen, err := remote.Look(ctx, c, h.Name, queries, f.app.now, ports(h)...)
	if err != nil {
		f.forget(h.Name)
		return nil, err
	}
	f.log.Debug("looked at host", "host", h.Name, "round_trips", c.Trips()+1)
	return seen, nil
}

// each runs do for every host, as many at once as allowed.
func (f *fleet) each(ctx context.Context, hosts []*inventory.Host, do func(ctx context.Context, i int, h *inventory.Host)) {
	slots := make(chan struct{}, max(1, f.app.parallel))
	var wg sync.WaitGroup
	for i, h := range hosts {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			wg.Wait()
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			do(ctx, i, h)
		})
	}
	wg.Wait()
}

// plan looks at the hosts and compares. Facts are dropped once compared. Hosts
// that a condition names are read, too; they change only with --with-peers.
func (f *fleet) plan(ctx context.Context, hosts []*inventory.Host, keep bool) (*plan.Plan, error) {
	if err := f.alive(hosts); err != nil {
		return nil, err
	}
	byName := map[string]plan.HostPlan{}
	opts := f.opts
	for todo, selected := hosts, true; len(todo) > 0; {
		parts, err := f.compare(ctx, todo, opts, keep)
		if err != nil {
			return nil, err
		}
		for _, h := range parts {
			if !selected && !f.withPeers && h.ReadOnly == "" {
				h.ReadOnly = "not selected"
			}
			byName[h.Host] = h
		}
		todo, selected = f.named(byName), false
		// What was asked for is asked of the selected hosts.
		opts.Replace = nil
	}
	var parts []plan.HostPlan
	for i := range f.Hosts {
		if h, ok := byName[f.Hosts[i].Name]; ok {
			parts = append(parts, h)
		}
	}
	p := plan.Make(versionText(), f.Digest, f.trust, parts, tasks.Rules(), f.app.now())
	if f.opts.Renew || f.opts.Lists {
		return p, nil
	}
	return p, f.departed(ctx, p)
}

// named lists the hosts that conditions of hosts that may change name and that
// were not read yet.
func (f *fleet) named(read map[string]plan.HostPlan) []*inventory.Host {
	want := map[string]bool{}
	for _, h := range read {
		if h.ReadOnly != "" {
			continue
		}
		for _, c := range h.Conditions() {
			for _, n := range c.Hosts {
				want[n] = true
			}
		}
	}
	var out []*inventory.Host
	for i := range f.Hosts {
		h := &f.Hosts[i]
		if _, have := read[h.Name]; want[h.Name] && !have {
			out = append(out, h)
		}
	}
	return out
}

// compare reads hosts and compares them with the configuration, as many at
// once as allowed. What it keeps of a host is its part of the plan.
func (f *fleet) compare(ctx context.Context, hosts []*inventory.Host, opts tasks.Options, keep bool) ([]plan.HostPlan, error) {
	if err := f.ready(hosts); err != nil {
		return nil, err
	}
	parent := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := f.app.progress("reading", len(hosts))
	parts := make([]plan.HostPlan, len(hosts))
	for i, h := range hosts {
		parts[i] = plan.HostPlan{Host: h.Name, Cluster: h.Cluster, Failure: &plan.Failure{Class: string(remote.ClassInterrupted), Text: "the run was interrupted before this host was read"}}
	}
	f.each(ctx, hosts, func(ctx context.Context, i int, h *inventory.Host) {
		defer p.step(h.Name)
		// What is asked and what was seen live as long as the comparison.
		all, err := tasks.For(h, f.trust, opts)
		var whole []plan.Task
		if err == nil && f.whole != nil {
			whole, err = tasks.For(h, f.trust, tasks.Options{Hosts: opts.Hosts})
		}
		if err != nil {
			cancel(err)
			return
		}
		seen, err := f.look(ctx, h, plan.Queries(slices.Concat(all, whole)))
		if err != nil {
			failure := classify(err)
			parts[i].Failure = &failure
			return
		}
		if f.whole != nil {
			hp := plan.MakeHost(h.Name, h.Cluster, whole, seen, f.app.now())
			f.mu.Lock()
			f.whole[h.Name] = hp
			f.mu.Unlock()
		}
		if keep {
			f.spare(h.Name)
		} else {
			f.forget(h.Name)
		}
		parts[i] = plan.MakeHost(h.Name, h.Cluster, all, seen, f.app.now())
		if !h.Managed {
			parts[i].ReadOnly = "managed = false"
		}
	})
	p.done()
	if err := context.Cause(ctx); err != nil && parent.Err() == nil {
		return nil, err
	}
	return parts, nil
}

const (
	// keptConnections is how many connections stay open between a plan and
	// what carries it out; hosts beyond them are connected to once more.
	keptConnections = 256
	// filesBeside is how many files are open beside connections.
	filesBeside = 64
)

// enoughFiles raises the limit of open files to what the connections of a run
// need, before the first of them.
func (f *fleet) enoughFiles() error {
	f.kept = keptConnections
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return nil //nolint:nilerr // not knowing the limit is no reason to stop
	}
	hosts := len(f.Hosts)
	atOnce := min(hosts, max(1, f.app.parallel))
	least, want := uint64(atOnce+filesBeside), uint64(min(hosts, atOnce+keptConnections)+filesBeside)
	if l.Cur < want {
		raised := unix.Rlimit{Cur: min(want, l.Max), Max: l.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err == nil {
			l.Cur = raised.Cur
		}
	}
	if l.Cur < least {
		return &hinted{fmt.Errorf("%d hosts at once need %d open files and the limit is %d", atOnce, least, l.Cur),
			fmt.Sprintf("raise the limit (`ulimit -n %d`, LimitNOFILE= in a unit), or take fewer hosts at once with --parallel", least)}
	}
	if l.Cur < want {
		f.kept = int(l.Cur - least)
	}
	return nil
}

// spare closes a host's connection where enough others are open already.
func (f *fleet) spare(host string) {
	f.mu.Lock()
	many := len(f.conns) > f.kept
	f.mu.Unlock()
	if many {
		f.forget(host)
	}
}

// classify turns an error into what a report says of a host.
func classify(err error) plan.Failure {
	var locked *plan.LockedError
	if errors.As(err, &locked) {
		return plan.Failure{Class: string(remote.ClassLock), Text: locked.Error(), Hint: fmt.Sprintf("wait for it, or if it is gone for good: virtrust unlock %s --lease %s", locked.Host, locked.Run)}
	}
	var re *remote.Error
	if errors.As(err, &re) {
		text := re.Op
		if re.Err != nil {
			text += ": " + re.Err.Error()
		}
		return plan.Failure{Class: string(re.Class), Text: text, Hint: re.Hint}
	}
	f := plan.Failure{Class: "error", Text: err.Error()}
	var refused *signingError
	switch {
	case errors.Is(err, errInterrupted):
		f.Class = string(remote.ClassInterrupted)
	case errors.As(err, &refused):
		f = plan.Failure{Class: "signing", Text: err.Error(), Hint: "mend it at the authority; nothing live was touched on the host"}
	}
	var h *hinted
	if errors.As(err, &h) {
		f.Hint = h.hint
	}
	return f
}

// noLedger refuses what cannot be done without the ledger, and says how to get it.
func noLedger(err error, why, path string) error {
	return &exitCode{exitRefused, &hinted{err, why + ": copy it to " + path + "; without any copy: virtrust ledger rebuild"}}
}
