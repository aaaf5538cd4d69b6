package inventory

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// Options are what the command line adds to a configuration.
type Options struct {
	// Vars are values of variables by name, as text. A variable of another
	// type than string reads its text as an expression.
	Vars map[string]string
	// VarFiles are files of NAME = VALUE lines (HCL, or JSON where the name
	// ends in .json), later ones winning; Vars win over all of them. A
	// relative path is relative to the working directory.
	VarFiles []string
}

// sourceDefault is the file of the Range of a value that nobody wrote.
const sourceDefault = "default"

// loader holds one load.
type loader struct {
	src       *sources
	diags     Diagnostics
	top       *node // all blocks of all files
	decls     map[string]map[string]*declaration
	order     map[string][]*declaration // by kind, as written
	vars      map[string]cty.Value
	badVars   map[string]bool // declared, but without a usable value
	locals    map[string]*local
	funcs     map[string]function.Function
	stack     []string // values being worked out, for circles
	policies  map[string]*policy
	templates map[string]*node
	names     map[string]*node // "host kvm1" and where it was declared
	networks  map[string]networkInfo
	clusters  map[string]*clusterInfo
	migration Migration        // of the fleet
	origins   map[string]Range // of the fleet's defaults
	claims    map[string]claim
	shared    []sharedName
	badCells  map[cell]bool // reported
	fleet     *Fleet

	windows     map[string]Window
	windowsUsed map[string]bool
	spread      map[string]*perCluster // authorities by their declared names
}

// Load reads the configuration of a directory: all *.hcl and *.hcl.json
// files, in any order. The Fleet is nil when the diagnostics have errors.
// Nothing outside the directory is read but VarFiles, and nothing is run.
func Load(dir string, opts Options) (*Fleet, Diagnostics) {
	l := &loader{
		top:       &node{spec: rootSpec, attrs: map[string]*attr{}},
		decls:     map[string]map[string]*declaration{},
		order:     map[string][]*declaration{},
		vars:      map[string]cty.Value{},
		badVars:   map[string]bool{},
		locals:    map[string]*local{},
		policies:  map[string]*policy{},
		templates: map[string]*node{},
		names:     map[string]*node{},
		networks:  map[string]networkInfo{},
		clusters:  map[string]*clusterInfo{},
		origins:   map[string]Range{},
		claims:    map[string]claim{},
		badCells:  map[cell]bool{},
		fleet:     &Fleet{Hosts: []Host{}, Clusters: []Cluster{}, Networks: []Network{}, Authorities: []Authority{}},

		windows:     map[string]Window{},
		windowsUsed: map[string]bool{},
		spread:      map[string]*perCluster{},
	}
	l.load(dir, opts)
	l.diags.finish()
	if l.diags.HasErrors() {
		return nil, l.diags
	}
	return l.fleet, l.diags
}

func (l *loader) load(dir string, opts Options) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		l.src, err = openSources(abs)
	}
	if err != nil {
		l.diags.add(Diagnostic{Severity: SeverityError, Summary: "Configuration directory not readable", Detail: fmt.Sprintf("The directory %s cannot be read: %v. virtrust init writes a first configuration; -C names another directory.", dir, reason(err))})
		return
	}
	defer l.src.root.Close()
	l.diags.sources = l.src.files
	l.fleet.Dir = abs
	l.funcs = l.functions()
	if !l.readFiles() {
		return
	}
	l.refuseLaterBlocks(l.top.blocks)
	l.declare()
	l.loadVariables(opts)
	l.decode()
	l.fleet.Digest = l.digest()
}

// readFiles parses every file. A file that does not parse leaves references
// dangling, so nothing more is judged then.
func (l *loader) readFiles() bool {
	names, err := l.src.list()
	if err != nil {
		l.diags.add(Diagnostic{Severity: SeverityError, Summary: "Configuration directory not readable", Detail: sentence(err.Error())})
		return false
	}
	if len(names) == 0 {
		l.diags.add(Diagnostic{Severity: SeverityError, Summary: "No configuration", Detail: fmt.Sprintf("There is no *.hcl file in %s. Run virtrust init to write a first one.", l.fleet.Dir)})
		return false
	}
	if len(names) > maxFiles {
		l.diags.add(Diagnostic{Severity: SeverityError, Summary: "Too many files", Detail: fmt.Sprintf("A configuration may have %d files and this has %d.", maxFiles, len(names))})
		return false
	}
	whole := true
	for _, name := range names {
		src, err := l.src.bytes(name)
		if err != nil {
			p := hcl.InitialPos
			l.errorAt(hcl.Range{Filename: name, Start: p, End: p}, "File not readable", sentence(err.Error()))
			whole = false
			continue
		}
		l.src.files[name] = src
		body, found := parse(src, name)
		for _, d := range found {
			l.diags.add(d)
			whole = whole && d.Severity != SeverityError
		}
		if body != nil {
			n := &node{spec: rootSpec}
			l.read(body, n, &scope{})
			l.top.blocks = append(l.top.blocks, n.blocks...)
		}
	}
	return whole
}

// declare registers the blocks that references may name, and locals.
func (l *loader) declare() {
	var kept []*node
	for _, n := range l.top.blocks {
		kind := n.spec.kind
		if kind == "locals" {
			l.declareLocals(n)
			continue
		}
		if !n.spec.many {
			if i := slices.IndexFunc(kept, func(k *node) bool { return k.spec == n.spec && k.label() == n.label() }); i >= 0 {
				if kept[i].rng != n.rng {
					l.duplicate(n, kept[i])
				}
				continue
			}
		}
		kept = append(kept, n)
		if slices.Contains(refKinds, kind) || kind == "variable" {
			d := &declaration{kind: kind, node: n}
			if l.decls[kind] == nil {
				l.decls[kind] = map[string]*declaration{}
			}
			l.decls[kind][n.label()] = d
			l.order[kind] = append(l.order[kind], d)
		}
	}
	l.top.blocks = kept
}

func (l *loader) declareLocals(n *node) {
	for _, name := range n.attrNames() {
		a := n.attrs[name]
		if first, ok := l.locals[name]; ok {
			l.errorAt(a.nrng, "Second local."+name, fmt.Sprintf("It was defined at %s already. Give one of them another name.", sourceRange(first.attr.nrng)))
			continue
		}
		l.locals[name] = &local{attr: a}
	}
}

// decode turns blocks into the fleet, in an order in which each finds what it
// needs. Locals that nothing uses are evaluated too, for their mistakes.
func (l *loader) decode() {
	for _, name := range sortedKeys(l.locals) {
		l.local(name, l.locals[name], l.locals[name].attr.nrng)
	}
	for _, kind := range refKinds {
		for _, d := range l.order[kind] {
			l.checkLabel(d.node)
			l.expand(d, d.node.rng)
		}
	}
	l.decodeAuthorities()
	l.decodeRelyingParties()
	l.decodeNetworks()
	l.decodeWindows()
	for _, d := range l.order["policy"] {
		l.policy(d)
	}
	l.unusedWindows()
	l.decodeFleet()
	l.decodeClusters()
	l.decodeHosts()
	l.spreadAuthorities()
	l.decodeRemoved()
	l.firewallSources()
}

func (l *loader) errorAt(rng hcl.Range, summary, detail string) {
	l.diags.add(Diagnostic{Severity: SeverityError, Summary: summary, Detail: detail, Source: span(rng)})
}

func (l *loader) warnAt(rng hcl.Range, summary, detail string) {
	l.diags.add(Diagnostic{Severity: SeverityWarning, Summary: summary, Detail: detail, Source: span(rng)})
}

func (l *loader) noteAt(rng hcl.Range, summary, detail string) {
	l.diags.add(Diagnostic{Severity: SeverityNote, Summary: summary, Detail: detail, Source: span(rng)})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
