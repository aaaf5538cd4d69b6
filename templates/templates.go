// Package templates holds the policies that ship inside the binary. Each is
// an ordinary policy block in the configuration language, so everything a
// template does a user can write.
package templates

import (
	"embed"
	"slices"
	"strings"
)

//go:embed *.hcl
var files embed.FS

// Names lists the shipped templates in alphabetical order.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic("templates: reading the embedded directory: " + err.Error())
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".hcl"))
	}
	slices.Sort(names)
	return names
}

// Source returns the HCL text of a shipped template and whether there is one
// of that name.
func Source(name string) ([]byte, bool) {
	if !slices.Contains(Names(), name) {
		return nil, false
	}
	src, err := files.ReadFile(name + ".hcl")
	return src, err == nil
}
