package inventory_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/inventory"
)

// mustRefuse loads one file and expects an error whose summary is given.
func mustRefuse(t *testing.T, name, text, summary string) {
	t.Helper()
	_, d := inventory.Load(write(t, map[string]string{name: text}), inventory.Options{})
	for _, x := range d.All() {
		if x.Severity == inventory.SeverityError && strings.Contains(x.Summary+x.Detail, summary) {
			return
		}
	}
	out := render(t, d)
	t.Errorf("no error %q but:\n%.2000s", summary, out)
}

// Each of these would overflow the stack of the parser or of the evaluator,
// which no Go program survives.
func TestDeepNesting(t *testing.T) {
	const n = 1_000_000
	const room = n - 100
	deep := map[string]string{
		"parentheses":  strings.Repeat("(", room),
		"brackets":     strings.Repeat("[", room),
		"braces":       strings.Repeat("{a=", room/3),
		"not":          strings.Repeat("!", room),
		"minus":        strings.Repeat("-", room),
		"mixed":        strings.Repeat("([{", room/3),
		"mismatched":   strings.Repeat("(]", room/2),
		"templates":    strings.Repeat(`"${`, room/3),
		"conditionals": strings.Repeat("true?1:", room/7) + "1",
		"nested ifs":   `"` + strings.Repeat("%{if true}", room/10) + `"`,
		"sums":         "1" + strings.Repeat("+1", room/2),
		"attributes":   "a" + strings.Repeat(".a", room/2),
		"indexes":      "a" + strings.Repeat("[0]", room/3),
		"splats":       "a" + strings.Repeat("[*]", room/3),
		"calls":        strings.Repeat("f(", room/2),
		"loops":        strings.Repeat("[for a in b: ", room/13),
		"heredocs":     strings.Repeat("<<A\n${", room/6),
		"spread lines": "(\n1\n" + strings.Repeat("+\n1\n", room/4),
	}
	for name, expr := range deep {
		t.Run(name, func(t *testing.T) {
			_, d := inventory.Load(write(t, map[string]string{"main.hcl": "locals {\n  a = " + expr + "\n}\n"}), inventory.Options{})
			if got := d.All()[0].Summary; got != "Expression too deep" {
				t.Errorf("refused with %q", got)
			}
		})
	}
	if _, err := inventory.Format([]byte("a = " + deep["mixed"])); err == nil {
		t.Error("Format accepted it")
	}
	t.Run("blocks", func(t *testing.T) { mustRefuse(t, "main.hcl", strings.Repeat("a {\n", n/4), "too deep") })
	t.Run("JSON arrays", func(t *testing.T) {
		mustRefuse(t, "main.hcl.json", `{"locals":{"a":`+strings.Repeat("[", n/2), "too deep")
	})
	t.Run("JSON objects", func(t *testing.T) {
		mustRefuse(t, "main.hcl.json", strings.Repeat(`{"a":`, n/5), "too deep")
	})
	t.Run("JSON template", func(t *testing.T) {
		mustRefuse(t, "main.hcl.json", `{"locals":{"a":"${`+strings.Repeat("(", n/2)+`"}}`, "too deep")
	})
	t.Run("JSON escapes", func(t *testing.T) {
		mustRefuse(t, "main.hcl.json", `{"locals":{"a":"\u0024{`+strings.Repeat(`\u0028`, 100_000)+`"}}`, "too deep")
	})
	t.Run("variable", func(t *testing.T) {
		dir := write(t, map[string]string{"main.hcl": "variable \"x\" {\n  type = number\n}\n"})
		_, d := inventory.Load(dir, inventory.Options{Vars: map[string]string{"x": strings.Repeat("(", n)}})
		if !d.HasErrors() || d.All()[0].Summary != "Expression too deep" {
			t.Error(render(t, d)[:200])
		}
	})
}

func TestBoundsOfFiles(t *testing.T) {
	cases := map[string]struct{ name, text, want string }{
		"size":      {"main.hcl", "# " + strings.Repeat("x", 1<<20), "larger than 1 MiB"},
		"NUL":       {"main.hcl", "# \x00", "NUL"},
		"Latin-1":   {"main.hcl", "# \xe4", "not UTF-8"},
		"UTF-16":    {"main.hcl", "\xff\xfe#\x00", "UTF-16"},
		"number":    {"main.hcl", "locals {\n  a = \"${1e999999999}\"\n}\n", "exponent"},
		"JSON":      {"main.hcl.json", `{"locals":{"a":1e999999999}}`, "exponent"},
		"none":      {"README", "", "no *.hcl file"},
		"bad JSON":  {"main.hcl.json", `{"locals":`, "JSON"},
		"hosts":     {"main.hcl", manyHosts, "Too many hosts"},
		"instances": {"main.hcl", strings.Replace(manyHosts, "range(11)", "range(21)", 1), "Too many instances"},
		"doublings": {"main.hcl", doublings(40), "too large"},
		"squares":   {"main.hcl", "locals {\n  a = [for i in range(1000) : [for j in range(1000) : 1]]\n}\n", "too large"},
		"chain":     {"main.hcl", chain(5000), "too deep"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { mustRefuse(t, c.name, c.text, c.want) })
	}
	t.Run("number of files", func(t *testing.T) {
		files := map[string]string{}
		for i := range 300 {
			files[fmt.Sprintf("f%d.hcl", i)] = ""
		}
		_, d := inventory.Load(write(t, files), inventory.Options{})
		if !strings.Contains(render(t, d), "Too many files") {
			t.Error(render(t, d))
		}
	})
}

// manyHosts has two blocks of 11000 hosts each.
const manyHosts = `
locals {
  keys = toset(flatten([for i in range(11) : [for j in range(1000) : "${i}-${j}"]]))
}
host "a" {
  for_each = toset([for k in local.keys : "a${k}"])
  address  = each.key
}
host "b" {
  for_each = toset([for k in local.keys : "b${k}"])
  address  = each.key
}
`

// doublings makes locals of which each holds the one before twice.
func doublings(n int) string {
	var b strings.Builder
	b.WriteString("locals {\n  a0 = \"xxxxxxxxxxxxxxxx\"\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "  a%d = \"${local.a%d}${local.a%d}\"\n", i, i-1, i-1)
	}
	return b.String() + "}\n"
}

func chain(n int) string {
	var b strings.Builder
	b.WriteString("locals {\n  b0 = 1\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "  b%d = local.b%d\n", i, i-1)
	}
	return b.String() + "  a = local.b" + fmt.Sprint(n-1) + "\n}\n"
}

func TestByteOrderMark(t *testing.T) {
	native := "\xef\xbb\xbflocals {\r\n  a = 1\r\n}\r\n"
	load(t, write(t, map[string]string{"main.hcl": native}), inventory.Options{})
	load(t, write(t, map[string]string{"main.hcl.json": "\xef\xbb\xbf{\"locals\": {\"a\": 1}}"}), inventory.Options{})
}

func TestFilesStayInside(t *testing.T) {
	outside := write(t, map[string]string{"secret": "s3cret", "other.hcl": "locals {}\n"})
	for name, expr := range map[string]string{
		"parent":   `file("../secret")`,
		"absolute": fmt.Sprintf("file(%q)", filepath.Join(outside, "secret")),
		"link":     `file("link")`,
		"linkdir":  `file("dir/secret")`,
		"device":   `file("fifo")`,
		"exists":   `fileexists("link") ? tonumber("x") : file("link")`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"main.hcl": "locals {\n  a = " + expr + "\n}\n", "fifo/x": ""})
			if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, filepath.Join(dir, "dir")); err != nil {
				t.Fatal(err)
			}
			f, d := inventory.Load(dir, inventory.Options{})
			if f != nil || strings.Contains(render(t, d), "s3cret") {
				t.Errorf("accepted:\n%s", render(t, d))
			}
		})
	}
	t.Run("configuration", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Symlink(filepath.Join(outside, "other.hcl"), filepath.Join(dir, "main.hcl")); err != nil {
			t.Fatal(err)
		}
		if _, d := inventory.Load(dir, inventory.Options{}); !d.HasErrors() {
			t.Error("a link that leads outside was followed")
		}
	})
	t.Run("inside", func(t *testing.T) {
		dir := write(t, map[string]string{"main.hcl": "locals {\n  a = file(\"link\")\n}\n", "sub/data": "x"})
		if err := os.Symlink("sub/data", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		load(t, dir, inventory.Options{})
	})
}
