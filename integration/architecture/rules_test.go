package architecture

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

const module = "github.com/virtrust/virtrust"

// layer is one row of the package table in docs/architecture.md.
type layer struct {
	folder  string
	imports []string // folders of this module that it may import; nil for none
	why     string   // the reason for refusing every other
}

// layers are the package table. Folders below a row belong to it unless they
// have a row of their own; cmd and integration may import everything.
var layers = []layer{
	{"inventory", []string{"templates", "internal/pki", "internal/conffile"}, "the inventory is what the user wrote: it needs no network, no host and no plan, so that validate is safe in an editor"},
	{"tasks", []string{"plan", "inventory", "internal/facts", "internal/pki", "internal/conffile", "internal/firewall", "internal/keystore"}, "a task is two pure functions: whatever could change a host or read the outside world is out of its reach"},
	{"plan", []string{"internal/facts", "internal/pki"}, "plan knows only the ground: sessions, signers and ledgers come to it as interfaces and functions"},
	{"templates", nil, "templates are embedded files: nothing is needed to show them"},
	{"docs", nil, "pages are embedded text: nothing is needed to show them"},
	{"internal/facts", nil, "facts is ground: pure knowledge that depends on no other part"},
	{"internal/pki", nil, "pki is ground: pure knowledge that depends on no other part"},
	{"internal/conffile", nil, "conffile is ground: pure knowledge that depends on no other part"},
	{"internal/keystore", nil, "keystore is ground: pure knowledge of two file formats"},
	{"internal/needed", nil, "needed knows the machine that a test runs on, and nothing of ours"},
	{"internal/ansible", nil, "ansible reads another tool's files: it knows nothing of ours"},
	{"internal/firewall", []string{"internal/facts"}, "firewall is ground: pure over facts"},
	{"internal/remote", []string{"plan", "internal/facts"}, "remote carries out what a plan says: it decides nothing, so it knows neither inventory nor tasks, and it signs and records nothing"},
	{"internal/authority", []string{"internal/pki", "internal/ledger"}, "who signs does not know hosts, plans or the inventory: policy reaches it as a profile"},
	{"internal/ledger", []string{"internal/pki"}, "the ledger records what it is told and asks nobody"},
	{"internal/report", []string{"plan", "internal/pki"}, "reports are pure over plan and report values"},
}

// tops may import everything of ours; nothing may import them.
var tops = []string{"cmd", "examples", "integration"}

// testOnly folders are imported by tests, and by other test-only folders.
var testOnly = []string{"internal/needed", "internal/pki/pkitest", "internal/authority/authoritytest", "internal/remote/remotetest", "integration", "examples"}

// confinement keeps a library inside folders. Integration is free of it: its
// programs and tests look at results with the libraries themselves.
type confinement struct {
	module  string // module or package path, with everything below it
	folders []string
	why     string
}

var confinements = []confinement{
	{"golang.org/x/crypto/ssh", []string{"internal/remote"}, "one place dials hosts and checks their keys"},
	{"github.com/pkg/sftp", []string{"internal/remote"}, "one place writes to hosts"},
	{"github.com/kevinburke/ssh_config", []string{"internal/remote"}, "one place decides how a host is reached"},
	{"github.com/skeema/knownhosts", []string{"internal/remote"}, "one place decides which host key is right"},
	{"github.com/hashicorp/hcl/v2", []string{"inventory"}, "the language ends where the Fleet begins"},
	{"github.com/zclconf/go-cty", []string{"inventory"}, "the language ends where the Fleet begins"},
	{"github.com/zclconf/go-cty-yaml", []string{"inventory"}, "the language ends where the Fleet begins"},
	{"go.yaml.in/yaml/v3", []string{"internal/ansible"}, "YAML is another tool's language"},
	{"filippo.io/age", []string{"internal/authority"}, "only the authority opens a sealed CA key"},
	{"software.sslmate.com/src/go-pkcs12", []string{"internal/keystore"}, "one place knows the stores of Java"},
	{"github.com/pavlo-v-chernykh/keystore-go/v4", []string{"internal/keystore"}, "one place knows the stores of Java"},
	{"github.com/youmark/pkcs8", []string{"internal/authority"}, "only the authority opens a sealed CA key"},
	{"github.com/go-jose/go-jose/v4", []string{"internal/authority"}, "only the authority speaks to other people's CAs"},
	{"modernc.org/sqlite", []string{"internal/ledger"}, "only the ledger knows how it is stored"},
	{"github.com/charmbracelet/lipgloss", []string{"internal/report", "cmd"}, "only what is shown to people has colours"},
	{"github.com/charmbracelet/log", []string{"cmd"}, "libraries are given a *slog.Logger"},
	{"github.com/spf13/cobra", []string{"cmd"}, "libraries know no command line"},
}

// vague names say nothing about what a package holds.
var vague = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "shared", "base", "lib", "pkg"}

// pkg is what the rules look at of one package of this module.
type pkg struct {
	folder  string   // relative to the module; "" is its root
	imports []string // import paths of its non-test files
	tests   []string // import paths of its tests
}

// below reports whether p is folder or lies in it.
func below(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

func anyBelow(p string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return below(p, f) })
}

// layerOf is the row of the longest folder that holds p.
func layerOf(p string) (layer, bool) {
	var found layer
	for _, l := range layers {
		if below(p, l.folder) && len(l.folder) >= len(found.folder) {
			found = l
		}
	}
	return found, found.folder != ""
}

// violations lists what the packages do against the rules, one line each.
func violations(packages []pkg) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, p := range packages {
		name := p.folder
		if name == "" {
			say("the module's root has Go code: every package answers one question and lives in its own folder")
			name = "the root"
		}
		if slices.Contains(vague, path.Base(p.folder)) {
			say("%s: a package of that name would hold anything: name it after what it holds", name)
		}
		top := anyBelow(p.folder, tops)
		l, known := layerOf(p.folder)
		if !known && !top {
			say("%s: the package table has no row for it: decide in docs/architecture.md what it may import, then add it here", name)
		}
		for _, i := range p.imports {
			if why := forbidden(p.folder, l, top, i); why != "" {
				say("%s imports %s: %s", name, short(i), why)
			}
		}
		for _, i := range append(slices.Clone(p.imports), p.tests...) {
			for _, c := range confinements {
				if below(i, c.module) && !anyBelow(p.folder, c.folders) && !below(p.folder, "integration") {
					say("%s imports %s, which stays in %s: %s", name, i, strings.Join(c.folders, " and "), c.why)
				}
			}
		}
	}
	return out
}

// forbidden says why a package may not import path outside its tests; empty
// when it may. Tests may import any package of ours, but no command.
func forbidden(folder string, l layer, top bool, imported string) string {
	target := strings.TrimPrefix(imported, module+"/")
	if target == imported || anyBelow(folder, testOnly) {
		return ""
	}
	switch {
	case anyBelow(target, testOnly):
		return "that package is for tests only, it would come into the program"
	case anyBelow(target, tops):
		return "nothing imports what wires everything together"
	case top || below(target, l.folder) || anyBelow(target, l.imports):
		return ""
	}
	return l.why
}

func short(p string) string { return strings.TrimPrefix(p, module+"/") }
