package inventory

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// ref is what a reference such as cluster.rack["r1"] evaluates to.
type ref struct {
	kind string
	name string // block label
	key  string // of the instance, "" without for_each
	inst *instance
}

// String is the reference as the user would write it.
func (r *ref) String() string {
	if r.key != "" {
		return fmt.Sprintf("%s.%s[%q]", r.kind, r.name, r.key)
	}
	return r.kind + "." + r.name
}

// refAttr marks an object as a reference. It is no identifier, so no
// expression can reach it by a dot.
const refAttr = "@reference"

var refType = cty.Capsule("reference", reflect.TypeFor[ref]())

func asRef(v cty.Value) (*ref, bool) {
	if !v.IsKnown() || v.IsNull() || !v.Type().IsObjectType() || !v.Type().HasAttribute(refAttr) {
		return nil, false
	}
	c, _ := v.GetAttr(refAttr).Unmark()
	return c.EncapsulatedValue().(*ref), true
}

// declaration is a named top-level block that references may name.
type declaration struct {
	kind      string
	node      *node
	state     state
	instances []*instance
	value     cty.Value // what kind.NAME evaluates to
	ok        bool
	vstate    state
	expanded  bool // instances are complete
}

type state int

const (
	untouched state = iota
	inProgress
	done
)

// instance is one thing that a block declares: the block itself, or one
// element of its for_each.
type instance struct {
	decl  *declaration
	name  string // unique among its kind
	key   string
	scope *scope
}

func (i *instance) ref() *ref { return &ref{i.decl.kind, i.decl.node.label(), i.key, i} }

var refKinds = []string{"host", "cluster", "network", "authority", "window", "policy"}

// resolve gives the value of kind.NAME: one reference, or a map of them when
// the block has for_each.
func (l *loader) resolve(d *declaration, from hcl.Range) (cty.Value, bool) {
	switch d.vstate {
	case done:
		return d.value, d.ok
	case inProgress:
		l.cycle(from, d.kind+"."+d.node.label())
		return cty.NilVal, false
	}
	d.vstate = inProgress
	defer func() { d.vstate = done }()
	if !l.push(d.kind+"."+d.node.label(), from) {
		return cty.NilVal, false
	}
	defer l.pop()
	if !l.expand(d, from) {
		return cty.NilVal, false
	}
	values := map[string]cty.Value{}
	for _, i := range d.instances {
		v, ok := l.refValue(i)
		if !ok {
			return cty.NilVal, false
		}
		values[i.key] = v
	}
	switch _, each := d.node.attrs["for_each"]; {
	case !each:
		d.value = values[""]
	case len(values) == 0:
		d.value = cty.EmptyObjectVal
	default:
		d.value = cty.ObjectVal(values)
	}
	d.ok = true
	return d.value, true
}

// refValue is the object that a reference to one instance evaluates to.
func (l *loader) refValue(i *instance) (cty.Value, bool) {
	r := i.ref()
	attrs := map[string]cty.Value{
		refAttr: cty.CapsuleVal(refType, r),
		"name":  cty.StringVal(i.name),
	}
	extra := map[string]string{"host": "address", "network": "cidrs"}[r.kind]
	if a := i.decl.node.attrs[extra]; a != nil {
		v, ok := l.eval(a.expr, i.scope)
		if !ok {
			return cty.NilVal, false
		}
		attrs[extra] = v
	}
	return cty.ObjectVal(attrs), true
}

// expand makes the instances of a block.
func (l *loader) expand(d *declaration, from hcl.Range) bool {
	switch d.state {
	case done:
		return d.expanded
	case inProgress:
		l.cycle(from, d.kind+"."+d.node.label())
		return false
	}
	d.state = inProgress
	defer func() { d.state = done }()
	a := d.node.attrs["for_each"]
	if a == nil {
		d.instances = []*instance{{decl: d, name: d.node.label(), scope: &scope{}}}
		d.expanded = true
		return true
	}
	d.expanded = l.expandEach(d, a)
	return d.expanded
}

func (l *loader) push(what string, from hcl.Range) bool {
	if len(l.stack) >= maxReferences {
		l.errorAt(from, "References too deep", fmt.Sprintf("More than %d values wait for each other here. Shorten the chain of locals.", maxReferences))
		return false
	}
	l.stack = append(l.stack, what)
	return true
}

func (l *loader) pop() { l.stack = l.stack[:len(l.stack)-1] }

func (l *loader) cycle(from hcl.Range, what string) {
	chain := append(l.stack[max(0, slices.Index(l.stack, what)):], what)
	l.errorAt(from, "Circular reference", fmt.Sprintf("The value depends on itself: %s. Break the circle.", strings.Join(chain, " needs ")))
}

// suggestion names the candidate that was probably meant.
func suggestion(given string, candidates []string) string {
	best, bestDistance := "", 3
	for _, c := range candidates {
		if d := levenshtein.Distance(given, c, nil); d < bestDistance && d < len(c) {
			best, bestDistance = c, d
		}
	}
	return best
}

// didYouMean is a sentence to append, or nothing.
func didYouMean(given string, candidates []string) string {
	if s := suggestion(given, candidates); s != "" {
		return fmt.Sprintf(" Did you mean %s?", s)
	}
	return ""
}

func (l *loader) declared(kind string) []string {
	var names []string
	for name := range l.decls[kind] {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
