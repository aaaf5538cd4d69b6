package tasks

import (
	"maps"
	"slices"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// undone is the host as it will be when the operations of a rollback are
// carried out.
func undone(h *facts.Host, ops []plan.Op) *facts.Host {
	out := *h
	out.Paths = maps.Clone(h.Paths)
	for _, o := range ops {
		switch o := o.(type) {
		case plan.WriteFile:
			out.Paths[o.Path] = facts.Path{Type: facts.Regular, Mode: o.After.Mode, Owner: o.After.Owner, Group: o.After.Group, Content: o.Content, HasData: true}
		case plan.Link:
			out.Paths[o.Path] = facts.Path{Type: facts.Symlink, Target: o.Target}
		case plan.Remove:
			delete(out.Paths, o.Path)
		}
	}
	return &out
}

// join puts what undoes a second transaction and then the first into one
// transaction: a name that both change goes to where the first found it at once.
func join(second, first []plan.Op) []plan.Op {
	var out []plan.Op
	for _, o := range second {
		i := slices.IndexFunc(first, func(p plan.Op) bool { return changesName(p) && changesName(o) && p.Subject() == o.Subject() })
		if i < 0 {
			if a, ok := o.(plan.Activate); ok {
				first, o = activation(first, a)
			}
			if o != nil {
				out = append(out, o)
			}
			continue
		}
		before := o.Expects()[0].State
		switch p := first[i].(type) {
		case plan.WriteFile:
			p.Before = before
			first[i] = p
		case plan.Link:
			p.Before = before
			first[i] = p
		case plan.Remove:
			p.Before = before
			first[i] = p
		}
	}
	return append(out, first...)
}

// activation leaves one activation of a unit, the stronger one.
func activation(first []plan.Op, a plan.Activate) ([]plan.Op, plan.Op) {
	for i, p := range first {
		b, ok := p.(plan.Activate)
		if !ok || b.Unit != a.Unit {
			continue
		}
		first = slices.Clone(first)
		a.Closes = a.Closes || b.Closes
		if b.Disrupts().Exceeds(a.Disrupts()) {
			b.Closes = a.Closes
			first[i] = b
			return first, nil
		}
		return slices.Delete(first, i, i+1), a
	}
	return first, a
}

func changesName(o plan.Op) bool {
	switch o.(type) {
	case plan.WriteFile, plan.Link, plan.Remove:
		return true
	}
	return false
}

// lateness puts activations behind everything that they take up.
func lateness(o plan.Op) int {
	if _, ok := o.(plan.Activate); ok {
		return 1
	}
	return 0
}
