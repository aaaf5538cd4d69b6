package inventory

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// reader reads the attributes of one block as plain values. It reports what
// is wrong and remembers that something was, so that its caller can leave out
// checks that would only repeat it.
type reader struct {
	l       *loader
	n       *node
	scope   func(*attr) *scope
	path    string           // prefix of the origins, "certificate.libvirt-server."
	origins map[string]Range // may be nil
	bad     bool
}

// item is one value with the place to blame for it.
type item struct {
	v     cty.Value
	cells []cell // of CSV files that the value was made of
	rng   hcl.Range
	expr  hcl.Expression
	sc    *scope
}

func (r *reader) child(n *node, path string) *reader {
	return &reader{l: r.l, n: n, scope: r.scope, path: r.path + path, origins: r.origins}
}

func (r *reader) problem(i item, summary, detail string) {
	r.bad = true
	// A wrong cell may be used in several places; it is one mistake.
	for _, c := range i.cells {
		if r.l.badCells[c] {
			return
		}
		r.l.badCells[c] = true
	}
	r.l.errorAt(i.rng, summary, detail+r.l.instanceNote(i.expr, i.sc))
}

// newItem takes the marks off a value and remembers its cells.
func newItem(v cty.Value, expr hcl.Expression, sc *scope) item {
	v, paths := v.UnmarkDeepWithPaths()
	i := item{v: v, rng: expr.Range(), expr: expr, sc: sc}
	for _, p := range paths {
		for m := range p.Marks {
			if c, ok := m.(cell); ok && c.line > 0 {
				i.cells = append(i.cells, c)
			}
		}
	}
	return i
}

// part is an element of an item's value, with the same place to blame.
func (i item) part(v cty.Value) item {
	i.v = v
	return i
}

// value evaluates an attribute. Absent and null are the same: not written.
func (r *reader) value(name string) (item, bool) {
	a := r.n.attrs[name]
	if a == nil {
		r.record(name, Range{File: sourceDefault})
		return item{}, false
	}
	sc := r.scope(a)
	v, ok := r.l.eval(a.expr, sc)
	if !ok {
		r.bad = true
		return item{}, false
	}
	i := newItem(v, a.expr, sc)
	if i.v.IsNull() {
		r.record(name, Range{File: sourceDefault})
		return item{}, false
	}
	r.record(name, sourceRange(a.rng))
	return i, true
}

func (r *reader) record(name string, rng Range) {
	if r.origins != nil {
		r.origins[r.path+name] = rng
	}
}

// convert turns a value into a primitive type, or says which was wanted.
func (r *reader) convert(i item, ty cty.Type, want string) (cty.Value, bool) {
	if ref, is := asRef(i.v); is {
		r.problem(i, "Unexpected reference", fmt.Sprintf("%s is wanted here, and this is %s.", upperFirst(want), ref))
		return cty.NilVal, false
	}
	if i.v.IsNull() {
		r.problem(i, "Null in place of a value", fmt.Sprintf("%s is wanted here.", upperFirst(want)))
		return cty.NilVal, false
	}
	v, err := convert.Convert(i.v, ty)
	if err != nil || v.IsNull() {
		r.problem(i, "Wrong type of value", fmt.Sprintf("%s is wanted here, and this is a %s.", upperFirst(want), i.v.Type().FriendlyName()))
		return cty.NilVal, false
	}
	return v, true
}

func (r *reader) asText(i item) (string, bool) {
	v, ok := r.convert(i, cty.String, "a text in quotes")
	if !ok {
		return "", false
	}
	s := v.AsString()
	if strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		r.problem(i, "Control character", "The text holds a line break or another control character. Write it without.")
		return "", false
	}
	return s, true
}

func (r *reader) text(name, otherwise string) (string, item, bool) {
	i, ok := r.value(name)
	if !ok {
		return otherwise, i, false
	}
	s, ok := r.asText(i)
	if !ok {
		return otherwise, i, false
	}
	return s, i, true
}

// word reads one of a closed set of words.
func (r *reader) word(name, otherwise string, words ...string) string {
	s, i, ok := r.text(name, otherwise)
	if !ok || r.isWord(i, name, s, words) {
		return s
	}
	return otherwise
}

func (r *reader) isWord(i item, name, s string, words []string) bool {
	if r.l.later(i.rng, name, s, fmt.Sprintf("%s = %q", name, s)) {
		r.bad = true
		return false
	}
	if slices.Contains(words, s) {
		return true
	}
	r.problem(i, fmt.Sprintf("Unknown %s %q", name, s), "Use "+alternatives(words)+".")
	return false
}

func (r *reader) number(name string, otherwise, least, most int) int {
	i, ok := r.value(name)
	if !ok {
		return otherwise
	}
	v, ok := r.convert(i, cty.Number, "a number")
	if !ok {
		return otherwise
	}
	f := v.AsBigFloat()
	n, acc := f.Int64()
	if acc != 0 || n < int64(least) || n > int64(most) {
		r.problem(i, "Number out of range", fmt.Sprintf("%s is a whole number from %d to %d.", upperFirst(name), least, most))
		return otherwise
	}
	return int(n)
}

func (r *reader) flag(name string, otherwise bool) bool {
	i, ok := r.value(name)
	if !ok {
		return otherwise
	}
	v, ok := r.convert(i, cty.Bool, "true or false")
	if !ok {
		return otherwise
	}
	return v.True()
}

// list reads the elements of a list, each with its own range where the list
// is written out.
func (r *reader) list(name string) ([]item, bool) {
	a := r.n.attrs[name]
	if a == nil {
		r.record(name, Range{File: sourceDefault})
		return nil, false
	}
	sc := r.scope(a)
	exprs, notList := hcl.ExprList(a.expr)
	if !notList.HasErrors() {
		r.record(name, sourceRange(a.rng))
		var items []item
		for _, e := range exprs {
			v, ok := r.l.eval(e, sc)
			if !ok {
				r.bad = true
				continue
			}
			items = append(items, newItem(v, e, sc))
		}
		return items, true
	}
	i, ok := r.value(name)
	if !ok {
		return nil, false
	}
	ty := i.v.Type()
	if !ty.IsTupleType() && !ty.IsListType() && !ty.IsSetType() {
		r.problem(i, "List expected", fmt.Sprintf("Put the value of %s into brackets: %s = [ … ].", name, name))
		return nil, false
	}
	var items []item
	for _, v := range i.v.AsValueSlice() {
		items = append(items, i.part(v))
	}
	return items, true
}

// reference reads one reference of a kind.
func (r *reader) reference(name, kind string) (*ref, item, bool) {
	i, ok := r.value(name)
	if !ok {
		return nil, i, false
	}
	x, ok := r.asReference(i, kind)
	return x, i, ok
}

func (r *reader) references(name, kind string) ([]*ref, []item, bool) {
	items, ok := r.list(name)
	var refs []*ref
	var kept []item
	for _, i := range items {
		if x, ok := r.asReference(i, kind); ok {
			refs, kept = append(refs, x), append(kept, i)
		}
	}
	return refs, kept, ok
}

func (r *reader) asReference(i item, kind string) (*ref, bool) {
	x, is := asRef(i.v)
	switch {
	case is && x.kind == kind:
		return x, true
	case is:
		r.problem(i, "Wrong kind of reference", fmt.Sprintf("A reference to a %s is wanted here, %s.NAME, and this is %s.", kind, kind, x))
		return nil, false
	}
	ty := i.v.Type()
	switch {
	case ty == cty.String && !i.v.IsNull():
		name := strings.TrimPrefix(i.v.AsString(), kind+".")
		example := kind + ".NAME"
		if d := r.l.decls[kind][name]; d != nil {
			example = kind + "." + name
			if d.node.attrs["for_each"] != nil {
				example += "[KEY]"
			}
		} else if s := suggestion(name, r.l.declared(kind)); s != "" {
			example = kind + "." + s
		}
		quotes := "without quotes"
		if strings.HasSuffix(i.rng.Filename, ".json") {
			example, quotes = `"${`+example+`}"`, "in a template"
		}
		r.problem(i, "Text instead of a reference", fmt.Sprintf("Write %s, %s.", example, quotes))
	case ty.IsObjectType() && len(ty.AttributeTypes()) > 0 && r.mapOfRefs(i.v):
		r.problem(i, "Reference without a key", fmt.Sprintf("The %s has for_each, so name one instance: %s.NAME[KEY].", kind, kind))
	default:
		r.problem(i, "Reference expected", fmt.Sprintf("Write %s.NAME.", kind))
	}
	return nil, false
}

func (r *reader) mapOfRefs(v cty.Value) bool {
	for _, e := range v.AsValueMap() {
		if _, ok := asRef(e); !ok {
			return false
		}
	}
	return true
}

func alternatives(words []string) string {
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, fmt.Sprintf("%q", w))
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// sentence makes a full sentence of an error's text.
func sentence(s string) string {
	return strings.TrimSuffix(upperFirst(s), ".") + "."
}
