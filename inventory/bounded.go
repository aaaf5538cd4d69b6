package inventory

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/gocty"
)

// bounded checks a function's arguments before a call that could make much of
// little, and its result.
func bounded(name string, f function.Function) function.Function {
	spec := &function.Spec{
		Description: f.Description(),
		Params:      f.Params(),
		VarParam:    f.VarParam(),
		Type:        func(args []cty.Value) (cty.Type, error) { return f.ReturnTypeForValues(args) },
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if err := checkArguments(name, args); err != nil {
				return cty.NilVal, err
			}
			v, err := f.Call(args)
			if err != nil {
				return v, err
			}
			return v, checkSize(v)
		},
	}
	return function.New(spec)
}

// collect converts to a collection. cty unifies the types of a tuple's
// elements in quadratic time, a minute for the hosts of a large fleet, so
// elements of one type are put into a list or map first.
func collect(want cty.Type) function.Function {
	convertTo := func(args []cty.Value) (cty.Value, error) {
		v, err := convert.Convert(uniform(args[0]), want)
		if err != nil {
			return v, function.NewArgError(0, err)
		}
		return v, nil
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			v, err := convertTo(args)
			return v.Type(), err
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return convertTo(args) },
	})
}

// uniform makes a list of a tuple, or a map of an object, whose elements are
// of one type.
func uniform(v cty.Value) cty.Value {
	ty := v.Type()
	if v.IsNull() || !v.IsWhollyKnown() || !ty.IsTupleType() && !ty.IsObjectType() || v.LengthInt() == 0 {
		return v
	}
	var first cty.Type
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		if first == cty.NilType {
			first = e.Type()
		}
		if !e.Type().Equals(first) {
			return v
		}
	}
	if ty.IsTupleType() {
		return cty.ListVal(v.AsValueSlice())
	}
	return cty.MapVal(v.AsValueMap())
}

var formatWidth = regexp.MustCompile(`%[^%a-zA-Z]*?([0-9]{4,}|\*)`)

// checkArguments refuses calls whose result would be out of proportion.
func checkArguments(name string, args []cty.Value) error {
	plain := make([]cty.Value, len(args))
	for i, a := range args {
		plain[i], _ = a.UnmarkDeep()
		if !plain[i].IsWhollyKnown() {
			return nil
		}
	}
	switch name {
	case "format", "formatlist":
		if !plain[0].IsNull() && formatWidth.MatchString(plain[0].AsString()) {
			return fmt.Errorf("a width or precision may be %d at most", maxFormatWidth-1)
		}
	case "setproduct":
		n := 1
		for _, a := range plain {
			if a.IsNull() || !a.CanIterateElements() {
				return nil
			}
			if n *= max(1, a.LengthInt()); n > maxElements {
				return fmt.Errorf("the result would have more than %d elements", maxElements)
			}
		}
	case "indent":
		var n int
		if len(plain) == 2 && gocty.FromCtyValue(plain[0], &n) == nil && n > maxFormatWidth {
			return fmt.Errorf("an indentation may be %d at most", maxFormatWidth)
		}
	case "join", "replace", "regexreplace":
		return checkGrowth(name, plain)
	case "pow":
		for _, a := range plain {
			var f float64
			if gocty.FromCtyValue(a, &f) == nil && (f > maxExponent || f < -maxExponent) {
				return fmt.Errorf("an argument may be %d at most", maxExponent)
			}
		}
	case "yamldecode":
		// Aliases let a short document stand for an exponential one.
		if !plain[0].IsNull() && yamlAlias.MatchString(plain[0].AsString()) {
			return errors.New("YAML aliases (*name) are not accepted; write the value out")
		}
	}
	return nil
}

var yamlAlias = regexp.MustCompile(`(?m)(^|[\s:\[{,-])\*[A-Za-z0-9_-]+`)

// checkGrowth bounds functions that put one text many times into another.
func checkGrowth(name string, args []cty.Value) error {
	long := 0
	count := 1
	for i, a := range args {
		switch {
		case a.IsNull():
			return nil
		case a.Type() == cty.String && i == 0 && name != "join":
			count = len(a.AsString()) + 1
		case a.Type() == cty.String:
			long = max(long, len(a.AsString()))
		case a.CanIterateElements():
			count += a.LengthInt()
		}
	}
	if long > 0 && count > 4*maxValueBytes/long {
		return fmt.Errorf("the result could have more than %d MiB", 4*maxValueBytes>>20)
	}
	return nil
}
