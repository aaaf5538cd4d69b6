package inventory

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// given is the value of a variable from outside of the configuration.
type given struct {
	expr hcl.Expression // from a file
	text string         // from the command line
	rng  hcl.Range
}

// loadVariables gives each declared variable its value: of the command line,
// else of the last file that names it, else its default.
func (l *loader) loadVariables(opts Options) {
	values := map[string]given{}
	for _, file := range opts.VarFiles {
		l.readVarFile(file, values)
	}
	for _, name := range sortedKeys(opts.Vars) {
		p := hcl.InitialPos
		source := "--var " + name
		l.src.files[source] = []byte(opts.Vars[name])
		l.src.outside[source] = true
		values[name] = given{text: opts.Vars[name], rng: hcl.Range{Filename: source, Start: p, End: p}}
	}
	for _, name := range sortedKeys(values) {
		if l.decls["variable"][name] == nil {
			l.errorAt(values[name].rng, fmt.Sprintf("Undeclared variable %q", name), fmt.Sprintf(
				"Declare it in the configuration: variable %q {}.%s", name, didYouMean(name, l.declared("variable"))))
		}
	}
	for _, d := range l.order["variable"] {
		name := d.node.label()
		x, ok := values[name]
		v, ok := l.variable(d.node, x, ok)
		if ok {
			l.vars[name] = v
		} else {
			l.badVars[name] = true
		}
	}
}

// readVarFile reads a file of NAME = VALUE lines. It lies where the caller
// says, so it is not one of the configuration's sources.
func (l *loader) readVarFile(file string, into map[string]given) {
	fail := func(detail string) {
		l.diags.add(Diagnostic{Severity: SeverityError, Summary: "Variable file not readable", Detail: sentence(file + ": " + detail)})
	}
	f, err := os.Open(file)
	if err != nil {
		fail(reason(err).Error())
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		fail("it is not a regular file")
		return
	}
	src, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		fail(reason(err).Error())
		return
	}
	if len(src) > maxFileBytes {
		fail(fmt.Sprintf("it is larger than %d MiB", maxFileBytes>>20))
		return
	}
	l.src.files[file] = src
	l.src.outside[file] = true
	body, found := parse(src, file)
	for _, d := range found {
		l.diags.add(d)
	}
	if body == nil {
		return
	}
	attrs, diags := body.JustAttributes()
	for _, d := range diags {
		l.diags.add(fromHCL(d))
	}
	for name, a := range attrs {
		into[name] = given{expr: a.Expr, rng: a.NameRange}
	}
}

func (l *loader) variable(n *node, x given, given bool) (cty.Value, bool) {
	ty, defaults := cty.DynamicPseudoType, (*typeexpr.Defaults)(nil)
	if a := n.attrs["type"]; a != nil {
		var diags hcl.Diagnostics
		ty, defaults, diags = typeexpr.TypeConstraintWithDefaults(a.expr)
		for _, d := range diags {
			l.diags.add(fromHCL(d))
		}
		if diags.HasErrors() {
			return cty.NilVal, false
		}
	}
	r := &reader{l: l, n: n, scope: ownScope}
	r.text("description", "")
	v, rng, ok := cty.NilVal, n.rng, false
	switch {
	case given && x.expr != nil:
		v, ok = l.constant(x.expr)
		rng = x.expr.Range()
	case given:
		v, ok = l.fromText(x, ty)
		rng = x.rng
	case n.attrs["default"] != nil:
		v, ok = l.constant(n.attrs["default"].expr)
		rng = n.attrs["default"].expr.Range()
	default:
		l.errorAt(n.labelRange(), fmt.Sprintf("Variable %q without a value", n.label()), fmt.Sprintf(
			"Give it one with --var %s=VALUE or in a file for --var-file, or add a default.", n.label()))
	}
	if !ok {
		return cty.NilVal, false
	}
	if defaults != nil && !v.IsNull() {
		v = defaults.Apply(v)
	}
	out, err := convert.Convert(v, ty)
	if err != nil {
		l.errorAt(rng, fmt.Sprintf("Wrong type of variable %q", n.label()), sentence(fmt.Sprintf("its type is %s: %v", typeexpr.TypeString(ty), err)))
		return cty.NilVal, false
	}
	return out, true
}

// constant evaluates an expression that may call functions and refer to
// nothing.
func (l *loader) constant(expr hcl.Expression) (cty.Value, bool) {
	if vars := expr.Variables(); len(vars) > 0 {
		detail := "A variable's value cannot refer to anything. Use locals for values made of others."
		if len(vars[0]) == 1 {
			detail = fmt.Sprintf("Write %q with quotes if the text is meant. ", vars[0].RootName()) + detail
		}
		l.errorAt(vars[0].SourceRange(), "Reference in the value of a variable", detail)
		return cty.NilVal, false
	}
	return l.eval(expr, &scope{})
}

// fromText reads the text of --var: as it is for a string or an untyped
// variable, as an expression for any other type.
func (l *loader) fromText(x given, ty cty.Type) (cty.Value, bool) {
	if ty == cty.String || ty == cty.DynamicPseudoType {
		if d := checkText([]byte(x.text), x.rng.Filename); d != nil {
			l.diags.add(*d)
			return cty.NilVal, false
		}
		return cty.StringVal(x.text), true
	}
	src := []byte(strings.TrimSpace(x.text))
	l.src.files[x.rng.Filename] = src
	if d := checkText(src, x.rng.Filename); d != nil {
		l.diags.add(*d)
		return cty.NilVal, false
	}
	if e := scanNative(src, x.rng.Filename); e != nil {
		l.diags.add(e.diagnostic())
		return cty.NilVal, false
	}
	expr, found := hclsyntax.ParseExpression(src, x.rng.Filename, hcl.InitialPos)
	for _, d := range found {
		l.diags.add(fromHCL(d))
	}
	if found.HasErrors() {
		return cty.NilVal, false
	}
	return l.constant(expr)
}
