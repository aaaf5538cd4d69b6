package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
	"github.com/virtrust/virtrust/templates"
)

// applyRun is one apply: its ledger, its open authorities, what is done.
type applyRun struct {
	*fleet
	id     string
	plan   *plan.Plan
	ledger *ledger.Ledger

	signing     sync.Mutex
	authorities map[string]signer
	secrets     []authority.Secret // that they use until close

	doneMu sync.Mutex
	done   map[string]bool // hosts that have what the configuration wants
	// transactions counts those of each host.
	transactions map[string]int
}

// open opens the ledger and the authorities that will sign, before the first
// host is touched.
func (r *applyRun) open(ctx context.Context, command string) error {
	mode := ledger.Existing
	if r.onlyExternal() {
		// No serial is drawn here, so nothing is lost with a ledger.
		mode = ledger.Create
	}
	l, err := ledger.Open(ctx, r.LedgerPath, mode, ledger.WithClock(r.app.now))
	if err != nil {
		if errors.Is(err, ledger.ErrMissing) {
			return noLedger(err, "apply needs the ledger of these authorities", r.LedgerPath)
		}
		return err
	}
	r.ledger = l
	if _, err := l.StartRun(ctx, ledger.Run{ID: r.id, Command: command, Operator: owner(), Version: versionText(), PlanDigest: r.plan.Trust}); err != nil {
		_ = l.Close()
		return err
	}
	for i := range r.plan.Hosts {
		h := &r.plan.Hosts[i]
		if !h.Changes() {
			continue
		}
		for _, o := range h.Ops {
			e, ok := o.(plan.Enrol)
			if !ok || r.authorities[e.Authority] != nil {
				continue
			}
			if err := r.unlock(ctx, e.Authority); err != nil {
				r.end("refused")
				r.close()
				return err
			}
		}
	}
	return nil
}

func (r *applyRun) close() {
	for _, a := range r.authorities {
		_ = a.Close()
	}
	for _, x := range r.secrets {
		x.Wipe()
	}
	if r.ledger != nil {
		_ = r.ledger.Close()
		r.ledger = nil
	}
}

// end closes the run in the ledger.
func (r *applyRun) end(result string) {
	if r.ledger == nil {
		return
	}
	if err := r.ledger.EndRun(context.Background(), r.id, result); err != nil {
		r.log.Warn("the run could not be closed in the ledger", "error", err)
	}
}

// session opens the transaction of a host.
func (r *applyRun) session(ctx context.Context, name string) (plan.Session, error) {
	h, ok := r.Host(name)
	if !ok {
		return nil, fmt.Errorf("host %q is not in the configuration", name)
	}
	c, err := r.conn(ctx, h)
	if err != nil {
		return nil, err
	}
	s := remote.NewSession(r.dialer, c, r.endpoint(h), serving(h), remote.SessionConfig{
		Run: r.transaction(name), Owner: owner(), RevertService: templates.RevertService(), Render: tasks.Render, Keep: tasks.Keep, Now: r.app.now, RevertAfter: r.revertAfter,
	})
	return &keptSession{Session: s, run: r, host: name}, nil
}

// transaction names a host's transaction: the run, and a number from the
// second on.
func (r *applyRun) transaction(host string) string {
	r.doneMu.Lock()
	defer r.doneMu.Unlock()
	if r.transactions == nil {
		r.transactions = map[string]int{}
	}
	r.transactions[host]++
	if n := r.transactions[host]; n > 1 {
		return fmt.Sprintf("%s-%d", r.id, n)
	}
	return r.id
}

// keptSession gives a new connection of the session back to the run.
type keptSession struct {
	*remote.Session
	run  *applyRun
	host string
}

func (s *keptSession) Lock(ctx context.Context, q []facts.Query) (*facts.Host, error) {
	h, err := s.Session.Lock(ctx, q)
	for _, r := range s.Recovered {
		s.run.app.note("%s: an earlier run was interrupted here: %s", s.host, r)
	}
	return h, err
}

func (s *keptSession) End(ctx context.Context, commit bool) (plan.Outcome, error) {
	out, err := s.Session.End(ctx, commit)
	if s.NotKept != "" {
		s.run.app.note("%s: the firewall's rules are live and would be lost at a reboot, plan again: %s", s.host, s.NotKept)
	}
	s.run.keep(s.host, s.Conn())
	s.run.spare(s.host)
	return out, err
}

// serving says what a host's listener shows.
func serving(h *inventory.Host) remote.Serving {
	out := served(h)
	for _, c := range h.Policy.Certificates {
		if c.NeededFor == inventory.ForVNC {
			out.Consoles = &remote.Serving{Certificate: c.Name, Path: c.Install.Directory + "/" + c.Install.Cert}
		}
	}
	return out
}

func served(h *inventory.Host) remote.Serving {
	for _, l := range h.Policy.Listeners {
		for _, c := range h.Policy.Certificates {
			if c.Install.Directory == "/etc/pki/libvirt" && slices.Contains(c.Usages, "server") {
				return remote.Serving{Port: l.Port, Certificate: c.Name, Path: c.Install.Directory + "/" + c.Install.Cert}
			}
		}
	}
	return remote.Serving{}
}

func (r *applyRun) queries(name string) []facts.Query {
	h, ok := r.Host(name)
	if !ok {
		return nil
	}
	if j := r.undoQueries[name]; j != nil {
		return facts.Merge(j.UndoQueries())
	}
	// The proof asks for the served certificate, also where lists alone change.
	opts := r.opts
	opts.Lists = false
	t, err := tasks.For(h, r.trust, opts)
	if err != nil {
		return nil
	}
	return plan.Queries(t)
}

// sign has a host's request signed.
func (r *applyRun) sign(ctx context.Context, host string, o plan.Enrol, csr []byte) ([][]byte, error) {
	r.signing.Lock()
	a := r.authorities[o.Authority]
	r.signing.Unlock()
	if a == nil {
		return nil, fmt.Errorf("authority %q is not open", o.Authority)
	}
	req, err := pki.ParseCSR(csr)
	if err != nil {
		return nil, fmt.Errorf("the host's request: %w", err)
	}
	chain, err := a.Sign(ctx, authority.Request{Run: r.id, Host: host, CSR: req, Profile: o.Profile})
	if errors.Is(err, authority.ErrPending) {
		return nil, &plan.WaitingError{Certificate: o.Certificate, Text: err.Error()}
	}
	if err != nil {
		return nil, &signingError{err}
	}
	return ders(chain), nil
}

// signingError is an authority's refusal or failure to sign.
type signingError struct{ err error }

func (e *signingError) Error() string { return e.err.Error() }
func (e *signingError) Unwrap() error { return e.err }

func ders(chain []*x509.Certificate) [][]byte {
	out := make([][]byte, 0, len(chain))
	for _, c := range chain {
		out = append(out, c.Raw)
	}
	return out
}

// peers gives hosts of the same trust domain that have what they should and
// can dial.
func (r *applyRun) peers(host string, n int) []plan.Peer {
	me, ok := r.Host(host)
	if !ok || len(me.Policy.Listeners) == 0 {
		return nil
	}
	r.doneMu.Lock()
	defer r.doneMu.Unlock()
	var out []plan.Peer
	for i := range r.Hosts {
		h := &r.Hosts[i]
		if len(out) == n || h.Name == host || !r.done[h.Name] || h.Away != nil || !tasks.Dials(h, me) {
			continue
		}
		out = append(out, remote.Peer{Host: h.Name, Port: me.Policy.Listeners[0].Port, Conn: func(ctx context.Context) (*remote.Conn, error) { return r.conn(ctx, h) }})
	}
	return out
}

// dialsDifferently reports whether the plan changes what a host dials with.
func (f *fleet) dialsDifferently(h *plan.HostPlan) bool {
	return slices.ContainsFunc(h.Ops, func(o plan.Op) bool {
		switch o := o.(type) {
		case plan.Enrol:
			return o.Check == nil && slices.Contains(o.Profile.Usages, pki.UsageClient)
		case plan.WriteFile:
			return strings.HasPrefix(string(o.About().Task), "trust.")
		}
		return false
	})
}

// record writes what came of a host to the ledger.
func (r *applyRun) record(hr plan.HostReport) {
	if hr.Result == plan.Changed {
		r.doneMu.Lock()
		r.done[hr.Host] = true
		r.doneMu.Unlock()
	}
	if r.ledger == nil {
		return
	}
	ctx := context.Background()
	var errs []error
	if hr.Result == plan.Changed && hr.Proof != nil {
		for cert, leaf := range hr.Proof.Leaves {
			errs = append(errs, r.ledger.MarkInstalled(ctx, r.id, hr.Host, cert, leaf))
			if by := hr.Proof.Checked[cert]; by != "" {
				errs = append(errs, r.ledger.RecordProof(ctx, ledger.Proof{Run: r.id, Detail: by, Proof: pki.Proof{Host: hr.Host, Certificate: cert, LeafSHA256: leaf, Loaded: r.loaded(hr.Host)}}))
			}
		}
		if hr.Proof.Served != "" {
			if h, ok := r.Host(hr.Host); ok {
				errs = append(errs, r.ledger.RecordProof(ctx, ledger.Proof{Run: r.id, Detail: hr.Proof.NotProved, Proof: pki.Proof{
					Host: hr.Host, Certificate: serving(h).Certificate, LeafSHA256: hr.Proof.Served, Peers: hr.Proof.Peers, Loaded: r.loaded(hr.Host),
				}}))
			}
		}
	}
	if hr.Failure != nil && hr.Result != plan.Held {
		for certificate, wish := range wishes(r.plan, hr.Host) {
			errs = append(errs, r.ledger.RecordFailure(ctx, ledger.Failure{Run: r.id, Host: hr.Host, Certificate: certificate, Class: hr.Failure.Class, Text: hr.Failure.Text, Wish: wish}))
		}
	}
	if err := errors.Join(errs...); err != nil {
		r.log.Warn("the ledger could not be written", "host", hr.Host, "error", err)
	}
}

// loaded lists the CAs that a host has read when all of its plan is in place.
func (r *applyRun) loaded(host string) []string {
	h, ok := r.Host(host)
	if !ok {
		return nil
	}
	var ids []string
	for _, name := range tasks.Authorities(h) {
		if a, ok := r.trust.Authority(name); ok {
			ids = append(ids, a.KeyIDs()...)
		}
	}
	return ids
}

// wishes are the certificates that a plan wanted to make on a host, with what it
// wanted; "host" where it wanted none.
func wishes(p *plan.Plan, host string) map[string]string {
	out := map[string]string{}
	for i := range p.Hosts {
		if p.Hosts[i].Host != host {
			continue
		}
		for _, o := range p.Hosts[i].Ops {
			if e, ok := o.(plan.Enrol); ok {
				out[e.Certificate] = e.Wish()
			}
		}
	}
	if len(out) == 0 {
		out["host"] = ""
	}
	return out
}
