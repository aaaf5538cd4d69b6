// Package docs has the pages that the program shows: what stands in them is
// written once.
package docs

import _ "embed"

// Troubleshooting is docs/troubleshooting.md.
//
//go:embed troubleshooting.md
var Troubleshooting string
