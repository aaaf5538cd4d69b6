package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// groups are the commands as a person meets them; what stands in none is
// listed below them.
var groups = []struct {
	title    string
	commands []string
}{
	{"To begin:", []string{"init", "inspect", "validate", "fmt", "show", "template", "ca"}},
	{"Every day:", []string{"plan", "apply", "renew", "status", "verify", "peers", "migrate", "cert", "ledger"}},
	{"When something is wrong:", []string{"explain", "doctor", "rollback", "unlock", "forget"}},
}

// arrange groups the commands of the help, and wraps the descriptions of flags
// at the width of the terminal.
func (a *app) arrange(root *cobra.Command) {
	cobra.EnableCommandSorting = false
	in := map[string]string{}
	for i, g := range groups {
		id := fmt.Sprint(i)
		root.AddGroup(&cobra.Group{ID: id, Title: g.title})
		for _, name := range g.commands {
			in[name] = id
		}
	}
	for _, c := range root.Commands() {
		c.GroupID = in[c.Name()]
	}
	text := root.UsageTemplate()
	for _, flags := range []string{".LocalFlags", ".InheritedFlags"} {
		text = strings.ReplaceAll(text, flags+".FlagUsages", fmt.Sprintf("%s.FlagUsagesWrapped %d", flags, min(a.width, 100)))
	}
	root.SetUsageTemplate(text)
}
