package plan

import (
	"fmt"
	"strconv"
	"strings"
)

// Rollout bounds how the hosts of one cluster are changed.
type Rollout struct {
	Canary         int    // hosts changed alone first; 0 for none
	Batch          string // "25%" of the hosts that change, rounded down, at least 1; or a count
	Restarts       int    // daemons restarted at once, at least 1
	MaxFailures    int    // hosts that may fail before the cluster stops
	MaxUnreachable string // "10%" of the cluster's hosts, rounded up, at least 1; or a count
}

// share reads "25%" of n or a count.
func share(s string, n int, up bool) (int, error) {
	if p, ok := strings.CutSuffix(s, "%"); ok {
		v, err := strconv.Atoi(p)
		if err != nil || v < 0 || v > 100 {
			return 0, fmt.Errorf("%q is not a percentage from 0%% to 100%%", s)
		}
		if up {
			return max(1, (n*v+99)/100), nil
		}
		return max(1, n*v/100), nil
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%q is neither a count nor a percentage", s)
	}
	return v, nil
}

// batches cuts the hosts that change into the canary and the batches.
func (r Rollout) batches(hosts []*HostPlan) ([][]*HostPlan, error) {
	size, err := share(r.Batch, len(hosts), false)
	if err != nil {
		return nil, err
	}
	size = max(1, size)
	var out [][]*HostPlan
	if r.Canary > 0 && len(hosts) > 1 {
		n := min(r.Canary, len(hosts))
		out, hosts = append(out, hosts[:n]), hosts[n:]
	}
	for len(hosts) > 0 {
		n := min(size, len(hosts))
		out, hosts = append(out, hosts[:n]), hosts[n:]
	}
	return out, nil
}
