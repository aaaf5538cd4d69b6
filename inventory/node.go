package inventory

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// node is one block as written, or as merged from several policies.
type node struct {
	spec   *blockSpec
	labels []string
	lrange []hcl.Range // of each label
	rng    hcl.Range   // of the header
	attrs  map[string]*attr
	blocks []*node
}

// attr is one attribute with the scope that its expression is evaluated in.
type attr struct {
	name  string
	expr  hcl.Expression
	rng   hcl.Range
	nrng  hcl.Range // of the name
	scope *scope
}

func (n *node) label() string {
	if len(n.labels) == 0 {
		return ""
	}
	return n.labels[0]
}

// title names a block as a reader would: host "kvm1", rollout.
func (n *node) title() string {
	if n.label() == "" {
		return n.spec.kind
	}
	return fmt.Sprintf("%s %q", n.spec.kind, n.label())
}

// labelRange is where the block's name stands, or else its header.
func (n *node) labelRange() hcl.Range {
	if len(n.lrange) > 0 {
		return n.lrange[0]
	}
	return n.rng
}

func (n *node) find(kind, label string) *node {
	for _, b := range n.blocks {
		if b.spec.kind == kind && b.label() == label {
			return b
		}
	}
	return nil
}

// all returns the blocks of one kind in their order.
func (n *node) all(kind string) []*node {
	var out []*node
	for _, b := range n.blocks {
		if b.spec.kind == kind {
			out = append(out, b)
		}
	}
	return out
}

// attrNames are the names of the attributes in the order they were written.
func (n *node) attrNames() []string {
	var names []string
	for name := range n.attrs {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := n.attrs[a].nrng, n.attrs[b].nrng
		if x.Filename != y.Filename {
			return strings.Compare(x.Filename, y.Filename)
		}
		if x.Start.Byte != y.Start.Byte {
			return x.Start.Byte - y.Start.Byte
		}
		return strings.Compare(a, b)
	})
	return names
}

// read takes a body apart by its description. Everything wrong with the shape
// is reported here, so decoders may rely on it.
func (l *loader) read(body hcl.Body, n *node, sc *scope) {
	n.attrs = map[string]*attr{}
	var attrs hcl.Attributes
	var blocks hcl.Blocks
	var found hcl.Diagnostics
	if n.spec.any {
		attrs, found = body.JustAttributes()
	} else {
		var content *hcl.BodyContent
		content, found = body.Content(n.spec.schema())
		if content != nil {
			attrs, blocks = content.Attributes, content.Blocks
		}
	}
	for _, d := range found {
		if missingByTypo(d, found) {
			continue
		}
		if d.Summary == "Missing required argument" && len(n.lrange) > 0 {
			r := n.rng
			d.Subject = &r
		}
		l.diags.add(fromHCL(d))
	}
	for name, a := range attrs {
		n.attrs[name] = &attr{name: name, expr: a.Expr, rng: a.Range, nrng: a.NameRange, scope: sc}
	}
	// The JSON variant groups blocks by kind; what counts is where they stand.
	slices.SortStableFunc(blocks, func(a, b *hcl.Block) int { return a.DefRange.Start.Byte - b.DefRange.Start.Byte })
	for _, b := range blocks {
		spec := n.spec.block(b.Type)
		child := &node{spec: spec, labels: b.Labels, lrange: b.LabelRanges, rng: b.DefRange}
		l.read(b.Body, child, sc)
		if first := n.find(b.Type, child.label()); first != nil && !spec.many {
			l.duplicate(child, first)
			continue
		}
		n.blocks = append(n.blocks, child)
	}
}

// missingByTypo tells whether a missing attribute is one whose name another
// diagnostic suggests for an unknown one.
func missingByTypo(d *hcl.Diagnostic, found hcl.Diagnostics) bool {
	if d.Summary != "Missing required argument" {
		return false
	}
	return slices.ContainsFunc(found, func(o *hcl.Diagnostic) bool {
		_, name, ok := strings.Cut(o.Detail, "Did you mean ")
		return ok && strings.Contains(d.Detail, strings.TrimSuffix(name, "?"))
	})
}

func (l *loader) duplicate(second, first *node) {
	detail := fmt.Sprintf("It was defined at %s already. ", sourceRange(first.labelRange()))
	if second.label() == "" {
		detail += "Put the attributes of both into one block."
	} else {
		detail += "Give one of them another name, or remove it."
	}
	l.errorAt(second.labelRange(), "Second "+second.title(), detail)
}

// merge lays a block over the one it starts from: attributes are replaced
// whole, blocks of the same kind and label merge, others are added.
func merge(base, over *node) *node {
	out := &node{spec: over.spec, labels: over.labels, lrange: over.lrange, rng: over.rng, attrs: map[string]*attr{}}
	for name, a := range base.attrs {
		out.attrs[name] = a
	}
	for name, a := range over.attrs {
		out.attrs[name] = a
	}
	for _, b := range base.blocks {
		if o := over.find(b.spec.kind, b.label()); o != nil {
			b = merge(b, o)
		}
		out.blocks = append(out.blocks, b)
	}
	for _, o := range over.blocks {
		if base.find(o.spec.kind, o.label()) == nil {
			out.blocks = append(out.blocks, o)
		}
	}
	return out
}
