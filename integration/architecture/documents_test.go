package architecture

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Where a finding's code or an error's class is written down in the code.
var (
	findingCode = regexp.MustCompile(`(?:\bCode: *|\bCode[A-Z]\w* += +|\b(?:fail|warn|problem|say)\(|\bnote\(critical, )"([a-z]+(?:-[a-z]+)*)"`)
	timesCode   = regexp.MustCompile(`checkTimes\([^"\n]*"([a-z]+)", "`)
	errorClass  = regexp.MustCompile(`\bClass(?:[A-Z]\w* +Class =|:) +"([a-z ]+)"`)
)

// codes are all codes and classes that sources can give a user.
func codes(sources []string) []string {
	var out []string
	for _, src := range sources {
		for _, m := range slices.Concat(findingCode.FindAllStringSubmatch(src, -1), errorClass.FindAllStringSubmatch(src, -1)) {
			out = append(out, m[1])
		}
		for _, m := range timesCode.FindAllStringSubmatch(src, -1) {
			out = append(out, m[1]+"-expired", m[1]+"-not-yet-valid")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEveryCodeIsExplained(t *testing.T) {
	var sources []string
	for _, dir := range []string{"tasks", "plan", "internal/pki", "internal/remote", "cmd/virtrust"} {
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f, "_test.go") {
				sources = append(sources, read(t, strings.TrimPrefix(f, "../../")))
			}
		}
	}
	all := codes(sources)
	for _, want := range []string{"in-the-way", "not-root", "ca-expired", "key-mismatch", "host key changed", "moved", "firewall-wider", "unfinished-run", "no-rollback", "job", "held", "error"} {
		if !slices.Contains(all, want) {
			t.Fatalf("%q was not found in the code: this test would see too little", want)
		}
	}
	page := read(t, "docs/troubleshooting.md")
	for _, c := range all {
		if !strings.Contains(page, "\n## "+c+"\n") {
			t.Errorf("docs/troubleshooting.md has no section %q", c)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(page, -1) {
		if !slices.Contains(all, m[1]) {
			t.Errorf("docs/troubleshooting.md explains %q, which nothing in the code says", m[1])
		}
	}
}

func TestEveryDependencyHasALine(t *testing.T) {
	page := read(t, "docs/dependencies.md")
	var rows []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*[^ |] \\|$").FindAllStringSubmatch(page, -1) {
		rows = append(rows, m[1])
	}
	mod := read(t, "go.mod")
	for _, r := range rows {
		if !strings.Contains(mod, "\t"+r+" v") {
			t.Errorf("docs/dependencies.md lists %s, which go.mod does not", r)
		}
	}
	for _, p := range load(t) {
		for _, i := range slices.Concat(p.imports, p.tests) {
			host, _, _ := strings.Cut(i, "/")
			if !strings.Contains(host, ".") || below(i, module) {
				continue
			}
			if !slices.ContainsFunc(rows, func(r string) bool { return below(i, r) }) {
				t.Errorf("%s imports %s, which has no line in docs/dependencies.md", p.folder, i)
			}
		}
	}
}

// TestLinksLeadSomewhere follows the relative links of every page.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)]*)?\)`)
	pages := []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
	more, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	records, err := filepath.Glob("../../docs/adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(more, records...) {
		pages = append(pages, strings.TrimPrefix(f, "../../"))
	}
	followed := 0
	for _, p := range pages {
		for _, m := range link.FindAllStringSubmatch(read(t, p), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			followed++
			if _, err := os.Stat(filepath.Join("../..", filepath.Dir(p), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", p, m[1])
			}
		}
	}
	if followed < 10 {
		t.Errorf("only %d links were followed", followed)
	}
}
