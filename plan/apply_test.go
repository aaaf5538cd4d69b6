package plan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
)

// hosts is a fleet in memory: what each session is asked, and what goes wrong.
type hosts struct {
	mu      sync.Mutex
	calls   []string
	fail    map[string]string // host to the step that fails
	busy    map[string]int    // host to the number of looks that see a job
	ends    map[string]Outcome
	refuse  map[string]bool // hosts that cannot be dialled
	during  func(host, step string)
	active  atomic.Int32
	most    atomic.Int32
	restart atomic.Int32
	rmost   atomic.Int32
}

type session struct {
	*hosts
	name     string
	restarts bool
}

func (s *session) did(step string) error {
	s.mu.Lock()
	s.calls = append(s.calls, s.name+" "+step)
	s.mu.Unlock()
	if s.during != nil {
		s.during(s.name, step)
	}
	if s.fail[s.name] == step {
		return errors.New(step + " fails")
	}
	return nil
}

func (s *session) Lock(context.Context, []facts.Query) (*facts.Host, error) {
	raise(&s.active, &s.most)
	h := &facts.Host{MachineID: s.name}
	s.mu.Lock()
	if s.busy[s.name] > 0 {
		s.busy[s.name]--
		h.Guests = []facts.Guest{{Name: "g", Job: "migration out"}}
	}
	s.mu.Unlock()
	return h, s.did("lock")
}

func (s *session) Stage(_ context.Context, ops Ops, _ SignFunc) error {
	s.restarts = slices.ContainsFunc(ops, func(o Op) bool { return o.Disrupts().Exceeds(DisruptReloadPerVM) })
	return s.did(fmt.Sprintf("stage %d", len(ops)))
}

func (s *session) Switch(context.Context) error {
	if s.restarts {
		raise(&s.restart, &s.rmost)
		defer s.restart.Add(-1)
	}
	time.Sleep(2 * time.Millisecond)
	return s.did("switch")
}

func (s *session) Prove(context.Context, []Peer) (Proof, error) { return Proof{}, s.did("prove") }

func (s *session) End(_ context.Context, commit bool) (Outcome, error) {
	s.active.Add(-1)
	err := s.did(fmt.Sprintf("end %t", commit))
	if o, ok := s.ends[s.name]; ok {
		return o, err
	}
	switch {
	case commit:
		return Committed, err
	case s.fail[s.name] == "switch" || s.fail[s.name] == "prove":
		return Reverted, err
	}
	return Untouched, err
}

func raise(now, most *atomic.Int32) {
	n := now.Add(1)
	for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
	}
}

func (f *hosts) runner() *Runner {
	return &Runner{
		Run: "r1", Parallel: 8, Now: time.Now, Log: slog.New(slog.DiscardHandler), Rollouts: map[string]Rollout{},
		Open: func(_ context.Context, host string) (Session, error) {
			if f.refuse[host] {
				return nil, errors.New("refused")
			}
			return &session{hosts: f, name: host}, nil
		},
		Queries:  func(string) []facts.Query { return nil },
		Classify: func(err error) Failure { return Failure{Class: "error", Text: err.Error()} },
	}
}

var usual = Rollout{Canary: 1, Batch: "25%", Restarts: 1, MaxUnreachable: "10%"}

func reload() Op {
	return Activate{Meta: Meta{Wave: WaveIdentity}, Unit: "libvirtd.service", How: Reload}
}
func restart() Op {
	return Activate{Meta: Meta{Wave: WaveIdentity}, Unit: "libvirtd.service", How: Restart}
}

func change(name, cluster string, ops ...Op) HostPlan {
	return HostPlan{Host: name, Cluster: cluster, MachineID: name, Ops: ops}
}

func unread(name, cluster string) HostPlan {
	return HostPlan{Host: name, Cluster: cluster, Failure: &Failure{Class: "timeout", Text: "no answer"}}
}

func many(n int, cluster string, op func() Op) []HostPlan {
	var out []HostPlan
	for i := range n {
		out = append(out, change(fmt.Sprintf("%s%d", cluster, i), cluster, op()))
	}
	return out
}

func resultsOf(r *Report) map[string]Result {
	out := map[string]Result{}
	for _, h := range r.Hosts {
		out[h.Host] = h.Result
	}
	return out
}

func TestRollout(t *testing.T) {
	cases := []struct {
		name    string
		rollout Rollout
		hosts   []HostPlan
		fleet   *hosts
		want    map[Result]int
		stopped int
	}{
		{"all change", usual, many(8, "a", reload), &hosts{}, map[Result]int{Changed: 8}, 0},
		{"the canary fails", usual, many(8, "a", reload), &hosts{fail: map[string]string{"a0": "prove"}}, map[Result]int{WasReset: 1, Held: 7}, 1},
		{"one more failure than allowed", Rollout{Batch: "1", MaxFailures: 1, MaxUnreachable: "10%"}, many(5, "a", reload),
			&hosts{fail: map[string]string{"a0": "stage 1", "a1": "switch"}}, map[Result]int{Failed: 1, WasReset: 1, Held: 3}, 1},
		{"as many failures as allowed", Rollout{Batch: "1", MaxFailures: 1, MaxUnreachable: "10%"}, many(5, "a", reload),
			&hosts{fail: map[string]string{"a0": "stage 1"}}, map[Result]int{Failed: 1, Changed: 4}, 0},
		{"the last fails", usual, many(3, "a", reload), &hosts{fail: map[string]string{"a2": "prove"}}, map[Result]int{WasReset: 1, Changed: 2}, 0},
		{"unknown counts", usual, many(3, "a", reload), &hosts{fail: map[string]string{"a0": "switch"}, ends: map[string]Outcome{"a0": Uncertain}},
			map[Result]int{Unknown: 1, Held: 2}, 1},
		{"a commit whose reply was lost", usual, many(2, "a", reload), &hosts{fail: map[string]string{"a0": "end true"}}, map[Result]int{Changed: 2}, 0},
		{"a host that cannot be dialled is held, not counted", usual, many(3, "a", reload), &hosts{refuse: map[string]bool{"a0": true}}, map[Result]int{Held: 1, Changed: 2}, 0},
		{"one unread of three", usual, append(many(2, "a", reload), unread("x", "a")), &hosts{}, map[Result]int{Held: 1, Changed: 2}, 0},
		{"two unread of three", usual, append(many(1, "a", reload), unread("x", "a"), unread("y", "a")), &hosts{}, map[Result]int{Held: 3}, 1},
		{"clusters stand alone", usual, append(many(4, "a", reload), many(4, "b", reload)...), &hosts{fail: map[string]string{"a0": "prove"}},
			map[Result]int{WasReset: 1, Held: 3, Changed: 4}, 1},
		{"a finding holds", usual, append(many(2, "a", reload), HostPlan{Host: "h", Cluster: "a", Ops: Ops{reload()}, Findings: []Finding{{Holds: true, Text: "no"}}}),
			&hosts{}, map[Result]int{Changed: 2, Held: 1}, 0},
		{"read only", usual, append(many(1, "a", reload), HostPlan{Host: "h", Cluster: "a", Ops: Ops{reload()}, ReadOnly: "managed = false"}), &hosts{}, map[Result]int{Changed: 1, Unchanged: 1}, 0},
		{"moved", usual, append(many(1, "a", reload), HostPlan{Host: "h", Cluster: "a", MachineID: "other", Ops: Ops{reload()}}), &hosts{}, map[Result]int{Changed: 1, Held: 1}, 0},
		{"a job that does not end", usual, many(2, "a", restart), &hosts{busy: map[string]int{"a0": 1 << 30}}, map[Result]int{Held: 1, Changed: 1}, 0},
		{"a job does not matter to a reload", usual, many(2, "a", reload), &hosts{busy: map[string]int{"a0": 1 << 30}}, map[Result]int{Changed: 2}, 0},
		{"a bad batch", Rollout{Batch: "x", MaxUnreachable: "10%"}, many(2, "a", reload), &hosts{}, map[Result]int{Held: 2}, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := c.fleet.runner()
			r.Rollouts = map[string]Rollout{"a": c.rollout, "b": c.rollout}
			rep := r.Apply(t.Context(), &Plan{Hosts: c.hosts})
			for _, want := range []Result{Changed, Unchanged, Held, WasReset, Failed, Unknown} {
				if got := rep.Count(want); got != c.want[want] {
					t.Errorf("%d %s, want %d: %v %v", got, want, c.want[want], resultsOf(rep), rep.Stopped)
				}
			}
			if len(rep.Stopped) != c.stopped {
				t.Errorf("stopped: %q", rep.Stopped)
			}
		})
	}
}

func TestCanaryAndBatches(t *testing.T) {
	f := &hosts{}
	r := f.runner()
	r.Rollouts["a"] = Rollout{Canary: 2, Batch: "50%", Restarts: 1, MaxUnreachable: "10%"}
	var seen []string
	f.during = func(host, step string) {
		if step == "switch" {
			f.mu.Lock()
			seen = append(seen, host)
			f.mu.Unlock()
		}
	}
	if rep := r.Apply(t.Context(), &Plan{Hosts: many(8, "a", reload)}); !rep.Complete() {
		t.Fatal(resultsOf(rep))
	}
	slices.Sort(seen[:2])
	if !slices.Equal(seen[:2], []string{"a0", "a1"}) {
		t.Errorf("canaries are %v", seen)
	}
	slices.Sort(seen[2:6])
	if !slices.Equal(seen[2:6], []string{"a2", "a3", "a4", "a5"}) {
		t.Errorf("the first batch is %v", seen[2:])
	}
}

func TestRestartsAndParallel(t *testing.T) {
	f := &hosts{}
	r := f.runner()
	r.Rollouts["a"] = Rollout{Batch: "100%", Restarts: 2, MaxUnreachable: "10%"}
	if rep := r.Apply(t.Context(), &Plan{Hosts: many(12, "a", restart)}); !rep.Complete() || f.rmost.Load() > 2 {
		t.Errorf("%d restarts at once: %v", f.rmost.Load(), resultsOf(rep))
	}
	f = &hosts{}
	r = f.runner()
	r.Parallel = 3
	r.Rollouts["a"] = Rollout{Batch: "100%", Restarts: 1, MaxUnreachable: "10%"}
	r.Rollouts["b"] = r.Rollouts["a"]
	if rep := r.Apply(t.Context(), &Plan{Hosts: append(many(9, "a", reload), many(9, "b", reload)...)}); !rep.Complete() || f.most.Load() > 3 {
		t.Errorf("%d hosts at once: %v", f.most.Load(), resultsOf(rep))
	}
}

func TestInterrupt(t *testing.T) {
	cases := []struct {
		step string
		want Result // of the host in whose step the interrupt came
	}{{"lock", Failed}, {"stage 1", Failed}, {"switch", Changed}, {"prove", Changed}, {"end true", Changed}}
	for _, c := range cases {
		t.Run(c.step, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			f := &hosts{}
			f.during = func(host, step string) {
				if host == "a0" && step == c.step {
					stop()
				}
			}
			r := f.runner()
			r.Rollouts["a"] = usual
			rep := r.Apply(ctx, &Plan{Hosts: many(4, "a", reload)})
			got := resultsOf(rep)
			if got["a0"] != c.want || got["a1"] != Held || got["a3"] != Held || len(rep.Stopped) != 1 {
				t.Errorf("%v, stopped %q", got, rep.Stopped)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			last := f.calls[len(f.calls)-1]
			if last != fmt.Sprintf("a0 end %t", c.want == Changed) {
				t.Errorf("the last call is %q of %q", last, f.calls)
			}
		})
	}
}

func TestWaitForJobs(t *testing.T) {
	f := &hosts{busy: map[string]int{"a0": 1}}
	r := f.runner()
	r.WaitJobs = 20 * time.Second
	r.Rollouts["a"] = usual
	var waits []string
	r.Progress = func(e Event) {
		if e.Step == "wait" {
			waits = append(waits, e.Host+" "+e.Detail)
		}
	}
	rep := r.Apply(t.Context(), &Plan{Hosts: many(1, "a", restart)})
	if !rep.Complete() || !slices.Equal(waits, []string{"a0 for the migration out of guest g"}) {
		t.Errorf("%v, waits %q", resultsOf(rep), waits)
	}
	f = &hosts{busy: map[string]int{"a0": 1 << 30}}
	r = f.runner()
	r.WaitJobs = 10 * time.Millisecond
	r.Rollouts["a"] = usual
	rep = r.Apply(t.Context(), &Plan{Hosts: many(1, "a", restart)})
	if rep.Hosts[0].Result != Held || rep.Hosts[0].Failure.Class != "job" || slices.Contains(f.calls, "a0 stage 1") {
		t.Errorf("%+v after %q", rep.Hosts[0], f.calls)
	}
}

func conditional(kind ConditionKind, peers ...string) Op {
	return WriteFile{Meta: Meta{Wave: WaveClose, When: &Condition{Kind: kind, Authority: "qemu", CA: "c2", Certificate: "qemu", Hosts: peers}}, Path: "/etc/libvirt/qemu.conf"}
}

func standing(h HostPlan, s Standing) HostPlan {
	s.Authority = "qemu"
	h.Standing = []Standing{s}
	return h
}

func TestConditions(t *testing.T) {
	ready, behind := Standing{Ready: true, Loaded: []string{"c1", "c2"}}, Standing{Why: "certificate.qemu is not in place yet", Loaded: []string{"c1"}}
	proved := pki.Trust{Proofs: []pki.Proof{{Host: "p", Certificate: "qemu", Loaded: []string{"c1", "c2"}}}}
	old := pki.Trust{Proofs: []pki.Proof{{Host: "p", Certificate: "qemu", Loaded: []string{"c1"}}}}
	cases := []struct {
		name  string
		kind  ConditionKind
		peer  *HostPlan // nil: not in the plan
		trust pki.Trust
		fleet *hosts
		held  bool
		calls int // transactions of host a
	}{
		{"met from the start", Ready, new(standing(change("p", "a"), ready)), pki.Trust{}, &hosts{}, false, 1},
		{"met by this run", Ready, new(standing(change("p", "a", reload()), behind)), pki.Trust{}, &hosts{}, false, 2},
		{"the peer fails", Ready, new(standing(change("p", "a", reload()), behind)), pki.Trust{}, &hosts{fail: map[string]string{"p": "prove"}}, true, 1},
		{"the peer is ready although its change fails", Ready, new(standing(change("p", "a", reload()), ready)), pki.Trust{}, &hosts{fail: map[string]string{"p": "prove"}}, false, 1},
		{"nobody knows of the peer", Ready, new(standing(change("p", "a", reload()), behind)), pki.Trust{}, &hosts{fail: map[string]string{"p": "switch"}, ends: map[string]Outcome{"p": Uncertain}}, true, 1},
		{"the peer is not selected", Ready, new(standing(HostPlan{Host: "p", Cluster: "a", Ops: Ops{reload()}, ReadOnly: "not selected"}, behind)), pki.Trust{}, &hosts{}, true, 1},
		{"not selected and ready", Ready, new(standing(HostPlan{Host: "p", Cluster: "a", ReadOnly: "not selected"}, ready)), pki.Trust{}, &hosts{}, false, 1},
		{"down and never proved", Ready, new(unread("p", "a")), pki.Trust{}, &hosts{}, true, 1},
		{"down and proved", Ready, new(unread("p", "a")), proved, &hosts{}, false, 1},
		{"not in the plan and proved", Ready, nil, proved, &hosts{}, false, 1},
		{"not in the plan", Ready, nil, pki.Trust{}, &hosts{}, true, 1},
		{"nothing of the authority", Ready, new(change("p", "a")), pki.Trust{}, &hosts{}, true, 1},
		{"the generation is loaded", Trusted, new(standing(change("p", "a"), Standing{Why: "a leaf is due", Loaded: []string{"c1", "c2"}})), pki.Trust{}, &hosts{}, false, 1},
		{"the generation is not loaded", Trusted, new(standing(change("p", "a"), Standing{Ready: true, Loaded: []string{"c1"}})), pki.Trust{}, &hosts{}, true, 1},
		{"the generation is loaded by this run", Trusted, new(standing(change("p", "a", reload()), behind)), pki.Trust{}, &hosts{}, false, 2},
		{"a fresh peer", Trusted, new(standing(change("p", "a", reload()), Standing{Fresh: true})), pki.Trust{}, &hosts{}, false, 1},
		{"down, the generation proved", Trusted, new(unread("p", "a")), proved, &hosts{}, false, 1},
		{"down, an older generation proved", Trusted, new(unread("p", "a")), old, &hosts{}, true, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := &Plan{Hosts: []HostPlan{standing(change("a", "a", reload(), conditional(c.kind, "p")), behind)}}
			if c.peer != nil {
				p.Hosts = append(p.Hosts, *c.peer)
			}
			p.Hosts[0].Ops = order(p.Hosts[0].Ops)
			r := c.fleet.runner()
			r.Trust = c.trust
			r.Rollouts["a"] = Rollout{Batch: "100%", Restarts: 1, MaxFailures: 9, MaxUnreachable: "100%"}
			rep := r.Apply(t.Context(), p)
			h := rep.Hosts[0]
			if h.Result != Changed || (len(h.HeldOps) == 1) != c.held {
				t.Errorf("%+v", h)
			}
			if c.held && (len(h.HeldOps[0].For) != 1 || h.HeldOps[0].For[0].Host != "p" || h.HeldOps[0].For[0].Why == "" || rep.Complete()) {
				t.Errorf("held: %+v", h.HeldOps)
			}
			n := 0
			for _, call := range c.fleet.calls {
				if call == "a end true" {
					n++
				}
			}
			if n != c.calls {
				t.Errorf("%d transactions: %q", n, c.fleet.calls)
			}
			done := 1
			if !c.held {
				done = 2
			}
			if h.Ops != done {
				t.Errorf("%d operations, want %d", h.Ops, done)
			}
		})
	}
}

// TestSecondTransaction has the second fail: the first stays.
func TestSecondTransaction(t *testing.T) {
	n := 0
	f := &hosts{fail: map[string]string{}}
	f.during = func(host, step string) {
		if host == "a" && step == "switch" {
			if n++; n == 2 {
				f.fail["a"] = "switch"
			}
		}
	}
	p := &Plan{Hosts: []HostPlan{
		change("a", "a", reload(), conditional(Ready, "p")),
		standing(change("p", "a", reload()), Standing{Why: "new"}),
	}}
	r := f.runner()
	r.Rollouts["a"] = usual
	rep := r.Apply(t.Context(), p)
	if h := rep.Hosts[0]; h.Result != WasReset || h.Ops != 1 || h.Failure == nil || rep.Complete() {
		t.Errorf("%+v", h)
	}
}

// TestOneTransaction puts an operation whose condition holds among the others:
// one activation, after everything.
func TestOneTransaction(t *testing.T) {
	late := Activate{Meta: Meta{Wave: WaveClose, When: &Condition{Kind: Ready, Authority: "qemu", Hosts: []string{"p"}}}, Unit: "libvirtd.service", How: Restart, Loads: []Load{{"force", "1"}}}
	h := change("a", "a", reload(), conditional(Ready, "p"), late)
	if ops := order(h.Ops); len(ops) != 3 {
		t.Fatalf("%+v", ops)
	}
	ops := h.part(func(Op) bool { return true }).Ops
	last, ok := ops[len(ops)-1].(Activate)
	if len(ops) != 2 || !ok || last.How != Restart || len(last.Loads) != 1 || last.When != nil {
		t.Errorf("%+v", ops)
	}
	if h.Ops[1].About().When == nil {
		t.Error("the plan itself lost its condition")
	}
}

// A host on which a script of another run is at work is held, as one whose lease
// another run has: nothing was tried, and nothing is wrong with it.
func TestBusyHostIsHeld(t *testing.T) {
	f := &hosts{fail: map[string]string{"a": "lock", "b": "stage 1"}}
	r := f.runner()
	r.Classify = func(err error) Failure { return Failure{Class: "lock", Text: err.Error()} }
	p := &Plan{Hosts: []HostPlan{change("a", "c1", reload()), change("b", "c1", reload())}}
	r.Rollouts["c1"] = Rollout{Batch: "100%", Restarts: 1, MaxUnreachable: "100%"}
	for _, h := range r.Apply(t.Context(), p).Hosts {
		if want := map[string]Result{"a": Held, "b": Failed}[h.Host]; h.Result != want {
			t.Errorf("%s: %s, want %s", h.Host, h.Result, want)
		}
	}
}
