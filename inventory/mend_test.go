package inventory

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const mendPolicy = `authority "libvirt" {
  passphrase_from = "prompt"
}

authority "qemu" {
  passphrase_from = "prompt"
}

policy "standard" {
  template = "libvirt"
}
`

const mendInventory = `# Who is there.
network "management" {
  cidrs = ["10.0.0.0/24"]
}

network "migration" {
  cidrs = ["10.9.0.0/24"]
}

network "display" {
  cidrs    = ["192.0.2.0/24"]
  discover = true
}

host "kvm1" {
  address = "kvm1.example.com" # by name
  policy  = policy.standard

  nic "management" {
    fqdn      = "kvm1.example.com"
    addresses = ["10.0.0.1"] # the first
  }
  nic "mig" {
    network   = network.migration
    addresses = ["10.9.0.1"]
  }
}

host "kvm2" {
  address = "10.0.0.2"
  policy  = policy.standard

  nic "management" {
    addresses = [cidrhost("10.0.0.0/24", 2)]
  }
}

host "many" {
  for_each = { kvm3 = "10.0.0.3" }
  address  = each.value
  policy   = policy.standard

  nic "management" {
    addresses = [each.value]
  }
}
`

func TestMend(t *testing.T) {
	addrs := func(text string) (out []netip.Addr) {
		for _, a := range strings.Fields(text) {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	at := func(host, network, text string) Presence { return Presence{host, network, addrs(text)} }
	for _, c := range []struct {
		name     string
		found    []Presence
		gone     string // lines that are no longer there
		come     string // lines that come
		problems []string
	}{
		{name: "as it is", found: []Presence{at("kvm1", "management", "10.0.0.1"), at("kvm1", "migration", "10.9.0.1"), at("kvm1", "display", "")}},
		{name: "further addresses are left alone without discover", found: []Presence{at("kvm1", "management", "10.0.0.1 10.0.0.7")}},
		{
			name: "another address", found: []Presence{at("kvm1", "management", "10.0.0.11")},
			gone: `    addresses = ["10.0.0.1"] # the first`, come: `    addresses = ["10.0.0.11"] # the first`,
		},
		{
			name: "a nic that names its network", found: []Presence{at("kvm1", "migration", "10.9.0.8 10.9.0.9")},
			gone: `    addresses = ["10.9.0.1"]`, come: `    addresses = ["10.9.0.8", "10.9.0.9"]`,
		},
		{
			name: "discovered", found: []Presence{at("kvm1", "display", "192.0.2.1 192.0.2.5")},
			come: "\n  nic \"display\" {\n    addresses = [\"192.0.2.1\", \"192.0.2.5\"]\n  }",
		},
		{name: "no address", found: []Presence{at("kvm1", "management", "")}, problems: []string{"no address"}},
		{name: "another host's", found: []Presence{at("kvm1", "management", "10.0.0.2")}, problems: []string{`host "kvm2"`}},
		{name: "another instance's", found: []Presence{at("kvm1", "management", "10.0.0.3")}, problems: []string{`host "kvm3"`}},
		{name: "an expression", found: []Presence{at("kvm2", "management", "10.0.0.22")}, problems: []string{`expression at inventory.hcl:29: mend what that reads, they are ["10.0.0.22"]`}},
		{name: "an instance", found: []Presence{at("kvm3", "management", "10.0.0.33")}, problems: []string{"for_each"}},
		{
			name: "what can be mended is", found: []Presence{at("kvm3", "management", "10.0.0.33"), at("kvm1", "management", "10.0.0.11")},
			gone: `    addresses = ["10.0.0.1"] # the first`, come: `    addresses = ["10.0.0.11"] # the first`, problems: []string{"for_each"},
		},
		{name: "nobody", found: []Presence{at("kvm9", "management", "10.0.0.9")}, problems: []string{"not in the inventory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"inventory.hcl": mendInventory, "policy.hcl": mendPolicy} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			f, diags := Load(dir, Options{})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			files, problems := f.Mend(c.found)
			if len(problems) != len(c.problems) {
				t.Fatalf("problems %v, want %q", problems, c.problems)
			}
			for i, p := range problems {
				if !strings.Contains(p.Error(), c.problems[i]) {
					t.Errorf("problem %q, want %q", p, c.problems[i])
				}
			}
			if c.gone == "" && c.come == "" {
				if len(files) > 0 {
					t.Fatalf("%s becomes\n%s", files[0].Name, files[0].After)
				}
				return
			}
			want := strings.Replace(mendInventory, c.gone, c.come, 1)
			if c.gone == "" {
				// At the end of the host's block.
				want = strings.Replace(mendInventory, "  }\n}\n\nhost \"kvm2\"", "  }\n"+c.come+"\n}\n\nhost \"kvm2\"", 1)
			}
			if len(files) != 1 || string(files[0].After) != want {
				t.Fatalf("files %v, the first becomes\n%s\nwant\n%s", len(files), files[0].After, want)
			}
			if err := f.Write(files[0]); err != nil {
				t.Fatal(err)
			}
			if err := f.Write(files[0]); err == nil {
				t.Error("a file that was changed since is written")
			}
			info, err := os.Stat(filepath.Join(dir, "inventory.hcl"))
			if err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("%v, %v", info, err)
			}
			again, diags := Load(dir, Options{})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if files, _ := again.Mend(c.found); len(files) > 0 {
				t.Errorf("then it becomes\n%s", files[0].After)
			}
		})
	}
}
