package ansible

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func files(list map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range list {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

const ini = `# a fleet
bare.example.com

[rack1]
kvm[01:03].example.com ansible_port=2222
kvm9 ansible_host=10.0.0.9 ansible_user="deploy" http_port=80  # a comment

[rack2]
db-[a:c] ansible_connection=local
kvm20:2022
[2001:db8::7]:22

[kvm:children]
rack1
rack2

[kvm:vars]
ansible_user = root
ntp = "a b"
[all:vars]
ansible_ssh_private_key_file=~/.ssh/fleet
`

func names(i *Inventory) []string {
	var out []string
	for _, h := range i.Hosts {
		out = append(out, h.Name)
	}
	return out
}

func find(t *testing.T, i *Inventory, name string) Host {
	t.Helper()
	for _, h := range i.Hosts {
		if h.Name == name {
			return h
		}
	}
	t.Fatalf("no host %s among %v", name, names(i))
	return Host{}
}

func TestINI(t *testing.T) {
	i, err := Read(files(map[string]string{"hosts": ini, "group_vars/rack1.yml": "ansible_become: yes\nsecret: !vault |\n  abc\n", "host_vars/kvm9/x.yml": "ansible_host: 10.9.9.9\n"}), "hosts")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bare.example.com", "kvm01.example.com", "kvm02.example.com", "kvm03.example.com", "kvm9", "kvm20", "2001:db8::7"}
	if got := names(i); !slices.Equal(got, want) {
		t.Errorf("hosts are %v, want %v", got, want)
	}
	if got, want := find(t, i, "kvm9"), (Host{Name: "kvm9", Groups: []string{"kvm", "rack1"}, Direct: []string{"rack1"}, Address: "10.9.9.9", User: "deploy", Identity: "~/.ssh/fleet", Become: true}); !reflect.DeepEqual(got, want) {
		t.Errorf("kvm9 is %+v, want %+v", got, want)
	}
	if h := find(t, i, "kvm02.example.com"); h.Port != 2222 || h.User != "root" {
		t.Errorf("kvm02: %+v", h)
	}
	if h := find(t, i, "kvm20"); h.Port != 2022 || h.Become {
		t.Errorf("kvm20: %+v", h)
	}
	if h := find(t, i, "2001:db8::7"); h.Port != 22 {
		t.Errorf("the IPv6 host: %+v", h)
	}
	if h := find(t, i, "bare.example.com"); len(h.Groups) != 0 || h.Identity != "~/.ssh/fleet" {
		t.Errorf("the ungrouped host: %+v", h)
	}
	if len(i.Notes) != 3 || !strings.Contains(i.Notes[0], `db-a is left out: Ansible reaches it by "local"`) {
		t.Errorf("notes: %q", i.Notes)
	}
	if !reflect.DeepEqual(i.Ignored, map[string]int{"http_port": 1, "ntp": 6, "secret": 4}) {
		t.Errorf("ignored: %v", i.Ignored)
	}
}

const yml = `---
all:
  vars: {ansible_user: root, dns: [1.1.1.1]}
  children:
    kvm:
      children:
        rack1:
          hosts:
            kvm[1:2].example.com:
            kvm3: &three
              ansible_host: 10.0.0.3
              ansible_port: 2222
            kvm4:
              <<: *three
              ansible_host: "10.0.0.4"
              ansible_ssh_common_args: -o ProxyJump=bastion
        rack2:
          hosts:
            kvm5: {ansible_host: "{{ lookup('dig', 'x') }}", ansible_password: !vault "x"}
            kvm6: {ansible_port: many}
          odd: 1
`

func TestYAML(t *testing.T) {
	for name, file := range map[string]string{"a suffix": "hosts.yml", "none": "hosts"} {
		t.Run(name, func(t *testing.T) {
			i, err := Read(files(map[string]string{file: yml}), file)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := names(i), []string{"kvm1.example.com", "kvm2.example.com", "kvm3", "kvm4", "kvm5", "kvm6"}; !slices.Equal(got, want) {
				t.Errorf("hosts are %v, want %v", got, want)
			}
			if h := find(t, i, "kvm4"); h.Address != "10.0.0.4" || h.Port != 2222 || h.User != "root" || !slices.Equal(h.Groups, []string{"kvm", "rack1"}) {
				t.Errorf("kvm4: %+v", h)
			}
			if h := find(t, i, "kvm5"); h.Address != "" {
				t.Errorf("a template became an address: %+v", h)
			}
			notes := strings.Join(i.Notes, "\n")
			for _, want := range []string{`group rack2: "odd"`, "kvm4: ansible_ssh_common_args: options of ssh are not taken over", "kvm5: ansible_host is a template", "kvm5: ansible_password: passwords are not taken over", `kvm6: ansible_port "many" is no port`} {
				if !strings.Contains(notes, want) {
					t.Errorf("no note says %q:\n%s", want, notes)
				}
			}
			if i.Ignored["dns"] != 6 {
				t.Errorf("ignored: %v", i.Ignored)
			}
		})
	}
}

func TestDirectory(t *testing.T) {
	i, err := Read(files(map[string]string{"inv/1.ini": "[a]\nkvm1\n", "inv/2.yaml": "a:\n  hosts:\n    kvm2:\n", "inv/.hidden": "kvm3\n", "inv/group_vars/a": "ansible_port: 23\n", "inv/more/x": "kvm4"}), "inv")
	if err != nil {
		t.Fatal(err)
	}
	if got := names(i); !slices.Equal(got, []string{"kvm1", "kvm2"}) || i.Hosts[1].Port != 23 {
		t.Errorf("hosts: %+v", i.Hosts)
	}
	if len(i.Notes) != 1 || !strings.Contains(i.Notes[0], "inv/more") {
		t.Errorf("notes: %q", i.Notes)
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"program":      {"inv", "#!/bin/sh\necho\n", "ansible-inventory"},
		"plugin":       {"aws.yml", "plugin: amazon.aws.aws_ec2\n", "ansible-inventory"},
		"list":         {"l.json", `{"_meta": {}}`, "--yaml"},
		"loop":         {"hosts", "[a:children]\nb\n[b:children]\na\n", "its own children"},
		"range":        {"hosts", "kvm[3:1]\n", "line 1"},
		"huge":         {"hosts", "kvm[1:99999999]\n", "more than"},
		"many":         {"hosts", "kvm[1:999][1:999]\n", "more than"},
		"quote":        {"hosts", "kvm1 a='b\n", "not closed"},
		"variable":     {"hosts", "kvm1 alias\n", "NAME=VALUE"},
		"section":      {"hosts", "[a:kids]\n", "section"},
		"yaml":         {"h.yml", "a: [\n", "h.yml"},
		"yaml hosts":   {"h.yml", "a:\n  hosts: [kvm1]\n", "not a mapping"},
		"not a map":    {"h.yml", "- a\n", "mapping"},
		"yaml, a loop": {"h.yml", "a: &a\n  children:\n    a: *a\n", "too deeply"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(files(map[string]string{c.file: c.text}), c.file)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestExpand(t *testing.T) {
	for pattern, want := range map[string][]string{
		"kvm1": {"kvm1"}, "kvm[08:10]": {"kvm08", "kvm09", "kvm10"}, "r[a:b]-[1:2]": {"ra-1", "ra-2", "rb-1", "rb-2"}, "x[1:5:2].d": {"x1.d", "x3.d", "x5.d"}, "[2001:db8::1]": {"2001:db8::1"},
	} {
		if got, err := Expand(pattern); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s is %v (%v), want %v", pattern, got, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("hosts", ini)
	f.Add("hosts.yml", yml)
	f.Add("h.yml", "a: &a {children: {b: *a}}\n")
	f.Add("h.yml", "a: {vars: {<<: [{b: 1}, {c: 2}]}}")
	f.Fuzz(func(t *testing.T, name, text string) {
		if name != "hosts" && name != "hosts.yml" {
			name = "h.yml"
		}
		i, err := Read(files(map[string]string{name: text}), name)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, h := range i.Hosts {
			if h.Port < 0 || h.Port > 65535 || seen[h.Name] {
				t.Errorf("an odd host: %+v", h)
			}
			seen[h.Name] = true
		}
	})
}
