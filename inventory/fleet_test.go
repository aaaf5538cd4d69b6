package inventory_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/inventory"
)

const policyText = `
authority "libvirt" {
  organization = "Example"
}

policy "standard" {
  template = "libvirt"
}
`

func TestVariables(t *testing.T) {
	files := map[string]string{"main.hcl": policyText + `
variable "domain" {
  type    = string
  default = "example.com"
}

variable "hosts" {
  type    = set(string)
  default = ["a"]
}

host "h" {
  for_each = var.hosts
  address  = "${each.key}.${var.domain}"
  policy   = policy.standard
}
`}
	dir := write(t, files)
	vars := filepath.Join(write(t, map[string]string{"x.vars": "domain = \"example.net\"\nhosts = [\"b\", \"c\"]\n"}), "x.vars")
	cases := []struct {
		opts inventory.Options
		want []string
	}{
		{inventory.Options{}, []string{"a.example.com"}},
		{inventory.Options{VarFiles: []string{vars}}, []string{"b.example.net", "c.example.net"}},
		{inventory.Options{VarFiles: []string{vars}, Vars: map[string]string{"domain": "1.example.org"}}, []string{"b.1.example.org", "c.1.example.org"}},
		{inventory.Options{Vars: map[string]string{"hosts": `["d"]`}}, []string{"d.example.com"}},
	}
	digests := map[string]bool{}
	for _, c := range cases {
		f := load(t, dir, c.opts)
		var got []string
		for _, h := range f.Hosts {
			got = append(got, h.Address)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v gives %q, want %q", c.opts, got, c.want)
		}
		digests[f.Digest] = true
	}
	if len(digests) != len(cases) {
		t.Errorf("%d digests of %d different configurations", len(digests), len(cases))
	}
	_, d := inventory.Load(dir, inventory.Options{Vars: map[string]string{"domian": "x", "hosts": "d"}})
	got := render(t, d)
	for _, want := range []string{`Undeclared variable "domian"`, "Did you mean domain?", `Write "d" with quotes`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
}

func TestDigest(t *testing.T) {
	base := map[string]string{"main.hcl": "locals {\n  a = file(\"data\")\n  b = fileexists(\"more\")\n}\n", "data": "1"}
	change := func(name, text string) map[string]string {
		out := map[string]string{}
		for k, v := range base {
			out[k] = v
		}
		out[name] = text
		return out
	}
	digest := func(files map[string]string) string { return load(t, write(t, files), inventory.Options{}).Digest }
	first := digest(base)
	if again := digest(base); again != first {
		t.Error("one configuration in two directories has two digests")
	}
	for name, files := range map[string]map[string]string{
		"comment": change("main.hcl", base["main.hcl"]+"# x\n"), "read file": change("data", "2"),
		"asked file": change("more", ""), "new file": change("other.hcl", ""),
	} {
		if digest(files) == first {
			t.Errorf("a change of %s keeps the digest", name)
		}
	}
	if digest(change("unrelated.txt", "x")) != first {
		t.Error("a file that nobody reads changes the digest")
	}
}

func TestShow(t *testing.T) {
	t.Setenv("HOME", "/home/admin")
	f := load(t, "testdata/valid/precedence", inventory.Options{})
	values, ok := inventory.Show(f, "b")
	if !ok {
		t.Fatal("no host b")
	}
	var b strings.Builder
	for _, v := range values {
		fmt.Fprintf(&b, "%s = %s  (%s)\n", v.Name, strings.ReplaceAll(v.Value, f.Dir, "DIR"), v.Source)
	}
	golden(t, "testdata/show.txt", b.String())
	if _, ok := inventory.Show(f, "nonesuch"); ok {
		t.Error("found a host that is not there")
	}
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	opts := inventory.InitOptions{
		Hosts:   []inventory.InitHost{{Name: "kvm1", Address: "kvm1.example.com"}, {Name: "kvm2", Address: "2001:db8::2"}, {Name: "kvm3"}},
		Cluster: "rack-7", Organization: `Müller & Sons`, KnownHosts: "${x} known_hosts",
	}
	if _, err := inventory.Init(dir, opts); err != nil {
		t.Fatal(err)
	}
	f := load(t, dir, inventory.Options{})
	if len(f.Hosts) != 3 || f.Hosts[2].Address != "kvm3" || f.Hosts[1].Cluster != "rack-7" || f.Authorities[0].Organization != opts.Organization {
		t.Errorf("loaded %+v", f)
	}
	if got, want := f.Hosts[0].SSH.KnownHosts, filepath.Join(dir, "${x} known_hosts"); got != want {
		t.Errorf("known_hosts is %q, want %q", got, want)
	}
	for _, name := range []string{"inventory.hcl", "policy.hcl"} {
		src, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if out, err := inventory.Format(src); err != nil || !bytes.Equal(out, src) {
			t.Errorf("%s is not formatted: %v\n%s", name, err, src)
		}
	}
	if _, err := inventory.Init(dir, opts); err == nil || !strings.Contains(err.Error(), "inventory.hcl") {
		t.Errorf("a second run gives %v", err)
	}
	half := write(t, map[string]string{"policy.hcl": "mine"})
	own := t.TempDir()
	if err := os.WriteFile(filepath.Join(own, ".gitignore"), []byte("mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wrote, err := inventory.Init(own, opts)
	if got, _ := os.ReadFile(filepath.Join(own, ".gitignore")); err != nil || len(wrote) != 2 || string(got) != "mine\n" {
		t.Errorf("beside a .gitignore: wrote %q, %v; it holds %q now", wrote, err, got)
	}
	if _, err := inventory.Init(half, opts); err == nil || !strings.Contains(err.Error(), "policy.hcl") {
		t.Errorf("an existing policy.hcl gives %v", err)
	}
	if _, err := os.Stat(filepath.Join(half, "inventory.hcl")); err == nil {
		t.Error("a refused run left inventory.hcl behind")
	}
	for name, bad := range map[string]inventory.InitOptions{
		"host":         {Hosts: []inventory.InitHost{{Name: "a b"}}},
		"address":      {Hosts: []inventory.InitHost{{Name: "a", Address: "root@a"}}},
		"twice":        {Hosts: []inventory.InitHost{{Name: "a"}, {Name: "b", Address: "a"}}},
		"cluster":      {Cluster: "1x"},
		"organization": {Organization: "a\nb"},
	} {
		dir := filepath.Join(t.TempDir(), "x")
		if _, err := inventory.Init(dir, bad); err == nil {
			t.Errorf("%s was accepted", name)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s left a directory behind", name)
		}
	}
}

func TestFormat(t *testing.T) {
	got, err := inventory.Format([]byte("host   \"a\" {\naddress=\"x\" # why\n  cluster   = cluster.b\n}\n"))
	want := "host \"a\" {\n  address = \"x\" # why\n  cluster = cluster.b\n}\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	files, _ := filepath.Glob("testdata/*/*/*.hcl")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		once, err := inventory.Format(src)
		if err != nil {
			continue // the case is about syntax
		}
		if twice, err := inventory.Format(once); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s: formatting again changes it: %v", file, err)
		}
	}
	for _, name := range inventory.Templates() {
		src, ok := inventory.TemplateSource(name)
		if out, err := inventory.Format(src); !ok || err != nil || !bytes.Equal(out, src) {
			t.Errorf("template %s is not formatted: %v", name, err)
		}
	}
	for _, bad := range []string{"a = ", "\x00", "a = (", "host {"} {
		if _, err := inventory.Format([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestDiagnosticsJSON(t *testing.T) {
	_, d := inventory.Load("testdata/diagnostics/names", inventory.Options{})
	out, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var back []inventory.Diagnostic
	if err := json.Unmarshal(out, &back); err != nil {
		t.Fatal(err)
	}
	if len(back) != d.Len() || d.Count(inventory.SeverityNote) == 0 || d.Count(inventory.SeverityWarning) == 0 {
		t.Errorf("%d of %d diagnostics came back: %s", len(back), d.Len(), out)
	}
	if empty, err := (inventory.Diagnostics{}).JSON(); err != nil || string(empty) != "[]" {
		t.Errorf("no diagnostics are %s, %v", empty, err)
	}
}

// What stands in a configuration must not reach a terminal as a command.
func TestRenderIsSafe(t *testing.T) {
	dir := write(t, map[string]string{"main.hcl": "locals {\n  a = local.b # \x1b]0;x\x07 \u202e\n}\n"})
	_, d := inventory.Load(dir, inventory.Options{})
	if out := render(t, d); !strings.Contains(out, "local.b") || strings.ContainsAny(out, "\x1b\x07\u202e") {
		t.Errorf("%q", out)
	}
	var b strings.Builder
	if err := d.Render(&b, 40, true); err != nil || !strings.Contains(b.String(), "\x1b[31m") {
		t.Errorf("no colour: %v", err)
	}
}

func TestPassphraseIsNotShown(t *testing.T) {
	dir := write(t, map[string]string{"main.hcl": "authority \"a\" {\n  organization    = \"x\"\n  passphrase_from = \"hunter2\"\n}\n"})
	_, d := inventory.Load(dir, inventory.Options{})
	if out := render(t, d); !d.HasErrors() || strings.Contains(out, "hunter2") {
		t.Error(out)
	}
}

func TestManyHosts(t *testing.T) {
	var csv strings.Builder
	csv.WriteString("name,address\n")
	for i := range 5000 {
		fmt.Fprintf(&csv, "h%d,10.%d.%d.1\n", i, i/250, i%250)
	}
	dir := write(t, map[string]string{"hosts.csv": csv.String(), "main.hcl": policyText + `
host "h" {
  for_each = { for r in csvdecode(file("hosts.csv")) : r.name => r }
  address  = each.value.address
  policy   = policy.standard
}
`})
	start := time.Now()
	f := load(t, dir, inventory.Options{})
	if len(f.Hosts) != 5000 {
		t.Errorf("%d hosts", len(f.Hosts))
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("loading 5000 hosts took %s", took)
	}
	t.Log(time.Since(start))
}
