package inventory

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/zclconf/go-cty/cty"
)

// expandEach evaluates for_each and makes an instance of each element, in the
// order of the keys.
func (l *loader) expandEach(d *declaration, a *attr) bool {
	v, ok := l.eval(a.expr, a.scope)
	if !ok {
		return false
	}
	// Marks of the whole come from every cell that a key was made of; the
	// elements keep their own.
	v, _ = v.Unmark()
	elements := map[string]cty.Value{}
	ty := v.Type()
	switch {
	case v.IsNull():
		l.errorAt(a.expr.Range(), "No value for for_each", "Give a map, an object or a set of texts.")
		return false
	case ty.IsMapType() || ty.IsObjectType():
		if _, isRef := asRef(v); isRef {
			l.errorAt(a.expr.Range(), "Wrong value for for_each", "Give a map, an object or a set of texts, not a reference.")
			return false
		}
		for k, e := range v.AsValueMap() {
			elements[k] = e
		}
	case ty.IsSetType() && (ty.ElementType() == cty.String || v.LengthInt() == 0):
		for _, e := range v.AsValueSlice() {
			if e.IsNull() {
				l.errorAt(a.expr.Range(), "Wrong value for for_each", "The set holds null.")
				return false
			}
			elements[e.AsString()] = e
		}
	default:
		l.errorAt(a.expr.Range(), "Wrong value for for_each", fmt.Sprintf(
			"It is a %s. Give a map, an object or a set of texts; { for x in LIST : x.name => x } makes a map of a list.", ty.FriendlyName()))
		return false
	}
	if len(elements) > maxHosts {
		l.errorAt(a.expr.Range(), "Too many instances", fmt.Sprintf("A block may make %d instances and this makes %d.", maxHosts, len(elements)))
		return false
	}
	fine := true
	for _, key := range sortedKeys(elements) {
		e := &each{key: key, value: elements[key], from: origin(elements[key])}
		if !instanceKey.MatchString(key) {
			l.errorAt(a.expr.Range(), "Unfit key of for_each", fmt.Sprintf(
				"A key is the name of its %s and may hold a-z, 0-9 and - (not at either end), 63 characters in all.", d.kind)+e.note())
			fine = false
			continue
		}
		d.instances = append(d.instances, &instance{decl: d, key: key, name: instanceName(d, key), scope: &scope{each: e}})
	}
	return fine
}

var instanceKey = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// instanceName is the key, which is unique in the fleet. Networks of several
// blocks share their keys (one for each rack, say), so theirs have the
// block's name in front.
func instanceName(d *declaration, key string) string {
	if d.kind == "network" {
		return d.node.label() + "-" + key
	}
	return key
}

// cell is a mark on a value that was read from one line of a CSV file.
type cell struct {
	file   string
	line   int // 0 marks the whole text of the file
	column int
}

// origin names the file and line that an element was read from, if the marks
// of its values tell.
func origin(v cty.Value) string {
	var cells []cell
	_, paths := v.UnmarkDeepWithPaths()
	for _, p := range paths {
		for m := range p.Marks {
			if c, ok := m.(cell); ok && c.line > 0 {
				cells = append(cells, c)
			}
		}
	}
	if len(cells) == 0 {
		return ""
	}
	slices.SortFunc(cells, func(a, b cell) int { return a.line - b.line })
	return fmt.Sprintf("%s, line %d", cells[0].file, cells[0].line)
}
