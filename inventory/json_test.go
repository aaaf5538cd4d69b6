package inventory_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/virtrust/virtrust/inventory"
)

// toJSON rewrites a native file in the JSON variant: every expression becomes
// a template that holds its source.
func toJSON(t *testing.T, src []byte) []byte {
	t.Helper()
	f, diags := hclsyntax.ParseConfig(src, "native.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var b bytes.Buffer
	writeBody(&b, src, f.Body.(*hclsyntax.Body))
	if !json.Valid(b.Bytes()) {
		t.Fatalf("not JSON: %s", b.Bytes())
	}
	return b.Bytes()
}

func writeBody(b *bytes.Buffer, src []byte, body *hclsyntax.Body) {
	b.WriteString("{")
	first := true
	key := func(k string) {
		if !first {
			b.WriteString(",\n")
		}
		first = false
		b.Write(quote(k))
		b.WriteString(": ")
	}
	for name, a := range body.Attributes {
		key(name)
		writeExpr(b, src, name, a.Expr)
	}
	for _, block := range body.Blocks {
		key(block.Type)
		for _, l := range block.Labels {
			b.WriteString("{")
			b.Write(quote(l))
			b.WriteString(": ")
		}
		writeBody(b, src, block.Body)
		b.WriteString(strings.Repeat("}", len(block.Labels)))
	}
	b.WriteString("}")
}

func writeExpr(b *bytes.Buffer, src []byte, name string, e hclsyntax.Expression) {
	text := string(e.Range().SliceBytes(src))
	if tuple, ok := e.(*hclsyntax.TupleConsExpr); ok {
		b.WriteString("[")
		for i, x := range tuple.Exprs {
			if i > 0 {
				b.WriteString(", ")
			}
			writeExpr(b, src, "", x)
		}
		b.WriteString("]")
		return
	}
	if name != "type" {
		text = "${" + text + "}"
	}
	b.Write(quote(text))
}

func quote(s string) []byte {
	out, _ := json.Marshal(s)
	return out
}

// withoutPlaces drops what must differ between two files.
func withoutPlaces(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "source")
		for k, e := range v {
			v[k] = withoutPlaces(e)
		}
	case []any:
		for i, e := range v {
			v[i] = withoutPlaces(e)
		}
	}
	return v
}

func TestJSONVariant(t *testing.T) {
	t.Setenv("HOME", "/home/admin")
	dirs, _ := filepath.Glob("testdata/valid/*")
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			files := map[string]string{}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				src, err := os.ReadFile(filepath.Join(dir, e.Name()))
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case strings.HasSuffix(e.Name(), ".hcl"):
					files[e.Name()+".json"] = string(toJSON(t, src))
				case e.Name() != "want.json":
					files[e.Name()] = string(src)
				}
			}
			native := load(t, dir, inventory.Options{})
			variant := load(t, write(t, files), inventory.Options{})
			if native.Digest == variant.Digest {
				t.Error("different files have one digest")
			}
			var a, b any
			if err := json.Unmarshal([]byte(portable(t, native)), &a); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(portable(t, variant)), &b); err != nil {
				t.Fatal(err)
			}
			x, _ := json.MarshalIndent(withoutPlaces(a), "", " ")
			y, _ := json.MarshalIndent(withoutPlaces(b), "", " ")
			if !bytes.Equal(x, y) {
				t.Errorf("native:\n%s\nJSON:\n%s", x, y)
			}
		})
	}
}

func TestJSONDiagnostics(t *testing.T) {
	dir := write(t, map[string]string{"main.hcl.json": `{
  "cluster": {"rack1": {"policy": "policy.standard"}},
  "authority": {"libvirt": {"organization": "Example"}},
  "policy": {"standard": {"template": "libvirt"}},
  "host": {"a": {"address": "a.example.com", "cluster": "${cluster.rack2}"}}
}`})
	_, d := inventory.Load(dir, inventory.Options{})
	got := render(t, d)
	for _, want := range []string{`Write "${policy.standard}", in a template.`, "Did you mean cluster.rack1?", "main.hcl.json:2:"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
}
