package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
)

// Plan is everything that will change. It is public data: no field could hold
// a secret.
type Plan struct {
	Format        int        `json:"format"`
	Version       string     `json:"version"` // of the program that made it
	Created       time.Time  `json:"created"`
	Configuration string     `json:"configuration"` // digest of the inventory and policies
	Trust         string     `json:"trust"`         // digest of generations, phases, CRLs
	Hosts         []HostPlan `json:"hosts"`         // in inventory order
	Findings      []Finding  `json:"findings,omitempty"`
	// Revocations are carried out when the hosts' parts are; the lists that have
	// them are brought to the hosts afterwards.
	Revocations []Revocation `json:"revocations,omitempty"`
}

// HostPlan is one host's part.
type HostPlan struct {
	Host      string    `json:"host"`
	Cluster   string    `json:"cluster,omitempty"`
	MachineID string    `json:"machine_id,omitempty"`
	HostKey   string    `json:"host_key,omitempty"`
	Ops       Ops       `json:"ops,omitempty"`
	Findings  []Finding `json:"findings,omitempty"`
	// Failure says why the host could not be read.
	Failure *Failure `json:"failure,omitempty"`
	// Due is the earliest moment at which a certificate of this host wants
	// renewal; zero when none has one.
	Due time.Time `json:"due,omitzero"`
	// Standing is how far the host is with the authorities of its policy.
	Standing []Standing `json:"standing,omitempty"`
	// ReadOnly marks a host that is reported and never changed
	// (managed = false) or that was not selected.
	ReadOnly string `json:"read_only,omitempty"`
}

// Failure is why a host could not be read or changed.
type Failure struct {
	Class string `json:"class"` // dns, refused, timeout, authentication …
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

// Held reports whether findings keep this host's operations back.
func (h *HostPlan) Held() bool {
	return slices.ContainsFunc(h.Findings, func(f Finding) bool { return f.Holds })
}

// Changes reports whether apply would do something on this host.
func (h *HostPlan) Changes() bool {
	return len(h.Ops) > 0 && h.Failure == nil && h.ReadOnly == "" && !h.Held()
}

// Disrupts is the strongest disruption among the host's operations.
func (h *HostPlan) Disrupts() Disruption {
	d := DisruptNone
	for _, o := range h.Ops {
		if o.Disrupts().Exceeds(d) {
			d = o.Disrupts()
		}
	}
	return d
}

// Count says how many hosts change, are held, could not be read, need nothing.
func (p *Plan) Count() (change, held, unread, nothing int) {
	for i := range p.Hosts {
		h := &p.Hosts[i]
		switch {
		case h.Failure != nil:
			unread++
		case h.Held():
			held++
		case h.Changes():
			change++
		default:
			nothing++
		}
	}
	return
}

// Queries is everything that the tasks need to know about their host.
func Queries(tasks []Task) []facts.Query {
	var qs []facts.Query
	for _, t := range tasks {
		qs = append(qs, t.Needs()...)
	}
	return facts.Merge(qs)
}

// MakeHost compares one host with its tasks. It is pure.
func MakeHost(host, cluster string, tasks []Task, seen *facts.Host, now time.Time) HostPlan {
	hp := HostPlan{Host: host, Cluster: cluster, MachineID: seen.MachineID, HostKey: seen.HostKey}
	for _, t := range tasks {
		ops, findings := t.Diff(seen, now)
		hp.Ops = append(hp.Ops, ops...)
		hp.stand(t, pending(ops, findings), seen)
		for _, f := range findings {
			f.Host = host
			hp.Findings = append(hp.Findings, f)
		}
		if d, ok := t.(interface {
			Due(*facts.Host) (time.Time, bool)
		}); ok {
			if at, ok := d.Due(seen); ok && (hp.Due.IsZero() || at.Before(hp.Due)) {
				hp.Due = at
			}
		}
	}
	hp.Ops = order(hp.Ops)
	return hp
}

// pending says what a task still wants done before anything else; empty when
// it is content.
func pending(ops []Op, findings []Finding) string {
	for _, f := range findings {
		if f.Holds {
			return f.Text
		}
	}
	for _, o := range ops {
		if o.About().When == nil {
			return o.About().Reason
		}
	}
	return ""
}

// order puts what has no condition before what has one, and orders both.
func order(ops Ops) Ops {
	var now, later Ops
	for _, o := range ops {
		if o.About().When == nil {
			now = append(now, o)
		} else {
			later = append(later, o)
		}
	}
	return append(inWaves(now), inWaves(later)...)
}

// inWaves puts operations into waves, keeps the tasks' order inside a wave,
// makes a directory once and activates a daemon once, last, in the strongest
// way asked for.
func inWaves(ops Ops) Ops {
	dirs := map[string]int{}
	var out Ops
	activations := map[string]int{}
	for _, o := range ops {
		switch o := o.(type) {
		case MakeDir:
			if i, ok := dirs[o.Path]; ok {
				if first := out[i].(MakeDir); o.Wave < first.Wave {
					first.Wave = o.Wave
					out[i] = first
				}
				continue
			}
			dirs[o.Path] = len(out)
		case Activate:
			if i, ok := activations[o.Unit]; ok {
				out[i] = merge(out[i].(Activate), o)
				continue
			}
			activations[o.Unit] = len(out)
		}
		out = append(out, o)
	}
	rank := func(o Op) int {
		switch o.(type) {
		case MakeDir:
			return 0
		case Activate:
			return 9
		default:
			return 1
		}
	}
	slices.SortStableFunc(out, func(a, b Op) int {
		// Activation ends the transaction whatever wave asked for it.
		if c := cmp.Compare(rank(a)/9, rank(b)/9); c != 0 {
			return c
		}
		if c := cmp.Compare(a.About().Wave, b.About().Wave); c != 0 {
			return c
		}
		if c := cmp.Compare(rank(a), rank(b)); c != 0 {
			return c
		}
		if rank(a) == 0 {
			return cmp.Compare(a.Subject(), b.Subject())
		}
		return 0
	})
	return out
}

func merge(a, b Activate) Activate {
	if b.How == Restart && a.How != Restart {
		a.How, a.Reason, a.Task = b.How, b.Reason, b.Task
	}
	a.Wave = max(a.Wave, b.Wave)
	a.Closes = a.Closes || b.Closes
	for _, l := range b.Loads {
		// Of one item the later state counts: a file may be written twice.
		if i := slices.IndexFunc(a.Loads, func(x Load) bool { return x.Item == l.Item }); i >= 0 {
			a.Loads = slices.Clone(a.Loads)
			a.Loads[i] = l
			continue
		}
		a.Loads = append(a.Loads, l)
	}
	slices.SortFunc(a.Loads, func(x, y Load) int { return cmp.Compare(x.Item, y.Item) })
	return a
}

// Make puts the hosts' parts together and lets the rules judge them.
func Make(version, configuration string, trust pki.Trust, hosts []HostPlan, rules []Rule, now time.Time) *Plan {
	p := &Plan{Format: Format, Version: version, Created: now.UTC().Truncate(time.Second), Configuration: configuration, Trust: trust.Digest(), Hosts: hosts}
	for _, r := range rules {
		for _, f := range r.Judge(p.Hosts, trust, now) {
			if i := slices.IndexFunc(p.Hosts, func(h HostPlan) bool { return f.Host != "" && h.Host == f.Host }); i >= 0 {
				p.Hosts[i].Findings = append(p.Hosts[i].Findings, f)
			} else {
				p.Findings = append(p.Findings, f)
			}
		}
	}
	return p
}

// Moved compares what the plan saw with a newer look and says what differs,
// one line each; empty means that the host is as it was.
func Moved(hp *HostPlan, seen *facts.Host) []string {
	var out []string
	if hp.MachineID != seen.MachineID {
		out = append(out, "another machine answers: the machine id changed")
	}
	if hp.HostKey != seen.HostKey {
		out = append(out, "the host's SSH key changed")
	}
	written := map[string]bool{}
	for _, o := range hp.Ops {
		if p, _, ok := PortOf(o); ok && p.Managers != seen.Firewall["managers"] {
			out = append(out, fmt.Sprintf("another firewall is active: %q, was %q", seen.Firewall["managers"], p.Managers))
		}
		for _, e := range o.Expects() {
			// What an earlier operation leaves there is what a later one expects.
			if written[e.Path] {
				continue
			}
			now := StateOf(seen.Path(e.Path))
			if e.State.Digest == "" {
				now.Digest = ""
			}
			if now != e.State {
				out = append(out, e.Path+" "+difference(e.State, now))
			}
		}
		if w, ok := o.(WriteFile); ok {
			written[w.Path] = true
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func difference(was, is State) string {
	switch {
	case was.Type != is.Type && is.Type == facts.Absent:
		return "is gone"
	case was.Type != is.Type && was.Type == facts.Absent:
		return "exists now"
	case was.Type != is.Type:
		return "is now a " + string(is.Type)
	case was.Target != is.Target:
		return "points elsewhere"
	case was.Digest != is.Digest:
		return "has other content"
	default:
		return "has another owner or mode"
	}
}
