package inventory

import (
	"fmt"

	"github.com/zclconf/go-cty/cty"
)

// checkSize bounds a value, so that values made of values cannot grow without
// limit.
func checkSize(v cty.Value) error {
	bytes, elements := 0, 0
	return measure(v, &bytes, &elements, 0)
}

func measure(v cty.Value, bytes, elements *int, depth int) error {
	v, _ = v.Unmark()
	if *elements++; *elements > maxElements {
		return fmt.Errorf("a value may have %d elements", maxElements)
	}
	if depth > maxNesting {
		return fmt.Errorf("a value may be nested %d levels deep", maxNesting)
	}
	if v.IsNull() || !v.IsKnown() {
		return nil
	}
	ty := v.Type()
	switch {
	case ty == cty.String:
		if *bytes += len(v.AsString()); *bytes > maxValueBytes {
			return fmt.Errorf("a value may have %d MiB of text", maxValueBytes>>20)
		}
	case ty == cty.Number:
		if e := v.AsBigFloat().MantExp(nil); e > maxExponent || e < -maxExponent {
			return fmt.Errorf("a number may have %d binary digits", maxExponent)
		}
	case ty.IsCollectionType() || ty.IsTupleType() || ty.IsObjectType():
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			if ty.IsMapType() || ty.IsObjectType() {
				*bytes += len(k.AsString())
			}
			if err := measure(e, bytes, elements, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
