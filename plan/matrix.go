package plan

import (
	"fmt"
	"slices"
)

// A Talk is whether a client on one host can log in to another now, as far as
// the certificates in place and the bundles loaded say.
type Talk struct {
	From string `json:"from"`
	To   string `json:"to"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"`
}

// Matrix is who can talk to whom with an authority's certificates, for every
// ordered pair of the hosts that were read.
func Matrix(authority string, p *Plan) []Talk {
	var out []Talk
	for i := range p.Hosts {
		for j := range p.Hosts {
			if i != j {
				from, to := &p.Hosts[i], &p.Hosts[j]
				why := mute(authority, from, to)
				out = append(out, Talk{From: from.Host, To: to.Host, OK: why == "", Why: why})
			}
		}
	}
	return out
}

func mute(authority string, from, to *HostPlan) string {
	for _, h := range []*HostPlan{from, to} {
		if h.Failure != nil {
			return h.Host + " cannot be read"
		}
		if s := h.StandingWith(authority); s == nil || len(s.Shows) == 0 {
			return h.Host + " has no certificate"
		}
	}
	a, b := from.StandingWith(authority), to.StandingWith(authority)
	for _, id := range a.Shows {
		if !slices.Contains(b.Loaded, id) {
			return fmt.Sprintf("%s has not loaded the CA (key id %.8s…) that signed for %s", to.Host, id, from.Host)
		}
	}
	for _, id := range b.Shows {
		if !slices.Contains(a.Loaded, id) {
			return fmt.Sprintf("%s has not loaded the CA (key id %.8s…) that signed for %s", from.Host, id, to.Host)
		}
	}
	return ""
}
