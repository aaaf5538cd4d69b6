package plan

import "time"

// Result is what came of one host.
type Result string

// The results of a host. A host that could not be reached is held, never
// failed and never unchanged.
const (
	Changed   Result = "changed"
	Unchanged Result = "unchanged"
	Held      Result = "held"
	WasReset  Result = "reverted"
	Failed    Result = "failed" // nothing was changed
	Unknown   Result = "unknown"
	Waiting   Result = "waiting" // for a signature
)

// HostReport is what was done on one host.
type HostReport struct {
	Host    string        `json:"host"`
	Cluster string        `json:"cluster,omitempty"`
	Result  Result        `json:"result"`
	Ops     int           `json:"ops"` // carried out
	Failure *Failure      `json:"failure,omitempty"`
	Step    string        `json:"step,omitempty"` // where it failed: lock, look, stage, switch, prove, end
	Proof   *Proof        `json:"proof,omitempty"`
	Took    time.Duration `json:"took"` // nanoseconds
	// HeldOps are operations whose condition did not hold.
	HeldOps []HeldOp `json:"held_ops,omitempty"`
}

// HeldOp is an operation that waits for other hosts.
type HeldOp struct {
	Kind    string    `json:"kind"`
	Subject string    `json:"subject"`
	When    Condition `json:"when"`
	For     []Unmet   `json:"for"` // the hosts that it waits for
}

// Report is what an apply did.
type Report struct {
	Run     string       `json:"run"`
	Started time.Time    `json:"started"`
	Ended   time.Time    `json:"ended"`
	Hosts   []HostReport `json:"hosts"`
	Stopped []string     `json:"stopped,omitempty"` // clusters whose rollout stopped, with the reason
	Revoked []Revocation `json:"revoked,omitempty"` // when the hosts were changed
}

// Then adds what a second plan for the same hosts came to.
func (r *Report) Then(second *Report) {
	r.Ended = second.Ended
	r.Stopped = append(r.Stopped, second.Stopped...)
	for _, h := range second.Hosts {
		for i := range r.Hosts {
			if r.Hosts[i].Host != h.Host || h.Result == Unchanged && h.Failure == nil {
				continue
			}
			if r.Hosts[i].Result == Changed || r.Hosts[i].Result == Unchanged {
				r.Hosts[i] = then(r.Hosts[i], h)
			}
		}
	}
}

// Count is how many hosts had the result.
func (r *Report) Count(want Result) int {
	n := 0
	for _, h := range r.Hosts {
		if h.Result == want {
			n++
		}
	}
	return n
}

// Complete reports whether every host is changed or needed nothing, and no
// operation waits.
func (r *Report) Complete() bool {
	for _, h := range r.Hosts {
		if len(h.HeldOps) > 0 {
			return false
		}
	}
	return r.Count(Changed)+r.Count(Unchanged) == len(r.Hosts)
}

// Event is one step of an apply, for progress.
type Event struct {
	Host   string
	Step   string // lock, look, stage, sign, switch, prove, end
	Detail string
	Result Result // set with the last event of a host
}
