package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestHelp looks at the help of every command: it fits the width, and the
// groups of the first page name commands that there are.
func TestHelp(t *testing.T) {
	root := newApp(os.Stdin, os.Stdout, os.Stderr).root()
	var names []string
	for _, c := range root.Commands() {
		names = append(names, c.Name())
	}
	for _, g := range groups {
		for _, n := range g.commands {
			if !slices.Contains(names, n) {
				t.Errorf("%q has %s, which is no command", g.title, n)
			}
		}
	}
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		out, _, err := program(t, append(path, "--help")...)
		if err != nil || out == "" {
			t.Errorf("help of %v: %v", path, err)
		}
		for line := range strings.Lines(out) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 100 {
				t.Errorf("help of %v: %d columns: %s", path, n, line)
			}
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%v: short help %q", path, c.Short)
		}
		for _, s := range c.Commands() {
			if s.Name() != "completion" && s.Name() != "help" {
				walk(s, append(slices.Clone(path), s.Name()))
			}
		}
	}
	walk(root, nil)
}
