package plan

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
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
	// Trust has the proofs that count for hosts that cannot be read.
	Trust pki.Trust
	// WaitJobs is how long a restart waits for the jobs of a host's guests to
	// end before the host is held; zero does not wait.
	WaitJobs time.Duration
	Parallel int // hosts at once, over all clusters
	Now      func() time.Time
	Progress func(Event)
	Log      *slog.Logger
}

// peersToAsk is how many peers dial a changed host.
const peersToAsk = 2

// Apply carries the plan out and reports every host in the plan's order. When
// ctx ends, hosts that have begun are finished or put back; others are held.
//
// Every host has one transaction of what has no condition, or one that holds
// from the start. When all rollouts are over, what waited is carried out in a
// second transaction where its condition holds then, and held where not.
func (r *Runner) Apply(ctx context.Context, p *Plan) *Report {
	rep := &Report{Run: r.Run, Started: r.Now().UTC(), Hosts: make([]HostReport, len(p.Hosts))}
	a := &applying{Runner: r, plan: p, rep: rep, slots: make(chan struct{}, max(1, r.Parallel)), stopped: map[string]bool{}}
	var clusters []string
	members := map[string][]int{}
	for i := range p.Hosts {
		c := p.Hosts[i].Cluster
		if members[c] == nil {
			clusters = append(clusters, c)
		}
		members[c] = append(members[c], i)
	}
	a.each(clusters, func(c string) string { return a.first(ctx, members[c], r.Rollouts[c]) })
	results := map[string]Result{}
	for _, h := range rep.Hosts {
		results[h.Host] = h.Result
	}
	a.each(clusters, func(c string) string { return a.second(ctx, members[c], r.Rollouts[c], results) })
	rep.Ended = r.Now().UTC()
	return rep
}

// applying is one Apply.
type applying struct {
	*Runner
	plan  *Plan
	rep   *Report
	slots chan struct{} // hosts at once, over all clusters

	mu      sync.Mutex
	stopped map[string]bool // clusters
}

// each has clusters rolled out beside each other; one that stopped stays so.
func (a *applying) each(clusters []string, roll func(cluster string) string) {
	var wg sync.WaitGroup
	for _, c := range clusters {
		if a.stopped[c] {
			continue
		}
		wg.Go(func() {
			why := roll(c)
			if why == "" {
				return
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			a.stopped[c] = true
			name := c
			if name == "" {
				name = "(no cluster)"
			}
			a.rep.Stopped = append(a.rep.Stopped, name+": "+why)
		})
	}
	wg.Wait()
	slices.Sort(a.rep.Stopped)
}

// task is one transaction to come.
type task struct {
	host *HostPlan
	at   int // in the plan
}

// first carries out what waits for nobody and says why it stopped early.
func (a *applying) first(ctx context.Context, members []int, ro Rollout) string {
	holds := func(o Op) bool {
		c := o.About().When
		return c == nil || len(a.plan.unmet(*c, a.Trust, nil)) == 0
	}
	var todo []task
	unread := 0
	for _, i := range members {
		h := &a.plan.Hosts[i]
		hr := HostReport{Host: h.Host, Cluster: h.Cluster, Result: Unchanged}
		switch {
		case h.Failure != nil && h.ReadOnly != "":
		case h.Failure != nil:
			unread++
			hr.Result, hr.Failure, hr.Step = Held, h.Failure, "look"
		case h.ReadOnly != "":
		case h.Held():
			hr.Result = Held
			hr.Failure = heldBecause(h)
		default:
			part := h.part(holds)
			if len(part.Ops) == 0 {
				break
			}
			hr.Result = Held
			hr.Failure = &Failure{Class: "held", Text: "the rollout did not reach this host"}
			todo = append(todo, task{part, i})
		}
		a.rep.Hosts[i] = hr
	}
	if len(todo) == 0 {
		return ""
	}
	if limit, err := share(ro.MaxUnreachable, len(members), true); err != nil {
		return "max_unreachable: " + err.Error()
	} else if unread > limit {
		return fmt.Sprintf("%d of %d hosts could not be read, max_unreachable allows %d: nothing was changed", unread, len(members), limit)
	}
	return a.roll(ctx, todo, ro, func(i int, hr HostReport) { a.rep.Hosts[i] = hr })
}

// second carries out what waited, where its condition holds now.
func (a *applying) second(ctx context.Context, members []int, ro Rollout, results map[string]Result) string {
	var todo []task
	for _, i := range members {
		h, hr := &a.plan.Hosts[i], &a.rep.Hosts[i]
		if h.Failure != nil || h.ReadOnly != "" || h.Held() {
			continue
		}
		var mine []Unmet
		if hr.Result != Changed && hr.Result != Unchanged {
			mine = []Unmet{{h.Host, fmt.Sprintf("its first transaction is %s", hr.Result)}}
		}
		part := h.part(func(o Op) bool {
			c := o.About().When
			if c == nil || len(a.plan.unmet(*c, a.Trust, nil)) == 0 {
				return false // was in the first
			}
			missing := append(a.plan.unmet(*c, a.Trust, results), mine...)
			if len(missing) == 0 {
				return true
			}
			hr.HeldOps = append(hr.HeldOps, HeldOp{Kind: o.Kind(), Subject: o.Subject(), When: *c, For: missing})
			return false
		})
		if len(part.Ops) > 0 {
			todo = append(todo, task{part, i})
		}
	}
	if len(todo) == 0 {
		return ""
	}
	if ctx.Err() != nil {
		for _, t := range todo {
			a.rep.Hosts[t.at].Result = Held
			a.rep.Hosts[t.at].Failure = &Failure{Class: "held", Text: "the run was interrupted before the second transaction of this host"}
		}
		return "interrupted"
	}
	reached := map[int]bool{}
	var mu sync.Mutex
	why := a.roll(ctx, todo, ro, func(i int, hr HostReport) {
		mu.Lock()
		defer mu.Unlock()
		reached[i] = true
		a.rep.Hosts[i] = then(a.rep.Hosts[i], hr)
	})
	for _, t := range todo {
		if !reached[t.at] {
			a.rep.Hosts[t.at].Result = Held
			a.rep.Hosts[t.at].Failure = &Failure{Class: "held", Text: "the rollout did not reach the second transaction of this host"}
		}
	}
	return why
}

// then is what came of a host's two transactions.
func then(first, second HostReport) HostReport {
	out := second
	out.Ops += first.Ops
	out.Took += first.Took
	out.HeldOps = first.HeldOps
	if first.Result == Changed && second.Result != Changed && second.Failure != nil {
		f := *second.Failure
		f.Text = "the first transaction was carried out, the second not: " + f.Text
		out.Failure = &f
	}
	if first.Proof != nil {
		p := *first.Proof
		if second.Proof != nil && second.Result == Changed && second.Proof.Served != "" {
			p.Served, p.Addresses, p.Peers, p.NotProved = second.Proof.Served, second.Proof.Addresses, second.Proof.Peers, second.Proof.NotProved
		}
		out.Proof = &p
	}
	return out
}

// roll carries out the transactions of one cluster, canary and batches, and
// says why it stopped early.
func (a *applying) roll(ctx context.Context, todo []task, ro Rollout, finish func(at int, hr HostReport)) string {
	hosts := make([]*HostPlan, len(todo))
	index := map[*HostPlan]int{}
	for i, t := range todo {
		hosts[i], index[t.host] = t.host, t.at
	}
	batches, err := ro.batches(hosts)
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
				take := []chan struct{}{a.slots}
				if h.Disrupts().Exceeds(DisruptReloadPerVM) {
					take = []chan struct{}{restarts, a.slots}
				}
				for _, c := range take {
					select {
					case c <- struct{}{}:
						defer func() { <-c }()
					case <-ctx.Done():
						return
					}
				}
				hr := a.host(ctx, h)
				mu.Lock()
				defer mu.Unlock()
				switch hr.Result {
				case Failed, WasReset, Unknown:
					failures++
				}
				finish(index[h], hr)
				if a.Done != nil {
					a.Done(hr)
				}
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
