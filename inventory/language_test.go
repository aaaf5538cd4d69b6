package inventory

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	page      = "../docs/language.md"
	pageBegin = "<!-- From the schema: go test ./inventory -run TestLanguagePage -update -->\n"
	pageEnd   = "<!-- End -->\n"
)

// synopsis is every block with its labels and attributes.
func synopsis() string {
	var b strings.Builder
	b.WriteString("```text\n")
	var write func(s *blockSpec, indent string)
	write = func(s *blockSpec, indent string) {
		head := indent + s.kind
		for _, l := range s.labels {
			head += fmt.Sprintf(" %q", strings.ToUpper(l))
		}
		var words []string
		for _, a := range s.attrs {
			words = append(words, strings.Replace(a, "!", "*", 1))
		}
		slices.Sort(words)
		text := strings.Join(words, ", ")
		switch {
		case slices.Contains(laterBlocks, s):
			text = "not in this version"
		case s.any:
			text = "NAME = VALUE, any"
		}
		// Wrapped by hand: the page is read in editors, too.
		line := fmt.Sprintf("%-26s", head)
		column := len(line)
		for i, w := range strings.Split(text, ", ") {
			if i > 0 {
				line += ","
				if column+len(w)+3 > 110 {
					b.WriteString(line + "\n")
					line, column = strings.Repeat(" ", 26), 26
				} else {
					line += " "
					column++
				}
				column++
			}
			line += w
			column += len(w)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		for _, c := range s.blocks {
			write(c, indent+"  ")
		}
	}
	for _, s := range rootSpec.blocks {
		write(s, "")
	}
	b.WriteString("```\n\nParsed, and refused by this version with what to write instead:\n\n")
	for _, k := range sortedKeys(laterValues) {
		name, value, _ := strings.Cut(k, "=")
		fmt.Fprintf(&b, "* %s, %s: %s\n", name, value, laterValues[k])
	}
	return b.String()
}

// TestLanguagePage holds the page to the schema: the list of all words is the
// schema's, and each attribute stands in the text above it.
func TestLanguagePage(t *testing.T) {
	src, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(src), pageBegin)
	have, after, ended := strings.Cut(rest, pageEnd)
	if !ok || !ended {
		t.Fatalf("%s lacks the part that begins with %sand ends with %s", page, pageBegin, pageEnd)
	}
	want := "\n" + synopsis() + "\n"
	// The flag is that of the tests beside the package.
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(page, []byte(before+pageBegin+want+pageEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if have != want {
		t.Errorf("%s is not the schema's: go test ./inventory -run TestLanguagePage -update", page)
	}
	var check func(s *blockSpec)
	seen := map[*blockSpec]bool{}
	check = func(s *blockSpec) {
		if seen[s] || slices.Contains(laterBlocks, s) {
			return
		}
		seen[s] = true
		for _, a := range s.attrs {
			name := regexp.QuoteMeta(strings.TrimSuffix(a, "!"))
			// Named in code, or written in an example.
			if !regexp.MustCompile("`[^`\n]*\\b" + name + "\\b[^`\n]*`|(?m)^ +" + name + " += ").MatchString(before) {
				t.Errorf("%s says nothing of %s in a block %q", page, name, s.kind)
			}
		}
		for _, c := range s.blocks {
			if c.kind != "" && !regexp.MustCompile("`[^`\n]*\\b"+c.kind+"\\b|(?m)^#+ .*\\b"+c.kind+"\\b|^ *"+c.kind+" ").MatchString(before) {
				t.Errorf("%s says nothing of the block %q", page, c.kind)
			}
			check(c)
		}
	}
	check(rootSpec)
}
