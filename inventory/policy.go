package inventory

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/virtrust/virtrust/templates"
)

// policy is a declared policy on its way to a Policy.
type policy struct {
	decl    *declaration
	state   state
	merged  *node // over its template and everything that it extends
	chain   []*node
	tmpl    string
	tmplRng hcl.Range // where the template is asked for
	value   Policy
	// unbound are the template's authorities that nobody declared, by what
	// they are needed for: hosts that do without leave out what uses them.
	unbound map[string][]string
	ok      bool
	// What is wrong with listener "vnc" is said once for all hosts.
	vncDone, vncBad bool
}

// policy merges and decodes a declared policy once.
func (l *loader) policy(d *declaration) *policy {
	name := d.node.label()
	if p := l.policies[name]; p != nil {
		return p
	}
	p := &policy{decl: d}
	l.policies[name] = p
	if !l.mergePolicy(p) {
		return p
	}
	l.decodePolicy(p)
	return p
}

// mergePolicy lays a policy over what it starts from. The outcome does not
// evaluate anything but template and extends.
func (l *loader) mergePolicy(p *policy) bool {
	n := p.decl.node
	r := &reader{l: l, n: n, scope: ownScope}
	if !l.push("policy."+n.label(), n.rng) {
		return false
	}
	defer l.pop()
	p.state = inProgress
	defer func() { p.state = done }()
	tmpl, at, fromTemplate := r.text("template", "")
	base, baseAt, extends := r.reference("extends", "policy")
	switch {
	case r.bad:
		return false
	case fromTemplate && extends:
		l.errorAt(baseAt.rng, "Two bases of a policy", "A policy starts from a template or extends another policy. Remove one of the two.")
		return false
	case fromTemplate:
		if !r.isWord(at, "template", tmpl, templates.Names()) {
			return false
		}
		p.tmpl, p.tmplRng = tmpl, at.rng
		p.chain = []*node{n}
		p.merged = merge(l.template(tmpl), n)
	case extends:
		b := l.policies[base.name]
		if b == nil {
			b = l.policy(base.inst.decl)
		}
		if b.state == inProgress {
			l.cycle(baseAt.rng, "policy."+base.name)
			return false
		}
		if b.merged == nil {
			return false
		}
		p.tmpl, p.tmplRng = b.tmpl, b.tmplRng
		p.chain = append(slices.Clone(b.chain), n)
		p.merged = merge(b.merged, n)
	default:
		p.chain = []*node{n}
		p.merged = merge(&node{spec: policySpec}, n)
	}
	return true
}

// ownScope evaluates an attribute where it was written.
func ownScope(a *attr) *scope { return a.scope }

// template reads a shipped template. It is the project's own text, so a
// mistake in it is a bug.
func (l *loader) template(name string) *node {
	if n := l.templates[name]; n != nil {
		return n
	}
	src, _ := templates.Source(name)
	file := "template:" + name
	body, found := parse(src, file)
	if len(found) > 0 {
		panic("inventory: " + file + ": " + found[0].Summary + ": " + found[0].Detail)
	}
	l.src.files[file] = src
	root := &node{spec: rootSpec}
	l.read(body, root, &scope{template: name})
	n := root.find("policy", name)
	l.templates[name] = n
	return n
}

// bindings reads which authorities a template's names stand for.
func (l *loader) bindings(p *policy, r *reader) map[string]*ref {
	out := map[string]*ref{}
	i, ok := r.value("authorities")
	if !ok {
		return out
	}
	ty := i.v.Type()
	if _, is := asRef(i.v); is || !ty.IsObjectType() && !ty.IsMapType() {
		r.problem(i, "Map of authorities expected", "Write authorities = { NAME = authority.OTHER }, where NAME is a name that the template uses.")
		return out
	}
	used := l.templateAuthorities(p.tmpl)
	values := i.v.AsValueMap()
	for _, name := range sortedKeys(values) {
		if !slices.Contains(used, name) {
			r.problem(i, fmt.Sprintf("Unused name %q", name), "The template uses "+list(used)+"."+didYouMean(name, used))
			continue
		}
		if x, ok := r.asReference(i.part(values[name]), "authority"); ok {
			out[name] = x
		}
	}
	return out
}

// templateAuthorities are the names of authorities that a template refers to.
func (l *loader) templateAuthorities(name string) []string {
	if name == "" {
		return nil
	}
	var names []string
	var walk func(*node)
	walk = func(n *node) {
		for _, a := range n.attrs {
			for _, t := range a.expr.Variables() {
				if s, _, ok := step(t); ok && t.RootName() == "authority" {
					names = append(names, s)
				}
			}
		}
		for _, b := range n.blocks {
			walk(b)
		}
	}
	walk(l.template(name))
	slices.Sort(names)
	return slices.Compact(names)
}

// decodePolicy turns the merged blocks into a Policy.
func (l *loader) decodePolicy(p *policy) {
	n := p.merged
	r := &reader{l: l, n: n, scope: ownScope, origins: map[string]Range{}}
	bound := l.bindings(p, r)
	badBindings := r.bad
	r.scope = func(a *attr) *scope {
		if a.scope.template == "" {
			return a.scope
		}
		return &scope{template: a.scope.template, bindings: bound, badBindings: badBindings, user: p.tmplRng, policy: n.label()}
	}
	p.unbound = map[string][]string{}
	p.value = Policy{Name: n.label(), Template: p.tmpl, Rollout: defaultRollout, Source: sourceRange(n.rng), Origins: r.origins}
	v := &p.value
	places := map[string]*node{}
	for _, b := range n.blocks {
		path := b.spec.kind
		if b.label() != "" {
			path += "." + b.label()
		}
		c := r.child(b, path+".")
		if b.spec != rolloutSpec && !c.flag("enabled", true) {
			continue
		}
		if missing := l.unbound(b, bound); len(missing) > 0 && !badBindings {
			if purpose := c.neededFor(); purpose != "" {
				p.unbound[purpose] = append(p.unbound[purpose], missing...)
				continue
			}
		}
		switch b.spec {
		case certificateSpec:
			v.Certificates = append(v.Certificates, l.certificate(c, places))
		case trustSpec:
			format := c.trustFormat()
			if t := l.trust(c, places); format == formatPEM {
				v.Trusts = append(v.Trusts, t)
			} else {
				v.Stores = append(v.Stores, t.store(format))
			}
		case settingsSpec:
			v.Settings = append(v.Settings, l.settings(c, places))
		case listenerSpec:
			if b.label() == vncListener {
				v.VNC = c.vnc()
				break
			}
			v.Listeners = append(v.Listeners, l.listener(c))
		case firewallSpec:
			v.Firewall = l.firewall(c)
		case rolloutSpec:
			v.Rollout = rollout(c)
		}
		r.bad = r.bad || c.bad
	}
	v.openListener()
	if !r.bad {
		l.checkIssuersTrusted(p)
	}
	p.ok = !r.bad
}

// unbound lists the authorities that a block takes from its template and that
// are neither bound nor declared.
func (l *loader) unbound(b *node, bound map[string]*ref) []string {
	var out []string
	for _, a := range b.attrs {
		if a.scope.template == "" {
			continue
		}
		for _, t := range a.expr.Variables() {
			name, _, ok := step(t)
			if ok && t.RootName() == "authority" && bound[name] == nil && l.decls["authority"][name] == nil {
				out = append(out, name)
			}
		}
	}
	return out
}

// forHost gives a host its own copy of a policy: without the blocks that it
// does not need.
func (l *loader) forHost(p *policy, h *Host) Policy {
	v := p.value
	off := func(neededFor string) bool {
		return neededFor == ForMigration && h.Migration == MigrationOff || neededFor == ForVNC && v.VNC == nil
	}
	v.Certificates = slices.DeleteFunc(slices.Clone(v.Certificates), func(c Certificate) bool { return off(c.NeededFor) })
	v.Trusts = slices.DeleteFunc(slices.Clone(v.Trusts), func(t TrustFile) bool { return off(t.NeededFor) })
	v.Stores = slices.DeleteFunc(slices.Clone(v.Stores), func(t TrustStore) bool { return off(t.NeededFor) })
	v.Settings = slices.Clone(v.Settings)
	for i := range v.Settings {
		v.Settings[i].Values = slices.DeleteFunc(slices.Clone(v.Settings[i].Values), func(s Setting) bool { return off(s.NeededFor) })
	}
	if v.VNC != nil {
		l.vncSettings(p, &v)
	}
	v.Settings = slices.DeleteFunc(v.Settings, func(s Settings) bool { return len(s.Values) == 0 })
	for purpose, names := range p.unbound {
		if off(purpose) {
			continue
		}
		why, instead := fmt.Sprintf("hosts that migrate guests with TLS, such as %s (migration = %q)", h.Name, h.Migration), `set migration = "off"`
		if purpose == ForVNC {
			why, instead = "encrypted VNC consoles", `remove listener "vnc"`
		}
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			l.errorAt(p.tmplRng, fmt.Sprintf("Authority %q not declared", name), fmt.Sprintf(
				"Policy %q takes authority.%s from its template for %s. Declare authority %q, bind the name to another one: authorities = { %s = authority.NAME }, or %s.%s",
				v.Name, name, why, name, name, instead, didYouMean(name, l.declared("authority"))))
		}
		delete(p.unbound, purpose) // once for all hosts
	}
	return v
}

var defaultRollout = Rollout{Canary: 1, Batch: "25%", Restarts: 1, MaxFailures: 0, MaxUnreachable: "10%"}

func rollout(r *reader) Rollout {
	d := defaultRollout
	return Rollout{
		Canary:         r.number("canary", d.Canary, 0, maxHosts),
		Batch:          r.share("batch", d.Batch),
		Restarts:       r.number("restarts", d.Restarts, 1, maxHosts),
		MaxFailures:    r.number("max_failures", d.MaxFailures, 0, maxHosts),
		MaxUnreachable: r.share("max_unreachable", d.MaxUnreachable),
		Windows:        r.windowsOf("windows"),
	}
}

// share reads a count of hosts or a percentage.
func (r *reader) share(name, otherwise string) string {
	s, i, ok := r.text(name, otherwise)
	if !ok {
		return otherwise
	}
	digits, percent := strings.CutSuffix(s, "%")
	n, err := strconv.Atoi(digits)
	least := 1
	if name == "max_unreachable" {
		least = 0
	}
	if err != nil || n < least || percent && n > 100 || n > maxHosts || strings.HasPrefix(digits, "+") {
		r.problem(i, "Unfit "+name, `Give a number of hosts or a percentage, such as 2 or "25%".`)
		return otherwise
	}
	return s
}

// duration reads a time such as "90d", "12h" or "30m".
func (r *reader) duration(name string, otherwise time.Duration) (time.Duration, item) {
	s, i, ok := r.text(name, "")
	if !ok {
		return otherwise, i
	}
	units := map[byte]time.Duration{'d': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute}
	var unit time.Duration
	if len(s) > 1 {
		unit = units[s[len(s)-1]]
	}
	n := 0
	var err error
	if unit != 0 {
		n, err = strconv.Atoi(s[:len(s)-1])
	}
	const most = 100 * 365 * 24 * time.Hour
	if unit == 0 || err != nil || n <= 0 || s[0] == '+' || time.Duration(n) > most/unit {
		r.problem(i, "Unfit duration", `Give whole days, hours or minutes, such as "90d", "12h" or "30m", 100 years at most.`)
		return otherwise, i
	}
	return time.Duration(n) * unit, i
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
