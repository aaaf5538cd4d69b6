package inventory_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/virtrust/virtrust/inventory"
)

// FuzzLoad feeds one file in either syntax. Load must return, with a fleet or
// with an error, and what it says must be printable. Run it with
// -fuzzminimizetime=10x: shrinking inputs takes all the time otherwise.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*/*/*.hcl")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src, false)
	}
	f.Add([]byte(`{"host": {"a": {"address": "${upper("x")}", "nic": [{"n": {}}]}}}`), true)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, src []byte, isJSON bool) {
		dir, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		name := "main.hcl"
		if isJSON {
			name += ".json"
		}
		csv := "name,rack,address,migration\nkvm1,r1,10.0.0.1,10.9.0.1\n"
		for n, text := range map[string][]byte{name: src, "hosts.csv": []byte(csv), "data.yaml": []byte("organization: x")} {
			if err := os.WriteFile(filepath.Join(dir, n), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		slow := time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("loading takes longer than 10 s: %q", src)) })
		defer slow.Stop()
		fleet, d := inventory.Load(dir, inventory.Options{})
		if (fleet == nil) != d.HasErrors() {
			t.Fatalf("fleet is nil: %v, errors: %v", fleet == nil, d.HasErrors())
		}
		var out bytes.Buffer
		if err := d.Render(&out, 80, false); err != nil {
			t.Fatal(err)
		}
		if _, err := d.JSON(); err != nil {
			t.Fatal(err)
		}
		if fleet != nil {
			for _, h := range fleet.Hosts {
				inventory.Show(fleet, h.Name)
			}
		}
		if once, err := inventory.Format(src); err == nil && !isJSON {
			if _, err := inventory.Format(once); err != nil {
				t.Fatalf("formatting makes it invalid: %v\n%q\n%q", err, src, once)
			}
		}
	})
}
