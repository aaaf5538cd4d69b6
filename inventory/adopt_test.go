package inventory

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// written drafts, writes, loads and formats a configuration.
func written(t *testing.T, o InitOptions) (*Fleet, *Draft) {
	t.Helper()
	d, err := NewDraft(o)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := d.Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, f := range d.Files {
		if out, err := Format(f.Text); strings.HasSuffix(f.Name, ".hcl") && (err != nil || !bytes.Equal(out, f.Text)) {
			t.Errorf("%s is not in the canonical layout (%v):\n%s", f.Name, err, f.Text)
		}
	}
	fleet, diags := Load(dir, Options{})
	if diags.HasErrors() {
		t.Fatalf("it does not load: %+v", diags.All())
	}
	if _, err := d.Write(dir); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("it overwrites: %v", err)
	}
	return fleet, d
}

func TestAdoptGroups(t *testing.T) {
	found := []Found{
		{Name: "kvm1.example.com", Address: "10.0.0.1", Groups: []string{"kvm", "rack_1"}, Direct: []string{"rack_1"}, Port: 2222, Identity: "/root/.ssh/fleet"},
		{Name: "KVM2", Address: "10.0.0.2", Groups: []string{"kvm", "2nd"}, Direct: []string{"2nd"}, Identity: "/root/.ssh/fleet"},
		{Name: "kvm3", Address: "bad address", Groups: []string{"kvm", "2nd"}, Direct: []string{"2nd"}},
		{Name: "kvm4", Address: "10.0.0.1", Groups: []string{"kvm"}, Direct: []string{"2nd"}},
	}
	hosts, notes, err := Adopt(found, AdoptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"kvm3 is left out: the address", "kvm4 is left out: its name or address is that of kvm1.example.com", "2 groups are clusters: rack_1, 2nd"} {
		if len(notes) <= i || !strings.Contains(notes[i], want) {
			t.Errorf("no note %q in %q", want, notes)
		}
	}
	fleet, d := written(t, InitOptions{Hosts: hosts, Migration: MigrationRequired})
	if len(fleet.Hosts) != 2 || len(fleet.Clusters) != 2 || len(fleet.Authorities) != 4 {
		t.Fatalf("%d hosts, %d clusters, %d authorities", len(fleet.Hosts), len(fleet.Clusters), len(fleet.Authorities))
	}
	h := fleet.Hosts[0]
	if h.Name != "kvm1" || h.Cluster != "rack-1" || h.SSH.Port != 2222 || h.Labels["kvm"] != "yes" || len(h.Names) != 1 || h.Migration != MigrationRequired || h.SSH.Identity[0] != "/root/.ssh/fleet" {
		t.Errorf("kvm1: %+v", h)
	}
	if h := fleet.Hosts[1]; h.Name != "kvm2" || h.Cluster != "c2nd" || h.SSH.Port != 22 || h.SSH.Identity[0] != "/root/.ssh/fleet" {
		t.Errorf("kvm2: %+v", h)
	}
	if !strings.Contains(strings.Join(d.Notes, " "), "its own authorities") || !bytes.Contains(d.Files[1].Text, []byte("per             = \"cluster\"")) {
		t.Errorf("nothing says that clusters have their own authorities: %q\n%s", d.Notes, d.Files[1].Text)
	}
}

func TestAdoptOverlap(t *testing.T) {
	found := []Found{
		{Name: "kvm1", Groups: []string{"kvm", "rack1"}, Direct: []string{"kvm", "rack1"}},
		{Name: "kvm2", Groups: []string{"kvm", "rack2"}, Direct: []string{"kvm", "rack2"}},
	}
	for _, c := range []struct {
		options AdoptOptions
		first   string // cluster of kvm1
		note    string
		err     string
	}{
		{options: AdoptOptions{}, note: "All hosts are one cluster"},
		{options: AdoptOptions{Groups: []string{"rack1", "rack2"}}, first: "rack1"},
		{options: AdoptOptions{Groups: []string{"rack1"}}, err: "kvm2 is in none of the groups rack1"},
		{options: AdoptOptions{Groups: []string{"rack1", "kvm"}}, err: "kvm1 is in several"},
		{options: AdoptOptions{Cluster: "all"}},
	} {
		hosts, notes, err := Adopt(found, c.options)
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %v", c.options, err)
		}
		if err == nil && (hosts[0].Cluster != c.first || !strings.Contains(strings.Join(notes, ""), c.note)) {
			t.Errorf("%+v: %+v, %q", c.options, hosts[0], notes)
		}
	}
}

func TestAdoptNames(t *testing.T) {
	for _, c := range []struct{ names, want []string }{
		{[]string{"kvm1.a.example", "kvm2.a.example"}, []string{"kvm1", "kvm2"}},
		{[]string{"kvm1.a.example", "kvm1.b.example"}, []string{"kvm1-a-example", "kvm1-b-example"}},
		{[]string{"10.0.0.1", "2001:db8::1"}, []string{"host-10-0-0-1", "host-2001-db8--1"}},
	} {
		var found []Found
		for _, n := range c.names {
			found = append(found, Found{Name: n})
		}
		hosts, notes, err := Adopt(found, AdoptOptions{})
		if err != nil || len(hosts) != len(c.want) {
			t.Fatalf("%v: %v, %v", c.names, notes, err)
		}
		for i := range hosts {
			if hosts[i].Name != c.want[i] {
				t.Errorf("%s is called %s, want %s", c.names[i], hosts[i].Name, c.want[i])
			}
		}
		written(t, InitOptions{Hosts: hosts})
	}
}

func TestDraftRefuses(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for want, o := range map[string]InitOptions{
		"migration is":            {Migration: "some"},
		"cluster's name":          {Cluster: "Rack 1"},
		"belongs to two":          {Hosts: []InitHost{{Name: "a", Address: "10.0.0.1"}, {Name: "b", Address: "10.0.0.1"}}},
		"is unfit":                {Hosts: []InitHost{{Name: "kvm 1"}}},
		"control character":       {KnownHosts: "a\nb"},
		"organization is unfit":   {Organization: "a\nb"},
		"Unfit name \"bad name\"": {Hosts: []InitHost{{Name: "a", Address: "10.0.0.1", Names: []string{"bad name"}}}},
	} {
		if _, err := NewDraft(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "virtrust-init-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("checking left %v (%v)", left, err)
	}
}
