package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
)

// ConditionKind is what other hosts must have before an operation.
type ConditionKind string

// The kinds of conditions.
const (
	// Trusted: the hosts have a CA loaded. A leaf of a new generation is shown
	// only then.
	Trusted ConditionKind = "trusted"
	// Ready: the hosts have proved their credentials. What closes a door is
	// done only then.
	Ready ConditionKind = "ready"
)

// Condition keeps an operation back until other hosts are where it needs them.
// It holds by what this run saw or did or, for a host that cannot be read, by
// its last proof.
type Condition struct {
	Kind      ConditionKind `json:"kind"`
	Authority string        `json:"authority"`
	// CA is the subject key id (hex) of the generation that must be loaded;
	// of Trusted alone.
	CA string `json:"ca,omitempty"`
	// Certificate names the identity whose last proof counts for a host that
	// cannot be read.
	Certificate string `json:"certificate"`
	// Hosts are named in inventory order, without the operation's own host and
	// without those that are away.
	Hosts []string `json:"hosts"`
}

// String is what has to be true, for people.
func (c Condition) String() string { return c.Text(strings.Join(c.Hosts, ", "), len(c.Hosts) > 1) }

// Text is String with another name for the hosts; many says that they are
// more than one.
func (c Condition) Text(who string, many bool) string {
	verb, their := "has", "its"
	if many {
		verb, their = "have", "their"
	}
	if c.Kind == Trusted {
		return fmt.Sprintf("when %s %s loaded the new generation of authority %s", who, verb, c.Authority)
	}
	return fmt.Sprintf("when %s %s proved %s credentials", who, verb, their)
}

func (c Condition) same(d Condition) bool {
	return c.Kind == d.Kind && c.Authority == d.Authority && c.CA == d.CA && c.Certificate == d.Certificate && slices.Equal(c.Hosts, d.Hosts)
}

// Standing is how far a host is with one authority, as it was seen.
type Standing struct {
	Authority string `json:"authority"`
	// Ready: everything that the host's policy wants of this authority is in
	// place and taken up.
	Ready bool `json:"ready"`
	// Why says what is missing.
	Why string `json:"why,omitempty"`
	// Loaded are the subject key ids (hex) of the CAs that the host's programs
	// have read from every bundle of the authority: what only some of them
	// accept cannot be relied on.
	Loaded []string `json:"loaded,omitempty"`
	// Held are those of the CAs that are in some bundle at least.
	Held []string `json:"held,omitempty"`
	// Shows are the key ids (hex) of the CAs that signed the identities in place.
	Shows []string `json:"shows,omitempty"`
	// Fresh: the host trusts nobody yet and shows nothing to anyone.
	Fresh bool `json:"fresh,omitempty"`

	bundles int // of the authority that were asked
}

// reads takes in what one bundle of the authority says.
func (s *Standing) reads(ids []string, fresh bool) {
	s.bundles++
	if s.bundles == 1 {
		s.Fresh, s.Loaded = fresh, slices.Compact(slices.Sorted(slices.Values(ids)))
	} else {
		s.Fresh = s.Fresh && fresh
		s.Loaded = slices.DeleteFunc(s.Loaded, func(id string) bool { return !slices.Contains(ids, id) })
	}
	for _, id := range ids {
		if !slices.Contains(s.Held, id) {
			s.Held = append(s.Held, id)
		}
	}
}

// StandingWith is how far the host is with an authority; nil where its policy has
// nothing of it.
func (h *HostPlan) StandingWith(authority string) *Standing {
	i := slices.IndexFunc(h.Standing, func(s Standing) bool { return s.Authority == authority })
	if i < 0 {
		return nil
	}
	return &h.Standing[i]
}

// Unmet is a host for which a condition does not hold, and why.
type Unmet struct {
	Host string `json:"host"`
	Why  string `json:"why"`
}

// unmet lists the hosts for which the condition does not hold. Results are
// those of hosts that this run has come to an end with.
func (p *Plan) unmet(c Condition, trust pki.Trust, results map[string]Result) []Unmet {
	var out []Unmet
	at := make(map[string]*HostPlan, len(p.Hosts))
	for i := range p.Hosts {
		at[p.Hosts[i].Host] = &p.Hosts[i]
	}
	for _, name := range c.Hosts {
		if why := missing(c, name, at[name], trust, results[name]); why != "" {
			out = append(out, Unmet{name, why})
		}
	}
	return out
}

// missing says why a condition does not hold for one host, whose part of the
// plan is h or nil; empty when it does.
func missing(c Condition, name string, h *HostPlan, trust pki.Trust, result Result) string {
	if h == nil || h.Failure != nil {
		proof, ok := trust.Proof(name, c.Certificate)
		switch {
		case !ok && h == nil:
			return "it was not read and was never proved"
		case !ok:
			return "it cannot be read and was never proved"
		case c.Kind == Trusted && !slices.Contains(proof.Loaded, c.CA):
			return fmt.Sprintf("it cannot be read, and its last proof (%s) does not show that it has the generation", proof.At.UTC().Format("2006-01-02"))
		}
		return ""
	}
	if result == Unknown {
		return "what came of it in this run is not known"
	}
	st := h.StandingWith(c.Authority)
	if st == nil {
		return fmt.Sprintf("its policy has nothing of authority %s", c.Authority)
	}
	if result == Changed {
		return ""
	}
	switch {
	case c.Kind == Trusted && (st.Fresh || slices.Contains(st.Loaded, c.CA)):
		return ""
	case c.Kind == Ready && st.Ready:
		return ""
	}
	why := st.Why
	if why == "" {
		why = "it has not read the new generation"
	}
	switch {
	case h.ReadOnly != "":
		why += " (" + h.ReadOnly + ")"
	case result != "":
		why += fmt.Sprintf(" (%s in this run)", result)
	}
	return why
}

// Conditions lists the conditions among the host's operations, each once.
func (h *HostPlan) Conditions() []Condition {
	var out []Condition
	for _, o := range h.Ops {
		if c := o.About().When; c != nil && !slices.ContainsFunc(out, c.same) {
			out = append(out, *c)
		}
	}
	return out
}

// Waits reports whether all that is to do on the host has a condition.
func (h *HostPlan) Waits() bool {
	return len(h.Ops) > 0 && !slices.ContainsFunc(h.Ops, func(o Op) bool { return o.About().When == nil })
}

// part is the host's plan with the operations that keep accepts, as one
// transaction.
func (h *HostPlan) part(keep func(Op) bool) *HostPlan {
	out := *h
	out.Ops = nil
	for _, o := range h.Ops {
		if keep(o) {
			out.Ops = append(out.Ops, unconditional(o))
		}
	}
	out.Ops = order(out.Ops)
	return &out
}

// unconditional is the operation without its condition, so that it takes its
// place among the others of a transaction.
func unconditional(o Op) Op {
	switch o := o.(type) {
	case MakeDir:
		o.When = nil
		return o
	case WriteFile:
		o.When = nil
		return o
	case Link:
		o.When = nil
		return o
	case Remove:
		o.When = nil
		return o
	case Enrol:
		o.When = nil
		return o
	case SetUnit:
		o.When = nil
		return o
	case Activate:
		o.When = nil
		return o
	case AllowPort:
		o.When = nil
		return o
	case ClosePort:
		o.When = nil
		return o
	}
	return o
}

// stand collects how far the host is with each authority that a task is about.
func (h *HostPlan) stand(t Task, pending string, seen *facts.Host) {
	about, ok := t.(Concern)
	if !ok {
		return
	}
	for _, a := range about.Concerns() {
		i := slices.IndexFunc(h.Standing, func(s Standing) bool { return s.Authority == a })
		if i < 0 {
			i = len(h.Standing)
			h.Standing = append(h.Standing, Standing{Authority: a, Ready: true})
		}
		s := &h.Standing[i]
		if pending != "" && s.Ready {
			s.Ready, s.Why = false, fmt.Sprintf("%s is not in place yet: %s", t.ID(), pending)
		}
		if b, ok := t.(Bundle); ok {
			s.reads(b.Loaded(seen))
		}
		if i, ok := t.(Identity); ok {
			if id := i.Shows(seen); id != "" && !slices.Contains(s.Shows, id) {
				s.Shows = append(s.Shows, id)
			}
		}
	}
}
