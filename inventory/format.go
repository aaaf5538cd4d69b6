package inventory

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/virtrust/virtrust/templates"
)

// Format brings a file of native syntax into the canonical layout. Only white
// space changes. It errs when the file is too large or not valid, because
// text that does not parse cannot be laid out safely.
func Format(src []byte) ([]byte, error) {
	const name = "the file"
	if len(src) > maxFileBytes {
		return nil, fmt.Errorf("formatting: the file is larger than %d MiB", maxFileBytes>>20)
	}
	if d := checkText(src, name); d != nil {
		return nil, fmt.Errorf("formatting: line %d: %s", d.Source.Start.Line, d.Detail)
	}
	if e := scanNative(src, name); e != nil {
		return nil, fmt.Errorf("formatting: line %d: %s", e.rng.Start.Line, e.text)
	}
	if _, found := hclsyntax.ParseConfig(src, name, hcl.InitialPos); found.HasErrors() {
		d := fromHCL(found.Errs()[0].(*hcl.Diagnostic))
		line := 1
		if d.Source != nil {
			line = d.Source.Start.Line
		}
		return nil, fmt.Errorf("formatting: line %d: %s: %s", line, d.Summary, d.Detail)
	}
	return hclwrite.Format(src), nil
}

// Templates lists the shipped policy templates.
func Templates() []string { return templates.Names() }

// TemplateSource returns the HCL text of a shipped template, and whether
// there is one of that name.
func TemplateSource(name string) ([]byte, bool) { return templates.Source(name) }
