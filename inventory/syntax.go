package inventory

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// fromHCL converts a diagnostic of the HCL library. Where its text leaves a
// beginner alone with one of HCL's traps, a hint follows.
func fromHCL(d *hcl.Diagnostic) Diagnostic {
	out := Diagnostic{Severity: SeverityError, Summary: strings.TrimSuffix(d.Summary, "."), Detail: d.Detail}
	if d.Severity == hcl.DiagWarning {
		out.Severity = SeverityWarning
	}
	if d.Subject != nil {
		out.Source = span(*d.Subject)
	}
	switch d.Summary {
	case "Invalid single-argument block definition", "Missing newline after block definition":
		out.Detail = "A block on one line may hold a single attribute and no block. Put each attribute on a line of its own."
	case "Unsupported argument":
		out.Summary = "Unknown attribute"
		out.Detail = strings.Replace(out.Detail, "An argument named", "An attribute named", 1)
	case "Unsupported block type":
		out.Summary = "Unknown block"
	case "Missing required argument":
		out.Summary = "Missing attribute"
		out.Detail = strings.Replace(out.Detail, "The argument", "The attribute", 1)
	case "Missing name for " + strings.TrimPrefix(d.Summary, "Missing name for "):
		kind := strings.TrimPrefix(d.Summary, "Missing name for ")
		out.Detail = "Write a name in quotes after the word: " + kind + " \"NAME\" { … }."
	case "Attribute redefined":
		out.Summary = "Attribute set twice"
	}
	return out
}
