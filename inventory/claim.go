package inventory

import "fmt"

// claim is a name or address that belongs to one host.
type claim struct {
	host  string
	where string
}

// claim gives a name or address to a host and refuses it to a second one.
func (l *loader) claim(r *reader, i item, what, host string) {
	first, taken := l.claims[what]
	if !taken {
		where := sourceRange(i.rng).String()
		if len(i.cells) == 1 {
			where = fmt.Sprintf("%s:%d", i.cells[0].file, i.cells[0].line)
		}
		l.claims[what] = claim{host, where}
		return
	}
	if first.host == host {
		return
	}
	r.problem(i, fmt.Sprintf("%s belongs to two hosts", what), fmt.Sprintf(
		"Host %q has it at %s already, so host %q cannot. Mend one of the two.", first.host, first.where, host))
}

// sharedName is a further name of a host's certificates. Several hosts may
// share one, but none may carry another host's own.
type sharedName struct {
	name, host string
	at         item
	r          *reader
}

func (l *loader) checkNames() {
	for _, s := range l.shared {
		if owner, ok := l.claims[s.name]; ok && owner.host != s.host {
			s.r.problem(s.at, fmt.Sprintf("Name %s of another host", s.name), fmt.Sprintf(
				"It is host %q's own (%s). With it in its certificate, host %q could pass for that host. Remove it.", owner.host, owner.where, s.host))
		}
	}
}
