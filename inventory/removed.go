package inventory

import "fmt"

// Removed says that a host has left the fleet for good.
type Removed struct {
	Host string `json:"host"`
	// Revoke has its certificates refused by the others.
	Revoke bool  `json:"revoke"`
	Source Range `json:"source"`
}

func (l *loader) decodeRemoved() {
	seen := map[string]Range{}
	for _, n := range l.top.all("removed") {
		r := &reader{l: l, n: n, scope: ownScope}
		host, at, ok := r.text("host", "")
		v := Removed{Host: host, Revoke: r.flag("revoke", false), Source: sourceRange(n.rng)}
		switch {
		case !ok:
		case !plainName.MatchString(host):
			r.problem(at, fmt.Sprintf("Unfit host %q", host), `Give the name that the host had in the inventory: host = "kvm7".`)
		case l.names["host "+host] != nil:
			r.problem(at, fmt.Sprintf("Host %q is still here", host), fmt.Sprintf(
				"%s declares it. Remove that block, or this one. For another machine under the same name: virtrust forget %s.", sourceRange(l.names["host "+host].rng), host))
		case seen[host].File != "":
			r.problem(at, fmt.Sprintf("Host %q removed twice", host), fmt.Sprintf("%s says so already. Remove one of the two.", seen[host]))
		default:
			seen[host] = v.Source
			l.fleet.Removed = append(l.fleet.Removed, v)
		}
	}
}
