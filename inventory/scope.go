package inventory

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// scope is what an expression may see beside the whole configuration.
type scope struct {
	each     *each
	template string // name of the shipped template the expression stands in
	// bindings are the authorities that a template's names stand for, and
	// user is where the policy asks for the template.
	bindings    map[string]*ref
	badBindings bool // reported: names that are missing are no mistake of their own
	user        hcl.Range
	policy      string
}

// each is the element of for_each that an instance was made for.
type each struct {
	key   string
	value cty.Value
	from  string // where the element comes from: "hosts.csv, line 3"
}

// local is one value of locals.
type local struct {
	attr  *attr
	state state
	value cty.Value
	ok    bool
}

// eval evaluates an expression. Whatever is wrong is reported here, once;
// false means that there is no value.
func (l *loader) eval(expr hcl.Expression, sc *scope) (cty.Value, bool) {
	roots, ok := l.roots(expr, sc)
	if !ok {
		return cty.NilVal, false
	}
	v, found := expr.Value(&hcl.EvalContext{Variables: roots, Functions: l.funcs})
	for _, d := range found {
		x := fromHCL(d)
		x.Detail = strings.TrimSpace(x.Detail) + l.instanceNote(expr, sc)
		if x.Source == nil {
			x.Source = span(expr.Range())
		}
		l.diags.add(x)
	}
	if found.HasErrors() {
		return cty.NilVal, false
	}
	if !v.IsWhollyKnown() {
		l.errorAt(expr.Range(), "Unknown value", "Every value must be known from the configuration alone.")
		return cty.NilVal, false
	}
	if err := checkSize(v); err != nil {
		l.errorAt(expr.Range(), "Value too large", sentence(err.Error()))
		return cty.NilVal, false
	}
	return v, true
}

// roots collects the values that an expression refers to, and reports
// references that lead nowhere.
func (l *loader) roots(expr hcl.Expression, sc *scope) (map[string]cty.Value, bool) {
	groups := map[string]map[string]cty.Value{}
	ok := true
	out := map[string]cty.Value{}
	for _, t := range expr.Variables() {
		root := t.RootName()
		if root == "each" && sc.template == "" {
			if sc.each == nil {
				l.errorAt(t.SourceRange(), "each outside for_each", "each.key and each.value exist only in a block with for_each.")
				ok = false
				continue
			}
			out["each"] = cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(sc.each.key), "value": sc.each.value})
			continue
		}
		known := []string{"var", "local", "host", "cluster", "network", "authority", "window", "policy"}
		if sc.template != "" {
			known = []string{"authority"}
		}
		if !slices.Contains(known, root) {
			l.unknownRoot(t, root, known)
			ok = false
			continue
		}
		name, rng, named := step(t)
		if !named {
			l.errorAt(t.SourceRange(), "Incomplete reference", fmt.Sprintf("Write %s.NAME.", root))
			ok = false
			continue
		}
		v, resolved := l.lookup(root, name, rng, t, sc)
		if !resolved {
			ok = false
			continue
		}
		if groups[root] == nil {
			groups[root] = map[string]cty.Value{}
		}
		groups[root][name] = v
	}
	for root, values := range groups {
		out[root] = cty.ObjectVal(values)
	}
	return out, ok
}

// step is the name after the root of a traversal, as kind.name or
// kind["name"].
func step(t hcl.Traversal) (name string, rng hcl.Range, ok bool) {
	if len(t) < 2 {
		return "", hcl.Range{}, false
	}
	switch s := t[1].(type) {
	case hcl.TraverseAttr:
		return s.Name, hcl.RangeBetween(t[0].SourceRange(), s.SrcRange), true
	case hcl.TraverseIndex:
		if s.Key.Type() == cty.String {
			return s.Key.AsString(), hcl.RangeBetween(t[0].SourceRange(), s.SrcRange), true
		}
	}
	return "", hcl.Range{}, false
}

func (l *loader) unknownRoot(t hcl.Traversal, root string, known []string) {
	detail := "A reference starts with " + strings.Join(known[:len(known)-1], ", ") + " or " + known[len(known)-1] + "."
	if len(known) == 1 {
		detail = "A template may refer to authority.NAME only."
	}
	if len(t) == 1 {
		detail = fmt.Sprintf("Write %q with quotes if the text is meant. ", root) + detail
	}
	l.errorAt(t.SourceRange(), fmt.Sprintf("Unknown word %s", root), detail+didYouMean(root, known))
}

func (l *loader) lookup(root, name string, rng hcl.Range, t hcl.Traversal, sc *scope) (cty.Value, bool) {
	switch root {
	case "var":
		v, ok := l.vars[name]
		if !ok && !l.badVars[name] {
			l.undeclared(rng, "variable", "var."+name, name, l.declared("variable"), "var.")
		}
		return v, ok
	case "local":
		x, ok := l.locals[name]
		if !ok {
			l.undeclared(rng, "local", "local."+name, name, sortedKeys(l.locals), "local.")
			return cty.NilVal, false
		}
		return l.local(name, x, rng)
	}
	if sc.template != "" {
		if r, ok := sc.bindings[name]; ok {
			return l.refValue(r.inst)
		}
		if d := l.decls["authority"][name]; d != nil {
			return l.resolve(d, rng)
		}
		if sc.badBindings {
			return cty.NilVal, false
		}
		l.errorAt(sc.user, fmt.Sprintf("Authority %q not declared", name), fmt.Sprintf(
			"Policy %q takes authority.%s from its template. Declare authority %q, or bind the name to another one: authorities = { %s = authority.NAME }.%s",
			sc.policy, name, name, name, didYouMean(name, l.declared("authority"))))
		return cty.NilVal, false
	}
	d := l.decls[root][name]
	if d == nil {
		l.undeclared(rng, root, root+"."+name, name, l.declared(root), root+".")
		return cty.NilVal, false
	}
	v, ok := l.resolve(d, rng)
	if ok {
		ok = l.checkKey(d, t)
	}
	return v, ok
}

// checkKey reports an instance key that is written out and does not exist.
func (l *loader) checkKey(d *declaration, t hcl.Traversal) bool {
	if d.node.attrs["for_each"] == nil || len(t) < 3 {
		return true
	}
	index, ok := t[2].(hcl.TraverseIndex)
	if !ok || index.Key.Type() != cty.String {
		return true
	}
	key := index.Key.AsString()
	var keys []string
	for _, i := range d.instances {
		keys = append(keys, i.key)
	}
	if slices.Contains(keys, key) {
		return true
	}
	l.errorAt(index.SrcRange, "Undeclared instance", fmt.Sprintf("%s.%s has no instance %q.%s", d.kind, d.node.label(), key, didYouMean(key, keys)))
	return false
}

func (l *loader) undeclared(rng hcl.Range, kind, what, name string, candidates []string, prefix string) {
	detail := fmt.Sprintf("There is no %s of that name.", kind)
	if s := suggestion(name, candidates); s != "" {
		detail += fmt.Sprintf(" Did you mean %s%s?", prefix, s)
	} else if len(candidates) == 0 {
		detail += " None is declared."
	}
	l.errorAt(rng, "Undeclared reference "+what, detail)
}

func (l *loader) local(name string, x *local, from hcl.Range) (cty.Value, bool) {
	switch x.state {
	case done:
		return x.value, x.ok
	case inProgress:
		l.cycle(from, "local."+name)
		return cty.NilVal, false
	}
	x.state = inProgress
	defer func() { x.state = done }()
	if !l.push("local."+name, from) {
		return cty.NilVal, false
	}
	defer l.pop()
	x.value, x.ok = l.eval(x.attr.expr, x.attr.scope)
	return x.value, x.ok
}

// instanceNote says which element of for_each an expression failed for, when
// it depends on the element.
func (l *loader) instanceNote(expr hcl.Expression, sc *scope) string {
	if sc == nil || sc.each == nil {
		return ""
	}
	for _, t := range expr.Variables() {
		if t.RootName() == "each" {
			return sc.each.note()
		}
	}
	return ""
}

func (e *each) note() string {
	if e.from != "" {
		return fmt.Sprintf(" The value comes from %s (each.key is %q).", e.from, e.key)
	}
	return fmt.Sprintf(" This is the instance with each.key %q.", e.key)
}
