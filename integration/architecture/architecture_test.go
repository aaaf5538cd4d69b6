package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// load reads the packages of this module and what their files import.
func load(t *testing.T) []pkg {
	t.Helper()
	// A cached result is used again until a file that this process looked at
	// changes: what go list reads does not count.
	err := filepath.WalkDir("../..", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "..":
			return fs.SkipDir
		case strings.HasSuffix(p, ".go"):
			_, err = os.Stat(p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-deps", "-test", "-json=ImportPath,ForTest,Module,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = "../.."
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaint.String())
	}
	var out []pkg
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var p struct {
			ImportPath, ForTest                string
			Module                             *struct{ Main bool }
			Imports, TestImports, XTestImports []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		// Variants that go list makes for tests repeat what the package lists itself.
		if p.Module == nil || !p.Module.Main || p.ForTest != "" || strings.HasSuffix(p.ImportPath, ".test") {
			continue
		}
		out = append(out, pkg{
			folder:  strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/"),
			imports: p.Imports,
			tests:   slices.Concat(p.TestImports, p.XTestImports),
		})
	}
	return out
}

func TestImportDirections(t *testing.T) {
	packages := load(t)
	for _, want := range []string{"plan", "inventory", "tasks", "internal/remote", "internal/pki"} {
		if !slices.ContainsFunc(packages, func(p pkg) bool { return p.folder == want && len(p.imports) > 0 }) {
			t.Fatalf("go list shows no package %s: this test would see nothing", want)
		}
	}
	for _, v := range violations(packages) {
		t.Error(v)
	}
}

// TestTheCheckerFails feeds the rules with edges that they must refuse.
func TestTheCheckerFails(t *testing.T) {
	ours := func(p string) string { return module + "/" + p }
	for _, c := range []struct {
		name, folder, imported, want string
		inTest                       bool
	}{
		{name: "plan to remote", folder: "plan", imported: ours("internal/remote"), want: "plan knows only the ground"},
		{name: "plan to tasks", folder: "plan", imported: ours("tasks"), want: "plan knows only the ground"},
		{name: "plan to inventory", folder: "plan", imported: ours("inventory"), want: "plan knows only the ground"},
		{name: "tasks to remote", folder: "tasks", imported: ours("internal/remote"), want: "two pure functions"},
		{name: "tasks to authority", folder: "tasks", imported: ours("internal/authority"), want: "two pure functions"},
		{name: "remote to inventory", folder: "internal/remote", imported: ours("inventory"), want: "it decides nothing"},
		{name: "remote to pki", folder: "internal/remote", imported: ours("internal/pki"), want: "it decides nothing"},
		{name: "below remote to ledger", folder: "internal/remote/agent", imported: ours("internal/ledger"), want: "it decides nothing"},
		{name: "ledger to authority", folder: "internal/ledger", imported: ours("internal/authority"), want: "asks nobody"},
		{name: "pki to facts", folder: "internal/pki", imported: ours("internal/facts"), want: "pki is ground"},
		{name: "templates to inventory", folder: "templates", imported: ours("inventory"), want: "embedded files"},
		{name: "anything to cmd", folder: "tasks", imported: ours("cmd/virtrust"), want: "wires everything together"},
		{name: "cmd to the lab", folder: "cmd/virtrust", imported: ours("integration/lab"), want: "for tests only"},
		{name: "pki to its test package", folder: "internal/pki", imported: ours("internal/pki/pkitest"), want: "for tests only"},
		{name: "plan to ssh", folder: "plan", imported: "golang.org/x/crypto/ssh/agent", want: "stays in internal/remote"},
		{name: "a test to ssh", folder: "plan", imported: "golang.org/x/crypto/ssh", inTest: true, want: "stays in internal/remote"},
		{name: "tasks to hcl", folder: "tasks", imported: "github.com/hashicorp/hcl/v2/hclsyntax", want: "stays in inventory"},
		{name: "ledger to age", folder: "internal/ledger", imported: "filippo.io/age", want: "stays in internal/authority"},
		{name: "cmd to sqlite", folder: "cmd/virtrust", imported: "modernc.org/sqlite", want: "stays in internal/ledger"},
		{name: "plan to lipgloss", folder: "plan", imported: "github.com/charmbracelet/lipgloss", want: "stays in internal/report and cmd"},
		{name: "remote to cobra", folder: "internal/remote", imported: "github.com/spf13/cobra", want: "stays in cmd"},
		{name: "remote to a logger", folder: "internal/remote", imported: "github.com/charmbracelet/log", want: "stays in cmd"},
		{name: "code in the root", folder: "", imported: "fmt", want: "root has Go code"},
		{name: "a vague name", folder: "internal/util", imported: "fmt", want: "would hold anything"},
		{name: "a package without a row", folder: "internal/novel", imported: "fmt", want: "has no row"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pkg{folder: c.folder, imports: []string{c.imported}}
			if c.inTest {
				p.imports, p.tests = nil, p.imports
			}
			got := violations([]pkg{p})
			if !slices.ContainsFunc(got, func(v string) bool { return strings.Contains(v, c.want) }) {
				t.Errorf("violations = %q, want one that says %q", got, c.want)
			}
		})
	}
}

// TestTheCheckerAllows feeds the rules with edges that the table grants.
func TestTheCheckerAllows(t *testing.T) {
	for _, p := range []pkg{
		{folder: "plan", imports: []string{"fmt", module + "/internal/facts", module + "/internal/pki"}},
		{folder: "internal/remote", imports: []string{module + "/plan", "golang.org/x/crypto/ssh", "github.com/pkg/sftp"}},
		{folder: "internal/remote/remotetest", imports: []string{module + "/internal/remote", "golang.org/x/crypto/ssh"}},
		{folder: "internal/remote", tests: []string{module + "/internal/remote/remotetest"}},
		{folder: "internal/pki", tests: []string{module + "/internal/pki/pkitest"}},
		{folder: "internal/authority", imports: []string{module + "/internal/ledger", "filippo.io/age/armor"}},
		{folder: "cmd/virtrust", imports: []string{module + "/internal/remote", module + "/tasks", "github.com/spf13/cobra"}},
		{folder: "integration/demo", imports: []string{module + "/integration/lab", module + "/inventory"}},
	} {
		if got := violations([]pkg{p}); len(got) > 0 {
			t.Errorf("%+v: %q", p, got)
		}
	}
}
