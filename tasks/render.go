package tasks

import (
	"fmt"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/plan"
)

// Render makes the new content of a file from what the host has and the
// edits of the operation. The values come from the plan in the file's own
// syntax; the result must have the digest that the plan promises.
func Render(o plan.WriteFile, have []byte) ([]byte, error) {
	if len(o.Edits) == 0 {
		return o.Content, nil
	}
	if o.Syntax == plan.SyntaxEnvironment {
		return renderEnvironment(o, have)
	}
	file, err := conffile.Parse(have)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Path, err)
	}
	for _, e := range o.Edits {
		if e.New == "" {
			if err := file.Unset(e.Key); err != nil {
				return nil, fmt.Errorf("%s: setting %s: %w", o.Path, e.Key, err)
			}
			continue
		}
		one, err := conffile.Parse([]byte(e.Key + " = " + e.New + "\n"))
		if err != nil {
			return nil, fmt.Errorf("%s: setting %s: %w", o.Path, e.Key, err)
		}
		v, ok := one.Get(e.Key)
		if !ok || len(one.Keys()) != 1 {
			return nil, fmt.Errorf("%s: setting %s: %q is not one value", o.Path, e.Key, e.New)
		}
		if err := file.Set(e.Key, v); err != nil {
			return nil, fmt.Errorf("%s: setting %s: %w", o.Path, e.Key, err)
		}
	}
	return file.Bytes(), nil
}

func renderEnvironment(o plan.WriteFile, have []byte) ([]byte, error) {
	file, err := conffile.ParseEnvironment(have)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Path, err)
	}
	for _, e := range o.Edits {
		if err := file.Set(e.Key, e.New); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Path, err)
		}
	}
	return file.Bytes(), nil
}
