package ansible

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Bounds of what is read.
const (
	maxFile  = 16 << 20 // bytes of one file
	maxHosts = 20_000
	maxDepth = 64 // of groups in groups
	// maxGroups bounds the groups that are read, those behind aliases each time.
	maxGroups = 50_000
	maxMerges = 4 // of mappings merged into each other
)

// Inventory is what an Ansible inventory says about hosts.
type Inventory struct {
	Hosts []Host // in the order of the files
	// Notes tell what was not taken over, a sentence each, without the
	// variables.
	Notes []string
	// Ignored counts the hosts for which a variable was set that says nothing
	// about how a host is reached, by its name.
	Ignored map[string]int
}

// Host is one host of an inventory.
type Host struct {
	Name   string
	Groups []string // all that it is in, sorted, without "all" and "ungrouped"
	// Direct are the groups that list the host themselves.
	Direct   []string
	Address  string // ansible_host; "" means Name
	Port     int    // ansible_port; 0 is not set
	User     string // ansible_user
	Identity string // ansible_ssh_private_key_file
	Become   bool   // ansible_become
}

// group is a group while it is read. Vars hold the values as they are
// written, but for quotes.
type group struct {
	name     string
	hosts    []string
	children []string
	vars     map[string]string
}

// reader gathers what files say.
type reader struct {
	files  fs.FS
	groups map[string]*group
	order  []string          // of hosts
	hosts  map[string]vars   // variables of hosts, from the inventory itself
	ports  map[string]string // of names written as NAME:PORT
	notes  []string
	read   int // groups
}

type vars map[string]string

// Read reads an inventory: a file in INI or YAML, or a directory of such
// files, with the group_vars and host_vars beside it. An error says which file
// cannot be read and why; it wraps that of the file system.
func Read(files fs.FS, name string) (*Inventory, error) {
	r := &reader{files: files, groups: map[string]*group{}, hosts: map[string]vars{}, ports: map[string]string{}}
	info, err := fs.Stat(files, name)
	if err != nil {
		return nil, err
	}
	beside := path.Dir(name)
	if info.IsDir() {
		beside = name
		err = r.directory(name)
	} else {
		err = r.file(name)
	}
	if err != nil {
		return nil, err
	}
	if err := r.loops(); err != nil {
		return nil, err
	}
	return r.inventory(beside)
}

// directory reads each file of a directory, as Ansible does: not hidden ones
// and not those of other kinds.
func (r *reader) directory(name string) error {
	entries, err := fs.ReadDir(r.files, name)
	if err != nil {
		return err
	}
	read := 0
	for _, e := range entries {
		n := e.Name()
		switch {
		case e.IsDir():
			if n != "group_vars" && n != "host_vars" {
				r.note("the directory %s was not read", path.Join(name, n))
			}
			continue
		case strings.HasPrefix(n, "."), strings.HasSuffix(n, "~"), slices.Contains([]string{".cfg", ".ini.bak", ".orig", ".pyc", ".retry", ".rpm"}, path.Ext(n)):
			continue
		}
		if err := r.file(path.Join(name, n)); err != nil {
			return err
		}
		read++
	}
	if read == 0 {
		return fmt.Errorf("%s holds no inventory", name)
	}
	return nil
}

func (r *reader) file(name string) error {
	text, err := r.text(name)
	if err != nil {
		return err
	}
	if strings.HasPrefix(text, "#!") {
		return fmt.Errorf("%s is a program, and nothing is run here: save what it says with ansible-inventory -i %s --list --yaml --output hosts.yml", name, path.Base(name))
	}
	ext := path.Ext(name)
	if ext == ".yml" || ext == ".yaml" || ext == ".json" || ext != ".ini" && looksLikeYAML(text) {
		err = r.yaml(text)
	} else {
		err = r.ini(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(r.order) > maxHosts {
		return fmt.Errorf("%s: more than %d hosts", name, maxHosts)
	}
	return nil
}

// looksLikeYAML tells a YAML inventory without a suffix by its first line.
func looksLikeYAML(text string) bool {
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, " \t\r\n")
		if l == "" || strings.HasPrefix(l, "#") || strings.HasPrefix(l, ";") {
			continue
		}
		return l == "---" || strings.HasPrefix(l, "{") || strings.HasSuffix(l, ":") && !strings.HasPrefix(l, "[")
	}
	return false
}

func (r *reader) text(name string) (string, error) {
	info, err := fs.Stat(r.files, name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", name)
	}
	if info.Size() > maxFile {
		return "", fmt.Errorf("%s is larger than %d MiB", name, maxFile>>20)
	}
	b, err := fs.ReadFile(r.files, name)
	return strings.TrimPrefix(string(b), "\ufeff"), err
}

func (r *reader) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *reader) group(name string) *group {
	g := r.groups[name]
	if g == nil {
		g = &group{name: name, vars: vars{}}
		r.groups[name] = g
	}
	return g
}

// add puts the hosts of a pattern into a group, with variables.
func (r *reader) add(g *group, pattern string, values vars) error {
	name, port := splitPort(pattern)
	names, err := Expand(name)
	if err != nil {
		return err
	}
	for _, n := range names {
		if r.hosts[n] == nil {
			r.hosts[n] = vars{}
			r.order = append(r.order, n)
		}
		for k, v := range values {
			r.hosts[n][k] = v
		}
		if port != "" {
			r.ports[n] = port
		}
		if !slices.Contains(g.hosts, n) {
			g.hosts = append(g.hosts, n)
		}
	}
	return nil
}

func (g *group) child(name string) {
	if !slices.Contains(g.children, name) {
		g.children = append(g.children, name)
	}
}

// loops refuses groups that are their own children.
func (r *reader) loops() error {
	state := map[string]int{} // 1 on the way, 2 done
	var visit func(name string, depth int) error
	visit = func(name string, depth int) error {
		switch {
		case state[name] == 2:
			return nil
		case state[name] == 1:
			return fmt.Errorf("group %s is among its own children", name)
		case depth > maxDepth:
			return errors.New("groups are nested too deeply")
		}
		state[name] = 1
		for _, c := range r.group(name).children {
			if err := visit(c, depth+1); err != nil {
				return err
			}
		}
		state[name] = 2
		return nil
	}
	for _, name := range sortedKeys(r.groups) {
		if err := visit(name, 0); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// inventory puts together what was read.
func (r *reader) inventory(beside string) (*Inventory, error) {
	parents := map[string][]string{}
	for _, name := range sortedKeys(r.groups) {
		for _, c := range r.groups[name].children {
			parents[c] = append(parents[c], name)
		}
	}
	depth := map[string]int{}
	var deep func(name string) int
	deep = func(name string) int {
		if d, ok := depth[name]; ok {
			return d
		}
		d := 0
		for _, p := range parents[name] {
			d = max(d, deep(p)+1)
		}
		depth[name] = d
		return d
	}
	direct := map[string][]string{}
	for _, name := range sortedKeys(r.groups) {
		for _, h := range r.groups[name].hosts {
			direct[h] = append(direct[h], name)
		}
	}
	out := &Inventory{Ignored: map[string]int{}}
	files := map[string]vars{} // of group_vars and host_vars
	of := func(kind, name string) (vars, error) {
		key := kind + "/" + name
		if v, ok := files[key]; ok {
			return v, nil
		}
		v, err := r.varFiles(path.Join(beside, kind), name)
		files[key] = v
		return v, err
	}
	for _, name := range r.order {
		in := map[string]bool{}
		var climb func(g string)
		climb = func(g string) {
			if in[g] {
				return
			}
			in[g] = true
			for _, p := range parents[g] {
				climb(p)
			}
		}
		for _, g := range direct[name] {
			climb(g)
		}
		delete(in, "all")
		groups := sortedKeys(in)
		slices.SortStableFunc(groups, func(a, b string) int { return cmp.Compare(deep(a), deep(b)) })
		groups = append([]string{"all"}, groups...)
		// Later layers win, in Ansible's order.
		values := vars{}
		lay := func(v vars) {
			for k, s := range v {
				values[k] = s
			}
		}
		for _, g := range groups {
			lay(r.group(g).vars)
		}
		for _, g := range groups {
			v, err := of("group_vars", g)
			if err != nil {
				return nil, err
			}
			lay(v)
		}
		lay(r.hosts[name])
		v, err := of("host_vars", name)
		if err != nil {
			return nil, err
		}
		lay(v)
		h := r.host(name, values, out.Ignored)
		if h == nil {
			continue
		}
		builtIn := func(g string) bool { return g == "all" || g == "ungrouped" }
		h.Groups = slices.DeleteFunc(groups, builtIn)
		slices.Sort(h.Groups)
		h.Direct = slices.DeleteFunc(slices.Clone(direct[name]), builtIn)
		out.Hosts = append(out.Hosts, *h)
	}
	out.Notes = r.notes
	return out, nil
}
