package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/inventory"
)

var fence = regexp.MustCompile("(?ms)^```hcl\n(.*?)^```$")

// TestDocumentsLoad loads the examples of each page, together one configuration.
func TestDocumentsLoad(t *testing.T) {
	for page, least := range map[string]int{"README.md": 2, "docs/language.md": 9} {
		t.Run(page, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", page))
			if err != nil {
				t.Fatal(err)
			}
			var parts []string
			for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
				parts = append(parts, m[1])
				if out, err := inventory.Format([]byte(m[1])); err != nil || string(out) != m[1] {
					t.Errorf("not in the canonical layout (%v):\n%s", err, m[1])
				}
			}
			if len(parts) < least {
				t.Fatalf("%d examples were found: this test would see too little", len(parts))
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "page.hcl"), []byte(strings.Join(parts, "\n")), 0o600); err != nil {
				t.Fatal(err)
			}
			fleet, diags := inventory.Load(dir, inventory.Options{})
			for _, d := range diags.All() {
				if d.Severity != inventory.SeverityNote {
					t.Errorf("%s: %s: %s", d.Severity, d.Summary, d.Detail)
				}
			}
			if fleet == nil || len(fleet.Hosts) == 0 {
				t.Error("it has no host")
			}
		})
	}
}
