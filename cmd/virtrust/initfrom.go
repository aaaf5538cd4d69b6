package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/ansible"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/inventory"
)

// fromKnownHosts takes the hosts of known_hosts that a pattern fits.
func (o *initFlags) fromKnownHosts() ([]string, error) {
	file := o.KnownHosts
	if file == "" {
		file = "~/.ssh/known_hosts"
	}
	file, err := home(file)
	if err != nil {
		return nil, err
	}
	patterns, err := expand(o.patterns)
	if err != nil {
		return nil, err
	}
	known, err := remote.ListKnown(file, patterns)
	if err != nil {
		return nil, err
	}
	var found []inventory.Found
	for _, k := range known.Hosts {
		f := inventory.Found{Name: k.Name, Aliases: k.Aliases, Port: k.Port}
		if fits(patterns, append([]string{k.Name}, k.Aliases...)) {
			found = append(found, f)
		}
	}
	var notes []string
	if known.Hashed > 0 {
		notes = append(notes, fmt.Sprintf("%s of %s cannot be listed, their names are hashed: a name or a range finds them, such as kvm[1:4].example.com.", plural(known.Hashed, "entry", "entries"), file))
	}
	if known.Passed > 0 {
		notes = append(notes, fmt.Sprintf("%s of %s: patterns, authorities, revoked keys, or not to be read.", plural(known.Passed, "line was passed over", "lines were passed over"), file))
	}
	if len(found) == 0 {
		return nil, &hinted{fmt.Errorf("no host of %s was taken", file), strings.Join(append(notes, "give a pattern: virtrust init --from-known-hosts 'kvm*.example.com'"), " ")}
	}
	return o.adopt(found, notes)
}

// fromAnsible takes the hosts of an inventory that a pattern or group fits.
func (o *initFlags) fromAnsible() ([]string, error) {
	file, err := filepath.Abs(o.ansible)
	if err != nil {
		return nil, err
	}
	patterns, err := expand(o.patterns)
	if err != nil {
		return nil, err
	}
	inv, err := ansible.Read(os.DirFS(filepath.Dir(file)), filepath.Base(file))
	if err != nil {
		return nil, fmt.Errorf("the inventory %s: %w", o.ansible, err)
	}
	taken, silent := map[string]bool{}, 0
	var found []inventory.Found
	for _, h := range inv.Hosts {
		if !fits(patterns, append([]string{h.Name, h.Address}, h.Groups...)) {
			continue
		}
		taken[h.Name] = true
		if h.User == "" {
			silent++
		}
		key := h.Identity
		if key != "" && !filepath.IsAbs(key) && !strings.HasPrefix(key, "~/") {
			if key, err = filepath.Abs(key); err != nil {
				return nil, err
			}
		}
		found = append(found, inventory.Found{Name: h.Name, Address: h.Address, Groups: h.Groups, Direct: h.Direct, Port: h.Port, User: h.User, Identity: key})
	}
	if len(found) == 0 {
		return nil, &hinted{fmt.Errorf("no host of %s was taken", o.ansible), "it has " + plural(len(inv.Hosts), "host", "hosts") + "; a PATTERN is a name, a glob, a range or a group"}
	}
	notes := sameForMany(slices.DeleteFunc(inv.Notes, func(n string) bool {
		name, _, ok := strings.Cut(n, ": ")
		return ok && !taken[name] && slices.ContainsFunc(inv.Hosts, func(h ansible.Host) bool { return h.Name == name })
	}))
	if silent > 0 && o.user == "" {
		notes = append(notes, fmt.Sprintf("%s no ansible_user: root logs in there, --user names another.", plural(silent, "host has", "hosts have")))
	}
	if len(inv.Ignored) > 0 {
		var names []string
		for n := range inv.Ignored {
			names = append(names, n)
		}
		slices.Sort(names)
		notes = append(notes, "Variables that say nothing about how a host is reached are not taken over: "+strings.Join(names, ", ")+".")
	}
	return o.adopt(found, notes)
}

// sameForMany tells a note of many hosts once.
func sameForMany(notes []string) []string {
	var order []string
	hosts := map[string][]string{}
	for _, n := range notes {
		host, text, ok := strings.Cut(n, ": ")
		if !ok || strings.Contains(host, " ") {
			host, text = "", n
		}
		if _, seen := hosts[text]; !seen {
			order = append(order, text)
		}
		hosts[text] = append(hosts[text], host)
	}
	var out []string
	for _, text := range order {
		switch h := hosts[text]; {
		case h[0] == "":
			out = append(out, text+".")
		case len(h) <= 4:
			out = append(out, strings.Join(h, ", ")+": "+text+".")
		default:
			out = append(out, fmt.Sprintf("%s and %d more: %s.", strings.Join(h[:3], ", "), len(h)-3, text))
		}
	}
	return out
}

func (o *initFlags) adopt(found []inventory.Found, notes []string) ([]string, error) {
	hosts, more, err := inventory.Adopt(found, inventory.AdoptOptions{Cluster: o.Cluster, Groups: o.groups})
	if err != nil {
		return nil, err
	}
	if len(hosts) == 0 {
		return nil, &hinted{errors.New("none of the hosts that were found is fit"), strings.Join(more, " ")}
	}
	o.Hosts = hosts
	return append(notes, more...), nil
}

// expand writes out the ranges of patterns: kvm[01:20]. A class of a glob,
// kvm[12], stays.
func expand(patterns []string) ([]string, error) {
	var out []string
	for _, p := range patterns {
		if strings.ContainsRune(p, '[') && strings.ContainsRune(p, ':') {
			names, err := ansible.Expand(p)
			if err != nil {
				return nil, err
			}
			out = append(out, names...)
			continue
		}
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("%q is not a name, a glob or a range: %w", p, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// fits tells whether a pattern fits one of the names; no patterns fit all.
func fits(patterns, names []string) bool {
	if len(patterns) == 0 {
		return true
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		return slices.ContainsFunc(names, func(n string) bool {
			ok, _ := path.Match(p, n) // checked by expand
			return n != "" && (ok || p == n)
		})
	})
}
