package plan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
)

// Runner carries plans out.
type Runner struct {
	Run string // id of this run
	// Open gives the session of a host; its error is the host's failure.
	Open func(ctx context.Context, host string) (Session, error)
	// Queries are what a host's second look asks.
	Queries func(host string) []facts.Query
	Sign    SignFunc
	// Peers gives up to n hosts of host's trust domain that can dial it.
	Peers func(host string, n int) []Peer
	// Classify turns an error into a failure with class and hint.
	Classify func(error) Failure
	// Done is told each host's report, in the order in which they end.
	Done     func(HostReport)
	Rollouts map[string]Rollout // by cluster
	Parallel int                // hosts at once, over all clusters
	Now      func() time.Time
	Progress func(Event)
	Log      *slog.Logger
}

// peersToAsk is how many peers dial a changed host.
const peersToAsk = 2

// Apply carries the plan out and reports every host in the plan's order. When
// ctx ends, hosts that have begun are finished or put back; others are held.
func (r *Runner) Apply(ctx context.Context, p *Plan) *Report {
	rep := &Report{Run: r.Run, Started: r.Now().UTC(), Hosts: make([]HostReport, len(p.Hosts))}
	slots := make(chan struct{}, max(1, r.Parallel))
	byCluster := map[string][]int{}
	var clusters []string
	for i := range p.Hosts {
		c := p.Hosts[i].Cluster
		if byCluster[c] == nil {
			clusters = append(clusters, c)
		}
		byCluster[c] = append(byCluster[c], i)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, c := range clusters {
		wg.Go(func() {
			if why := r.cluster(ctx, p, rep, byCluster[c], r.Rollouts[c], slots); why != "" {
				mu.Lock()
				defer mu.Unlock()
				name := c
				if name == "" {
					name = "(no cluster)"
				}
				rep.Stopped = append(rep.Stopped, name+": "+why)
			}
		})
	}
	wg.Wait()
	rep.Ended = r.Now().UTC()
	return rep
}

// cluster changes the members of one cluster and says why it stopped early.
func (r *Runner) cluster(ctx context.Context, p *Plan, rep *Report, members []int, ro Rollout, slots chan struct{}) string {
	var todo []*HostPlan
	index := map[*HostPlan]int{}
	unread := 0
	for _, i := range members {
		h := &p.Hosts[i]
		index[h] = i
		hr := HostReport{Host: h.Host, Cluster: h.Cluster, Result: Unchanged}
		switch {
		case h.Failure != nil:
			unread++
			hr.Result, hr.Failure, hr.Step = Held, h.Failure, "look"
		case h.ReadOnly != "":
		case h.Held():
			hr.Result = Held
			hr.Failure = heldBecause(h)
		case len(h.Ops) > 0:
			hr.Result = Held
			hr.Failure = &Failure{Class: "held", Text: "the rollout did not reach this host"}
			todo = append(todo, h)
		}
		rep.Hosts[i] = hr
	}
	finish := func(i int, hr HostReport) {
		rep.Hosts[i] = hr
		if r.Done != nil {
			r.Done(hr)
		}
	}
	if len(todo) == 0 {
		return ""
	}
	if limit, err := share(ro.MaxUnreachable, len(members), true); err != nil {
		return "max_unreachable: " + err.Error()
	} else if unread > limit {
		return fmt.Sprintf("%d of %d hosts could not be read, max_unreachable allows %d: nothing was changed", unread, len(members), limit)
	}
	batches, err := ro.batches(todo)
	if err != nil {
		return "batch: " + err.Error()
	}
	restarts := make(chan struct{}, max(1, ro.Restarts))
	failures := 0
	for n, batch := range batches {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, h := range batch {
			wg.Go(func() {
				take := []chan struct{}{slots}
				if h.Disrupts().Exceeds(DisruptReload) {
					take = []chan struct{}{restarts, slots}
				}
				for _, c := range take {
					select {
					case c <- struct{}{}:
						defer func() { <-c }()
					case <-ctx.Done():
						return
					}
				}
				hr := r.host(ctx, h)
				mu.Lock()
				defer mu.Unlock()
				switch hr.Result {
				case Failed, WasReset, Unknown:
					failures++
				}
				finish(index[h], hr)
			})
		}
		wg.Wait()
		if ctx.Err() != nil {
			return "interrupted"
		}
		if failures > ro.MaxFailures && n < len(batches)-1 {
			return fmt.Sprintf("%d hosts failed, max_failures allows %d", failures, ro.MaxFailures)
		}
	}
	return ""
}

func heldBecause(h *HostPlan) *Failure {
	for _, f := range h.Findings {
		if f.Holds {
			return &Failure{Class: "held", Text: f.Text, Hint: f.Hint}
		}
	}
	return &Failure{Class: "held", Text: "held"}
}

// host carries out one host's transaction.
func (r *Runner) host(ctx context.Context, h *HostPlan) HostReport {
	began := r.Now()
	hr := HostReport{Host: h.Host, Cluster: h.Cluster}
	fail := func(step string, result Result, err error) HostReport {
		f := r.Classify(err)
		hr.Failure, hr.Step, hr.Result = &f, step, result
		hr.Took = r.Now().Sub(began)
		r.event(h.Host, step, "", result)
		return hr
	}
	if ctx.Err() != nil {
		return fail("lock", Held, context.Cause(ctx))
	}
	r.event(h.Host, "lock", "", "")
	s, err := r.Open(ctx, h.Host)
	if err != nil {
		return fail("lock", Held, err)
	}
	// A host that has begun is brought to an end even when the run is
	// interrupted: only its deadline ends it.
	hostCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hostDeadline)
	defer cancel()

	step, workErr := r.work(hostCtx, ctx, s, h, &hr)
	if step == "held" {
		hr.Failure, hr.Step, hr.Result = &Failure{Class: "moved", Text: workErr.Error(), Hint: "make a new plan"}, "look", Held
	}
	r.event(h.Host, "end", "", "")
	out, endErr := s.End(hostCtx, workErr == nil)
	if step == "held" {
		hr.Took = r.Now().Sub(began)
		r.event(h.Host, "look", "", Held)
		return hr
	}
	switch {
	case workErr == nil && out == Committed:
		hr.Result, hr.Ops = Changed, len(h.Ops)
		hr.Took = r.Now().Sub(began)
		r.event(h.Host, "end", "", Changed)
		return hr
	case workErr == nil:
		workErr, step = endErr, "end"
		if workErr == nil {
			workErr = errors.New("the host did not commit")
		}
	}
	var locked *LockedError
	switch {
	case errors.As(workErr, &locked):
		return fail(step, Held, workErr)
	case out == Committed:
		// The reply of the commit was lost and the journal has it, or a
		// change of files alone was committed before its proof failed.
		if hr.Proof != nil && step == "prove" {
			hr.Proof.NotProved = workErr.Error()
		}
		hr.Result, hr.Ops = Changed, len(h.Ops)
		hr.Took = r.Now().Sub(began)
		r.event(h.Host, "end", "", Changed)
		return hr
	case out == Untouched:
		return fail(step, Failed, workErr)
	case out == Reverted:
		return fail(step, WasReset, workErr)
	default:
		return fail(step, Unknown, errors.Join(workErr, endErr))
	}
}

// hostDeadline bounds one host's whole transaction.
const hostDeadline = 10 * time.Minute

// work does everything between the lock and the end and names the step that
// failed. Before the switch an interrupt stops it; afterwards it goes on.
func (r *Runner) work(ctx, run context.Context, s Session, h *HostPlan, hr *HostReport) (string, error) {
	seen, err := s.Lock(ctx, r.Queries(h.Host))
	if err != nil {
		return "lock", err
	}
	r.event(h.Host, "look", "", "")
	if moved := Moved(h, seen); len(moved) > 0 {
		return "held", errors.New("the host is not as the plan saw it: " + strings.Join(moved, "; "))
	}
	if busy := seen.Busy(); len(busy) > 0 && h.Disrupts().Exceeds(DisruptReload) {
		return "held", fmt.Errorf("guest %q is in a job (%s) and the plan restarts the daemon", busy[0].Name, busy[0].Job)
	}
	if err := context.Cause(run); err != nil {
		return "look", err
	}
	r.event(h.Host, "stage", "", "")
	sign := func(ctx context.Context, host string, o Enrol, csr []byte) ([][]byte, error) {
		r.event(h.Host, "sign", o.Certificate, "")
		chain, err := r.Sign(ctx, host, o, csr)
		if err != nil {
			return nil, err
		}
		return chain, checkIssued(o, csr, chain, h.Ops, seen, r.Now())
	}
	if err := s.Stage(ctx, h.Ops, sign); err != nil {
		return "stage", err
	}
	if err := context.Cause(run); err != nil {
		return "stage", err
	}
	r.event(h.Host, "switch", "", "")
	if err := s.Switch(ctx); err != nil {
		return "switch", err
	}
	r.event(h.Host, "prove", "", "")
	var peers []Peer
	if r.Peers != nil {
		peers = r.Peers(h.Host, peersToAsk)
	}
	proof, err := s.Prove(ctx, peers)
	hr.Proof = &proof
	if err != nil {
		return "prove", err
	}
	return "", nil
}

func (r *Runner) event(host, step, detail string, result Result) {
	r.Log.Debug("step", "host", host, "step", step, "result", result)
	if r.Progress != nil {
		r.Progress(Event{Host: host, Step: step, Detail: detail, Result: result})
	}
}
