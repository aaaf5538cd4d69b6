package tasks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// A town is a fleet in memory that plans are really applied to, by the runner
// that applies them to hosts.
type town struct {
	*world
	fleet inventory.Fleet
	seen  map[string]*facts.Host
	rng   *rand.Rand
	// trouble is how often, of a hundred, a step of a host fails.
	trouble int
	down    map[string]bool // cannot be reached, and goes on running
	cut     map[string]bool // may be left behind
	talked  map[[2]string]bool
	steps   int
}

func newTown(t *testing.T, seed uint64, hosts int) *town {
	t.Helper()
	w := newWorld(t)
	s := &town{world: w, seen: map[string]*facts.Host{}, rng: rand.New(rand.NewPCG(seed, 7)), down: map[string]bool{}}
	for i := range hosts {
		name := fmt.Sprintf("kvm%d", i+1)
		h := w.host(name)
		h.Cluster = fmt.Sprintf("rack%d", i%2+1)
		s.fleet.Hosts = append(s.fleet.Hosts, *h)
		s.seen[name] = w.seen()
	}
	for range 3 {
		s.apply(nil)
	}
	if !s.settled() {
		t.Fatal("the fleet does not begin settled")
	}
	s.talked = s.pairs()
	if len(s.talked) != hosts*(hosts-1) {
		t.Fatalf("%d of %d pairs can talk from the start", len(s.talked), hosts*(hosts-1))
	}
	return s
}

// look is a plan over all hosts. all looks also at hosts that are down.
func (s *town) look(all bool, only map[string]bool) *plan.Plan {
	var parts []plan.HostPlan
	for i := range s.fleet.Hosts {
		h := &s.fleet.Hosts[i]
		if s.down[h.Name] && !all {
			parts = append(parts, plan.HostPlan{Host: h.Name, Cluster: h.Cluster, Failure: &plan.Failure{Class: "unreachable", Text: "down"}})
			continue
		}
		part := s.plan(h, s.seen[h.Name], Options{Hosts: s.fleet.Hosts})
		part.Cluster = h.Cluster
		if only != nil && !only[h.Name] {
			part.ReadOnly = "not selected"
		}
		parts = append(parts, part)
	}
	return plan.Make("test", "c", s.trust, parts, nil, s.now)
}

func (s *town) pairs() map[[2]string]bool {
	out := map[[2]string]bool{}
	for _, t := range plan.Matrix("libvirt", s.look(true, nil)) {
		if t.OK {
			out[[2]string{t.From, t.To}] = true
		}
	}
	return out
}

// check fails if a pair that could talk cannot talk any more.
func (s *town) check(after string) {
	s.t.Helper()
	s.steps++
	if s.talked == nil {
		return
	}
	now := s.pairs()
	for p := range s.talked {
		if !now[p] && !s.cut[p[0]] && !s.cut[p[1]] {
			for _, t := range plan.Matrix("libvirt", s.look(true, nil)) {
				if t.From == p[0] && t.To == p[1] {
					s.t.Fatalf("after %s, %s cannot talk to %s any more: %s\nphases %s", after, p[0], p[1], t.Why, s.phases())
				}
			}
		}
	}
	s.talked = now
}

func (s *town) phases() string {
	text := ""
	for _, g := range s.trust.Authorities[0].Generations {
		text += fmt.Sprintf("g%d %s; ", g.Number, g.Phase)
	}
	return text
}

func (s *town) apply(only map[string]bool) *plan.Report {
	p := s.look(false, only)
	r := plan.Runner{
		Run: "r", Parallel: 1, Now: func() time.Time { return s.now }, Trust: s.trust, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Rollouts: map[string]plan.Rollout{
			"rack1": {Canary: s.rng.IntN(2), Batch: "50%", Restarts: 1, MaxFailures: s.rng.IntN(3), MaxUnreachable: "100%"},
			"rack2": {Batch: "100%", Restarts: 1, MaxFailures: s.rng.IntN(3), MaxUnreachable: "100%"},
		},
		Open:     func(_ context.Context, host string) (plan.Session, error) { return &inMemory{town: s, host: host}, nil },
		Queries:  func(string) []facts.Query { return nil },
		Classify: func(err error) plan.Failure { return plan.Failure{Class: "error", Text: err.Error()} },
		Done: func(hr plan.HostReport) {
			if hr.Result == plan.Changed {
				s.trust.Proofs = append(s.trust.Proofs, pki.Proof{Host: hr.Host, Certificate: "libvirt-server", At: s.now, Loaded: s.trust.Authorities[0].KeyIDs()})
			}
		},
	}
	return r.Apply(s.t.Context(), p)
}

// settled tells whether a plan over all hosts has nothing to do.
func (s *town) settled() bool {
	p := s.look(true, nil)
	for i := range p.Hosts {
		if len(p.Hosts[i].Ops) > 0 {
			return false
		}
	}
	return true
}

// rotate takes the next step if its gate holds.
func (s *town) rotate() (Rotation, bool) {
	a := &s.trust.Authorities[0]
	destroyed := func(n int) bool {
		g, _ := generation(*a, n)
		return g.Phase != pki.PhaseDestroyed
	}
	r := NextRotation(*a, &s.fleet, s.look(false, nil), s.trust, RotationWish{HasKey: destroyed}, s.now)
	if len(r.Waits) > 0 {
		return r, false
	}
	if r.Step == StepMake {
		before := map[int]pki.Phase{}
		for _, g := range a.Generations {
			before[g.Number] = g.Phase
		}
		s.addGeneration(r.Generation)
		r.To = map[int]pki.Phase{r.Generation: pki.PhasePrepared}
		maps.Copy(r.To, before)
		if old, ok := oldIssuing(before); ok && s.rng.IntN(4) == 0 {
			// As with --compromised: leaves wait for their peers one by one.
			r.To[r.Generation], r.To[old] = pki.PhaseIssuing, pki.PhaseDraining
		}
	}
	s.move(r.To)
	return r, true
}

func oldIssuing(phases map[int]pki.Phase) (int, bool) {
	for n, p := range phases {
		if p == pki.PhaseIssuing {
			return n, true
		}
	}
	return 0, false
}

func (s *town) move(to map[int]pki.Phase) {
	a := &s.trust.Authorities[0]
	for i := range a.Generations {
		if p, ok := to[a.Generations[i].Number]; ok {
			a.Generations[i].Phase = p
		}
	}
}

// inMemory is a host's transaction on its facts.
type inMemory struct {
	town   *town
	host   string
	ops    plan.Ops
	before *facts.Host
}

var errTrouble = errors.New("trouble")

func (m *inMemory) fails() error {
	if m.town.rng.IntN(100) < m.town.trouble {
		return errTrouble
	}
	return nil
}

func (m *inMemory) Lock(context.Context, []facts.Query) (*facts.Host, error) {
	return clone(m.town.seen[m.host]), m.fails()
}

func (m *inMemory) Stage(_ context.Context, ops plan.Ops, _ plan.SignFunc) error {
	m.ops = ops
	return m.fails()
}

func (m *inMemory) Switch(context.Context) error {
	m.before = clone(m.town.seen[m.host])
	if m.town.rng.IntN(100) < m.town.trouble {
		return errTrouble // before anything was switched
	}
	m.town.world.apply(m.town.seen[m.host], m.ops)
	return m.fails()
}

func (m *inMemory) Prove(context.Context, []plan.Peer) (plan.Proof, error) {
	return plan.Proof{}, m.fails()
}

func (m *inMemory) End(_ context.Context, commit bool) (plan.Outcome, error) {
	defer m.town.check("a transaction of " + m.host)
	switch {
	case m.before == nil:
		return plan.Untouched, nil
	case !commit:
		m.town.seen[m.host] = m.before
		return plan.Reverted, nil
	case m.fails() != nil:
		// Carried out, and the reply was lost.
		return plan.Uncertain, errTrouble
	}
	return plan.Committed, nil
}

func clone(h *facts.Host) *facts.Host {
	out := *h
	out.Paths, out.Keys, out.Dirs = maps.Clone(h.Paths), maps.Clone(h.Keys), maps.Clone(h.Dirs)
	out.Units, out.Served, out.Processes = maps.Clone(h.Units), maps.Clone(h.Served), maps.Clone(h.Processes)
	out.Listening = slices.Clone(h.Listening)
	for k, v := range out.Dirs {
		out.Dirs[k] = slices.Clone(v)
	}
	return &out
}

// Whatever fails, whoever is down, in whatever order steps and applies come: two
// hosts that could talk can talk, at every moment of a change of generations.
func TestRotationKeepsEverybodyTalking(t *testing.T) {
	seeds := uint64(24)
	if testing.Short() {
		seeds = 8
	}
	reached := map[Step]int{}
	transactions := 0
	for seed := range seeds {
		s := newTown(t, seed, 2+int(seed%4))
		s.trouble = 12
		aborted := 0
		for range 25 {
			s.now = s.now.Add(time.Hour)
			for _, h := range s.seen {
				h.Clock = s.now
			}
			switch n := s.rng.IntN(10); {
			case n < 5:
				var only map[string]bool
				if s.rng.IntN(3) == 0 {
					only = map[string]bool{s.fleet.Hosts[s.rng.IntN(len(s.fleet.Hosts))].Name: true}
				}
				s.apply(only)
			case n < 8:
				if r, done := s.rotate(); done {
					reached[r.Step]++
					s.check("step " + string(r.Step))
				}
			case n == 8:
				name := s.fleet.Hosts[s.rng.IntN(len(s.fleet.Hosts))].Name
				s.down[name] = !s.down[name]
			case aborted < 2:
				aborted++
				s.move(backTo(s.trust.Authorities[0]))
				s.check("abort")
			}
		}
		// When the trouble is over, the change comes to its end.
		s.trouble, s.down = 0, map[string]bool{}
		for range 30 {
			for range 3 {
				s.apply(nil)
			}
			r, done := s.rotate()
			if !done {
				t.Fatalf("seed %d: step %s waits in a settled fleet: %+v\n%s", seed, r.Step, r.Waits, s.phases())
			}
			s.check("step " + string(r.Step))
			reached[r.Step]++
			if r.Step == StepDestroy && s.over() {
				break
			}
		}
		if !s.over() || !s.settled() {
			t.Fatalf("seed %d: the change does not end: %s", seed, s.phases())
		}
		issuing, _ := s.trust.Authorities[0].Issuing()
		for _, h := range s.look(true, nil).Hosts {
			for _, st := range h.Standing {
				if st.Authority == "libvirt" && (!slices.Equal(st.Loaded, []string{issuing.SubjectKeyID}) || !slices.Equal(st.Shows, []string{issuing.SubjectKeyID})) {
					t.Errorf("seed %d: %s has loaded %q and shows %q in the end", seed, h.Host, st.Loaded, st.Shows)
				}
			}
		}
		transactions += s.steps
	}
	t.Logf("%d fleets, %d moments looked at, steps %v", seeds, transactions, reached)
	for _, step := range []Step{StepMake, StepIssue, StepRetire, StepDestroy} {
		if reached[step] == 0 {
			t.Errorf("step %s was never taken: this shows nothing", step)
		}
	}
}

// over tells whether one generation signs and all others are destroyed.
func (s *town) over() bool {
	for _, g := range s.trust.Authorities[0].Generations {
		if g.Phase != pki.PhaseIssuing && g.Phase != pki.PhaseDestroyed {
			return false
		}
	}
	return true
}

// backTo is what an abort does to the phases.
func backTo(a pki.Authority) map[int]pki.Phase {
	to, _ := Abort(a)
	return to
}

// A gate that is not asked is found by the same observer.
func TestRotationWithoutGates(t *testing.T) {
	for _, step := range []Step{StepIssue, StepRetire} {
		t.Run(string(step), func(t *testing.T) {
			s := newTown(t, 1, 3)
			s.rotate()
			if step == StepRetire {
				s.apply(nil)
				s.rotate()
			}
			a := &s.trust.Authorities[0]
			old, fresh := a.Generations[0].Number, a.Generations[1].Number
			// Skipped: the new one issues and the old one is out, with no look.
			s.move(map[int]pki.Phase{fresh: pki.PhaseIssuing, old: pki.PhaseRetired})
			before := s.pairs()
			for i := range s.fleet.Hosts[:1] {
				h := &s.fleet.Hosts[i]
				part := s.plan(h, s.seen[h.Name], Options{Hosts: s.fleet.Hosts})
				s.world.apply(s.seen[h.Name], part.Ops)
			}
			lost := false
			now := s.pairs()
			for p := range before {
				lost = lost || !now[p]
			}
			if !lost {
				t.Error("nobody lost anybody: the observer sees nothing")
			}
		})
	}
}

// A prepared generation takes over without a look at hosts only where the old
// one has ended, or its key is in wrong hands.
func TestRotationAtOnce(t *testing.T) {
	w := newWorld(t)
	h := w.host("kvm1")
	fleet := &inventory.Fleet{Hosts: []inventory.Host{*h}}
	gen := func(n int, phase pki.Phase, ends time.Duration) pki.Generation {
		return pki.Generation{Number: n, Phase: phase, NotAfter: w.now.Add(ends)}
	}
	for name, c := range map[string]struct {
		ends        time.Duration
		compromised bool
		atOnce      bool
		old         pki.Phase
	}{
		"in time":     {time.Hour, false, false, pki.PhaseDraining},
		"expired":     {-time.Hour, false, true, pki.PhaseRetired},
		"compromised": {time.Hour, true, true, pki.PhaseDraining},
	} {
		a := pki.Authority{Name: "libvirt", Generations: []pki.Generation{gen(1, pki.PhaseIssuing, c.ends), gen(2, pki.PhasePrepared, 9*time.Hour)}}
		r := NextRotation(a, fleet, &plan.Plan{}, w.trust, RotationWish{Compromised: c.compromised, HasKey: func(int) bool { return true }}, w.now)
		if r.Step != StepIssue || r.AtOnce != c.atOnce || (len(r.Waits) == 0) != c.atOnce || r.To[1] != c.old || r.To[2] != pki.PhaseIssuing {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// The key leaked and one host is down: the others are done with the old
// generation without it, and can talk to each other at every moment.
func TestRotationCompromised(t *testing.T) {
	s := newTown(t, 1, 3)
	s.down["kvm3"] = true
	s.addGeneration(2)
	a := &s.trust.Authorities[0]
	s.cut = s.down
	s.apply(nil)
	wish := RotationWish{HasKey: func(int) bool { return true }}
	if r := NextRotation(*a, &s.fleet, s.look(false, nil), s.trust, wish, s.now); r.Step != StepRetire || len(r.Waits) != 3 {
		t.Fatalf("without --compromised: %+v", r)
	}
	wish.Compromised = true
	r := NextRotation(*a, &s.fleet, s.look(false, nil), s.trust, wish, s.now)
	if r.Step != StepRetire || len(r.Waits) != 0 {
		t.Fatalf("with --compromised: %+v", r)
	}
	s.move(r.To)
	s.apply(nil)
	issuing, _ := a.Issuing()
	for _, h := range s.look(false, nil).Hosts[:2] {
		if st := h.StandingWith("libvirt"); !slices.Equal(st.Loaded, []string{issuing.SubjectKeyID}) || !slices.Equal(st.Shows, []string{issuing.SubjectKeyID}) {
			t.Errorf("%s has loaded %q and shows %q", h.Host, st.Loaded, st.Shows)
		}
	}
	if !s.talked[[2]string{"kvm1", "kvm2"}] || !s.talked[[2]string{"kvm2", "kvm1"}] {
		t.Errorf("the others: %v", s.talked)
	}
}

// A second bundle that lacks the new generation holds the gate, and one that still
// has the old generation holds its end.
func TestGatesLookAtEveryBundle(t *testing.T) {
	w := newWorld(t)
	h := w.host("kvm1")
	const second = "/etc/monitor/ca.pem"
	h.Policy.Trusts = append(h.Policy.Trusts, inventory.TrustFile{Path: second, Authorities: []string{"libvirt"}, Foreign: "keep"})
	fleet := &inventory.Fleet{Hosts: []inventory.Host{*h}}
	seen := w.seen()
	for range 3 {
		w.apply(seen, w.plan(h, seen, Options{}).Ops)
	}
	old, _ := seen.Content(second)
	if len(pki.ParseBundle(old).Certs) != 1 {
		t.Fatalf("the second bundle: %s", old)
	}
	waits := func() string {
		part := w.plan(h, seen, Options{})
		a, _ := w.trust.Authority("libvirt")
		r := NextRotation(a, fleet, &plan.Plan{Hosts: []plan.HostPlan{part}}, w.trust, RotationWish{HasKey: func(int) bool { return true }}, w.now)
		if len(r.Waits) == 0 {
			return ""
		}
		return r.Waits[0].Why
	}
	w.addGeneration(2)
	gens := w.trust.Authorities[0].Generations
	gens[0].Phase, gens[1].Phase = pki.PhaseIssuing, pki.PhasePrepared
	for range 3 {
		w.apply(seen, w.plan(h, seen, Options{}).Ops)
	}
	if why := waits(); why != "" {
		t.Errorf("everything has the new generation: %s", why)
	}
	both, _ := seen.Content(second)
	w.file(seen, second, old, 0o644)
	if why := waits(); !strings.Contains(why, "has not loaded generation 2") {
		t.Errorf("the second bundle lacks it: %q", why)
	}
	w.file(seen, second, both, 0o644)
	if why := waits(); why != "" {
		t.Errorf("put back: %s", why)
	}
	s := w.plan(h, seen, Options{})
	w.file(seen, second, old, 0o644)
	if one := w.plan(h, seen, Options{}); len(one.StandingWith("libvirt").Held) != 2 || len(one.StandingWith("libvirt").Loaded) != 1 || len(s.StandingWith("libvirt").Loaded) != 2 {
		t.Errorf("%+v, before %+v", one.StandingWith("libvirt"), s.StandingWith("libvirt"))
	}
}
