package inventory_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/inventory"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

// golden compares text with a file, or writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", file, got)
	}
}

func render(t *testing.T, d inventory.Diagnostics) string {
	t.Helper()
	var b strings.Builder
	if err := d.Render(&b, 100, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// load loads a configuration that must be valid.
func load(t *testing.T, dir string, opts inventory.Options) *inventory.Fleet {
	t.Helper()
	f, d := inventory.Load(dir, opts)
	if d.HasErrors() || f == nil {
		t.Fatalf("loading %s:\n%s", dir, render(t, d))
	}
	return f
}

// write makes a configuration of files by name.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// portable is a fleet's JSON without what depends on the machine.
func portable(t *testing.T, f *inventory.Fleet) string {
	t.Helper()
	dir := f.Dir
	f.Digest = ""
	out, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), dir, "DIR") + "\n"
}

func TestValid(t *testing.T) {
	t.Setenv("HOME", "/home/admin")
	dirs, err := filepath.Glob("testdata/valid/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no cases", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			f := load(t, dir, inventory.Options{})
			golden(t, filepath.Join(dir, "want.json"), portable(t, f))
		})
	}
}

func TestDiagnostics(t *testing.T) {
	t.Setenv("HOME", "/home/admin")
	dirs, err := filepath.Glob("testdata/diagnostics/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no cases", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			f, d := inventory.Load(dir, inventory.Options{})
			if d.Len() == 0 {
				t.Fatal("no diagnostics")
			}
			if (f == nil) != d.HasErrors() {
				t.Errorf("fleet is nil: %v, errors: %v", f == nil, d.HasErrors())
			}
			golden(t, filepath.Join(dir, "want.txt"), render(t, d))
			list := d.All()
			for i := 1; i < len(list); i++ {
				a, b := list[i-1].Source, list[i].Source
				if a != nil && b != nil && (a.File > b.File || a.File == b.File && a.Start.Byte > b.Start.Byte) {
					t.Errorf("diagnostic %d is out of order", i)
				}
			}
		})
	}
}
