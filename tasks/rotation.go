package tasks

import (
	"fmt"
	"slices"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// Step is what comes next in the change from one generation of an authority to
// another.
type Step string

// The steps in their order. Each but the first has a gate that is measured on
// hosts, see Rotation.
const (
	StepMake    Step = "make"    // a new generation is made; bundles gain it
	StepIssue   Step = "issue"   // the new generation signs; leaves are made anew
	StepRetire  Step = "retire"  // the old one leaves the bundles
	StepDestroy Step = "destroy" // the old one's key is removed
)

// Rotation is where an authority is in the change of its generations.
type Rotation struct {
	Authority string `json:"authority"`
	Step      Step   `json:"step"`
	// Generation is the one that the step is about.
	Generation int `json:"generation"`
	// To are the phases that generations have after the step.
	To map[int]pki.Phase `json:"to,omitempty"`
	// AtOnce tells that the step has no gate: the old generation has expired, or
	// its key is in wrong hands.
	AtOnce bool `json:"at_once,omitempty"`
	// Waits are the hosts and relying parties that keep the step back, and why.
	Waits []plan.Unmet `json:"waits,omitempty"`
}

// RotationWish says what is known beside what hosts show.
type RotationWish struct {
	// Confirmed are the relying parties that somebody vouches for.
	Confirmed []string
	// Compromised lets hosts behind that cannot be read: whoever has the old key
	// must lose its power first.
	Compromised bool
	// HasKey tells whether the key of a generation is here.
	HasKey func(number int) bool
}

// NextRotation finds the next step of an authority and what keeps it back, from
// a plan over all hosts of its trust domain. It is pure but for HasKey.
//
// The gate of StepIssue, unless it is taken at once: every host has the new generation loaded; by its last
// proof where it cannot be read. Those of StepRetire and StepDestroy: every host
// was read, wants nothing more of the authority, and has no leaf of, or no bundle
// with, the old generation; with Compromised, for StepRetire, every host that can
// be read has the issuing one loaded. Hosts that are away are out of every gate.
func NextRotation(a pki.Authority, fleet *inventory.Fleet, p *plan.Plan, trust pki.Trust, wish RotationWish, now time.Time) Rotation {
	r := Rotation{Authority: a.Name, To: map[int]pki.Phase{}}
	issuing, _ := a.Issuing()
	pending, draining, retired := newest(a, pki.PhaseTrusting, pki.PhasePrepared), oldest(a, pki.PhaseDraining), 0
	for _, g := range a.Generations {
		if g.Phase == pki.PhaseRetired && retired == 0 && wish.HasKey(g.Number) {
			retired = g.Number
		}
	}
	var ask func(h *inventory.Host, part *plan.HostPlan) string
	switch {
	case pending.Number > 0:
		r.Step, r.Generation = StepIssue, pending.Number
		r.To[pending.Number] = pki.PhaseIssuing
		if issuing.Number > 0 {
			r.To[issuing.Number] = pki.PhaseDraining
		}
		if expired := issuing.Number > 0 && now.After(issuing.NotAfter); expired || wish.Compromised {
			if expired {
				r.To[issuing.Number] = pki.PhaseRetired
			}
			r.AtOnce = true
			return r
		}
		ask = func(h *inventory.Host, part *plan.HostPlan) string { return hasLoaded(a.Name, pending, h, part, trust) }
	case draining.Number > 0:
		r.Step, r.Generation = StepRetire, draining.Number
		r.To[draining.Number] = pki.PhaseRetired
		ask = func(h *inventory.Host, part *plan.HostPlan) string {
			if wish.Compromised {
				// Leaves wait for hosts that cannot be reached as long as the old
				// generation is trusted. Once it is not, they wait no more.
				return hasLoaded(a.Name, issuing, h, part, trust)
			}
			return settled(a.Name, part)
		}
	case retired > 0:
		r.Step, r.Generation = StepDestroy, retired
		r.To[retired] = pki.PhaseDestroyed
		old, _ := generation(a, retired)
		ask = func(_ *inventory.Host, part *plan.HostPlan) string {
			if why := settled(a.Name, part); why != "" {
				return why
			}
			if s := part.StandingWith(a.Name); s != nil && slices.Contains(s.Held, old.SubjectKeyID) {
				return fmt.Sprintf("it still has generation %d in its bundle", retired)
			}
			return ""
		}
	default:
		r.Step, r.Generation, r.To = StepMake, len(a.Generations)+1, nil
		for _, g := range a.Generations {
			r.Generation = max(r.Generation, g.Number+1)
		}
		return r
	}
	parts := map[string]*plan.HostPlan{}
	for i := range p.Hosts {
		parts[p.Hosts[i].Host] = &p.Hosts[i]
	}
	for i := range fleet.Hosts {
		h := &fleet.Hosts[i]
		if !slices.Contains(Authorities(h), a.Name) || h.Away != nil && !now.After(h.Away.Until) {
			continue
		}
		part := parts[h.Name]
		if wish.Compromised && (part == nil || part.Failure != nil) {
			continue
		}
		if why := ask(h, part); why != "" {
			r.Waits = append(r.Waits, plan.Unmet{Host: h.Name, Why: why})
		}
	}
	if r.Step == StepIssue || r.Step == StepRetire {
		for _, rp := range fleet.RelyingParties {
			if slices.Contains(rp.Authorities, a.Name) && !slices.Contains(wish.Confirmed, rp.Name) {
				why := "nobody has confirmed it: --confirmed " + rp.Name
				if rp.Note != "" {
					why += " (" + rp.Note + ")"
				}
				r.Waits = append(r.Waits, plan.Unmet{Host: "relying party " + rp.Name, Why: why})
			}
		}
	}
	return r
}

func newest(a pki.Authority, phases ...pki.Phase) (best pki.Generation) {
	for _, g := range a.Generations {
		if slices.Contains(phases, g.Phase) && g.Number > best.Number {
			best = g
		}
	}
	return best
}

func oldest(a pki.Authority, phase pki.Phase) (best pki.Generation) {
	for _, g := range a.Generations {
		if g.Phase == phase && (best.Number == 0 || g.Number < best.Number) {
			best = g
		}
	}
	return best
}

func generation(a pki.Authority, number int) (pki.Generation, bool) {
	i := slices.IndexFunc(a.Generations, func(g pki.Generation) bool { return g.Number == number })
	if i < 0 {
		return pki.Generation{}, false
	}
	return a.Generations[i], true
}

// hasLoaded says why a host does not have a generation yet; empty when it has.
func hasLoaded(authority string, g pki.Generation, h *inventory.Host, part *plan.HostPlan, trust pki.Trust) string {
	if part == nil || part.Failure != nil {
		for _, c := range h.Policy.Certificates {
			if proof, ok := trust.Proof(h.Name, c.Name); ok && c.Authority == authority && slices.Contains(proof.Loaded, g.SubjectKeyID) {
				return ""
			}
		}
		return "it cannot be read, and no proof shows that it has the generation" + unread(part)
	}
	s := part.StandingWith(authority)
	switch {
	case s == nil:
		return "nothing of the authority was seen on it"
	case s.Fresh || slices.Contains(s.Loaded, g.SubjectKeyID):
		return ""
	case part.ReadOnly != "":
		return fmt.Sprintf("it has not loaded generation %d (%s)", g.Number, part.ReadOnly)
	}
	return fmt.Sprintf("it has not loaded generation %d", g.Number)
}

// settled says what a host still wants of an authority; empty when nothing.
func settled(authority string, part *plan.HostPlan) string {
	if part == nil || part.Failure != nil {
		return "it cannot be read" + unread(part)
	}
	for _, o := range part.Ops {
		if e, ok := o.(plan.Enrol); ok && e.Authority == authority {
			return fmt.Sprintf("its %s is to be made anew: %s", e.Certificate, e.Reason)
		}
	}
	s := part.StandingWith(authority)
	if s == nil {
		return "nothing of the authority was seen on it"
	}
	if !s.Ready {
		return s.Why
	}
	return ""
}

func unread(part *plan.HostPlan) string {
	if part == nil || part.Failure == nil {
		return ""
	}
	return ": " + part.Failure.Text
}

// Abort gives the phases that undo a change of generations, as far as that can
// be done: a generation that does not sign yet leaves the bundles, and one that
// signs gives way to the one before it. issued tells that certificates of the new
// one may be out there, so that it stays trusted until they are replaced.
func Abort(a pki.Authority) (to map[int]pki.Phase, issued bool) {
	to = map[int]pki.Phase{}
	issuing, _ := a.Issuing()
	for _, g := range a.Generations {
		if g.Phase == pki.PhasePrepared || g.Phase == pki.PhaseTrusting {
			to[g.Number] = pki.PhaseRetired
		}
	}
	if old := oldest(a, pki.PhaseDraining); len(to) == 0 && old.Number > 0 && old.Number < issuing.Number {
		to[old.Number], to[issuing.Number], issued = pki.PhaseIssuing, pki.PhaseDraining, true
	}
	return to, issued
}
