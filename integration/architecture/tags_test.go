package architecture

import (
	"go/build/constraint"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/needed"
)

// Files that only a tag brings in are compiled here: make test runs none of them,
// and nobody would see that they do not build any more.
func TestTaggedFilesBuild(t *testing.T) {
	if testing.Short() {
		needed.Missing(t, "not with -short: compiles tests of other packages")
	}
	tags, dirs := map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir("../..", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(string(text), "\n")
		if !constraint.IsGoBuild(first) {
			return nil
		}
		e, err := constraint.Parse(first)
		if err != nil {
			return err
		}
		if tag, ok := e.(*constraint.TagExpr); ok {
			tags[tag.Tag], dirs["./"+filepath.Dir(strings.TrimPrefix(p, "../../"))] = true, true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tags) < 3 {
		t.Errorf("only %v: this test sees too little", tags)
	}
	list := strings.Join(slices.Sorted(maps.Keys(tags)), ",")
	vet := exec.Command("go", slices.Concat([]string{"vet", "-tags", list}, slices.Sorted(maps.Keys(dirs)))...)
	vet.Dir = "../.."
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("with the tags %s: %v\n%s", list, err, out)
	}
}
