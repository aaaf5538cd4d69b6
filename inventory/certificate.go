package inventory

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

const defaultLifetime = 90 * 24 * time.Hour

var (
	plainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	account   = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	cleanPath = regexp.MustCompile(`^[A-Za-z0-9._/+-]+$`)
)

// checkLabel refuses labels that are unfit as names in paths and on screens.
// With for_each the label is no name of a thing, so _ may stand in it.
func (l *loader) checkLabel(n *node) {
	fit := plainName.MatchString(n.label())
	if n.attrs["for_each"] != nil {
		fit = fit || identifier.MatchString(n.label())
	}
	if !fit {
		l.unfitLabel(n)
	}
}

var identifier = regexp.MustCompile(`^[a-z0-9_-]{1,63}$`)

func (l *loader) unfitLabel(n *node) {
	l.errorAt(n.labelRange(), fmt.Sprintf("Unfit name of a %s", n.spec.kind), "A name may hold a-z, 0-9 and - (not at either end), 63 characters in all.")
}

func (l *loader) certificate(r *reader, places map[string]*node) Certificate {
	c := Certificate{Name: r.n.label(), Source: sourceRange(r.n.rng)}
	if !plainName.MatchString(c.Name) {
		r.bad = true
		l.unfitLabel(r.n)
	}
	a, _, ok := r.reference("authority", "authority")
	if ok {
		c.Authority = a.name
	} else if r.n.attrs["authority"] == nil {
		r.missing("authority", "authority = authority.NAME")
	}
	c.Usages = r.usages()
	networks, _, _ := r.references("networks", "network")
	for _, n := range networks {
		c.Networks = append(c.Networks, n.inst.name)
	}
	c.Scope = r.word("scope", "host", "host")
	c.KeyUsage = r.word("key_usage", "compatible", "compatible", "strict")
	c.NeededFor = r.neededFor()
	c.OnReplace = r.word("on_replace", "keep", "keep", "revoke")
	lifetimesFit := r.lifetimes(&c)
	key := &node{spec: keySpec}
	if k := r.n.find("key", ""); k != nil {
		key = k
	}
	k := r.child(key, "key.")
	c.KeyAlgorithm = k.word("algorithm", "ecdsa-p256", "ecdsa-p256", "rsa-3072", "rsa-2048")
	r.bad = r.bad || k.bad
	if in := r.n.find("install", ""); in != nil {
		i := r.child(in, "install.")
		c.Install = i.install(places, r.n)
		r.bad = r.bad || i.bad
	} else {
		r.missing("install", "install { directory = …, cert = …, key = … } with each attribute on its own line")
	}
	if a != nil {
		if signer, ok := l.fleet.Authority(a.name); ok {
			c.Foreign = signer.External()
		}
	}
	if a != nil && lifetimesFit {
		l.checkOutlives(r, c, a)
	}
	return c
}

func (r *reader) missing(name, example string) {
	r.bad = true
	r.l.errorAt(r.n.rng, "Missing "+name, fmt.Sprintf("The %s has no %s. Write %s.", r.n.title(), name, example))
}

func (r *reader) usages() []string {
	items, ok := r.list("usages")
	if !ok && r.n.attrs["usages"] == nil {
		r.missing("usages", `usages = ["server"], ["client"] or both`)
	}
	var out []string
	for _, i := range items {
		s, ok := r.asText(i)
		if ok && r.isWord(i, "usage", s, []string{"server", "client"}) && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if ok && len(items) == 0 {
		r.problem(item{rng: r.n.attrs["usages"].expr.Range(), expr: r.n.attrs["usages"].expr, sc: r.scope(r.n.attrs["usages"])},
			"Certificate without a usage", `Give "server", "client" or both.`)
	}
	slices.Sort(out)
	return out
}

// lifetimes tells whether both were written well.
func (r *reader) lifetimes(c *Certificate) bool {
	before := r.bad
	defer func() { r.bad = r.bad || before }()
	r.bad = false
	var at item
	c.Lifetime, _ = r.duration("lifetime", defaultLifetime)
	c.RenewBefore, at = r.duration("renew_before", 0)
	switch {
	case c.RenewBefore == 0:
		c.RenewBefore = c.Lifetime / 3
	case c.RenewBefore >= c.Lifetime:
		r.problem(at, "Renewal before the certificate begins", fmt.Sprintf(
			"renew_before (%s) must be shorter than lifetime (%s): the certificate would be due at once, for ever. The default is a third of the lifetime.",
			showDuration(c.RenewBefore), showDuration(c.Lifetime)))
	}
	return !r.bad
}

// checkOutlives refuses a certificate that cannot be signed for its whole
// lifetime by a fresh authority.
func (l *loader) checkOutlives(r *reader, c Certificate, a *ref) {
	authority, ok := l.fleet.Authority(a.name)
	if !ok || authority.External() || c.Lifetime < authority.Lifetime {
		return
	}
	rng := r.n.rng
	if x := r.n.attrs["lifetime"]; x != nil {
		rng = x.expr.Range()
	}
	r.bad = true
	l.errorAt(rng, "Certificate outlives its authority", fmt.Sprintf(
		"The lifetime is %s and that of authority %q is %s. Give the certificate less.", showDuration(c.Lifetime), a.name, showDuration(authority.Lifetime)))
}

func (r *reader) install(places map[string]*node, owner *node) Install {
	in := Install{
		Directory: r.path_("directory", true),
		Cert:      r.path_("cert", false),
		Key:       r.path_("key", false),
	}
	r.access(&in)
	in.Aliases = r.aliases()
	for _, name := range []string{"directory", "cert", "key"} {
		if r.n.attrs[name] == nil {
			r.missing(name, name+" = …")
		}
	}
	if r.bad {
		return in
	}
	r.l.place(r, places, path.Join(in.Directory, in.Cert), owner, r.n.attrs["cert"].expr.Range())
	r.l.place(r, places, path.Join(in.Directory, in.Key), owner, r.n.attrs["key"].expr.Range())
	for _, a := range in.Aliases {
		rng := r.n.attrs["aliases"].expr.Range()
		r.l.place(r, places, path.Join(in.Directory, a.Cert), owner, rng)
		r.l.place(r, places, path.Join(in.Directory, a.Key), owner, rng)
	}
	return in
}

// access reads who owns the key. Where that is QEMU's account, the host
// decides group and mode.
func (r *reader) access(in *Install) {
	if owner, _, ok := r.text("owner", ""); ok && owner == QEMUAccount {
		in.Owner = owner
		for _, name := range []string{"group", "key_mode"} {
			if i, ok := r.value(name); ok {
				r.problem(i, "Two rules for the access to a key", "With owner = \""+QEMUAccount+"\" the host decides group and mode: its members may be more than QEMU. Leave "+name+" out.")
			}
		}
		return
	}
	in.Owner, in.Group, in.KeyMode = r.account("owner"), r.account("group"), r.mode("key_mode", 0o600)
}

// aliases reads { "CERT" = "KEY" }.
func (r *reader) aliases() []Alias {
	i, ok := r.value("aliases")
	if !ok {
		return nil
	}
	if _, is := asRef(i.v); is || !i.v.Type().IsObjectType() && !i.v.Type().IsMapType() {
		r.problem(i, "Map expected", `Write aliases = { "client-cert.pem" = "client-key.pem" }.`)
		return nil
	}
	var out []Alias
	values := i.v.AsValueMap()
	for _, cert := range sortedKeys(values) {
		key, ok := r.asText(i.part(values[cert]))
		if !ok {
			continue
		}
		for _, p := range []string{cert, key} {
			if problem := checkPath(p, false); problem != "" {
				r.problem(i, "Unfit path", problem)
			}
		}
		out = append(out, Alias{Cert: cert, Key: key})
	}
	return out
}

// neededFor reads for which hosts a block is.
func (r *reader) neededFor() string {
	if r.n.attrs["needed_for"] == nil {
		return ""
	}
	return r.word("needed_for", "", ForMigration, ForVNC)
}

// place gives a path on the host to a block, and refuses it to a second one.
func (l *loader) place(r *reader, places map[string]*node, p string, owner *node, rng hcl.Range) {
	first, taken := places[p]
	if !taken {
		places[p] = owner
		return
	}
	r.bad = true
	what := fmt.Sprintf("%s (%s)", first.title(), sourceRange(first.rng))
	if first == owner {
		what = "another attribute of the same block"
	}
	l.errorAt(rng, "Two owners of "+p, fmt.Sprintf("The path belongs to %s already. Choose another place for one of them.", what))
}

// path_ reads an absolute path below /etc, or a path relative to one.
func (r *reader) path_(name string, absolute bool) string {
	s, i, ok := r.text(name, "")
	if !ok {
		return ""
	}
	if problem := checkPath(s, absolute); problem != "" {
		r.problem(i, "Unfit path", problem)
		return ""
	}
	return s
}

// checkPath says what is wrong with a path on a host, or "".
func checkPath(s string, absolute bool) string {
	switch {
	case !cleanPath.MatchString(s):
		return "A path may hold letters, digits and . _ - + / only."
	case absolute && !strings.HasPrefix(s, "/etc/"):
		return "Give an absolute path below /etc."
	case !absolute && strings.HasPrefix(s, "/"):
		return "Give a path relative to the directory."
	case path.Clean(s) != s || s == "." || slices.Contains(strings.Split(s, "/"), ".."):
		return "Write the path without . and .. and without doubled or trailing slashes."
	case slices.Contains(strings.Split(s, "/"), ".virtrust"):
		return "A directory named .virtrust belongs to virtrust. Choose another one."
	case len(s) > 255:
		return "The path is longer than 255 characters."
	}
	return ""
}

func (r *reader) account(name string) string {
	s, i, ok := r.text(name, "root")
	if ok && !account.MatchString(s) {
		r.problem(i, "Unfit "+name, "Give the name of an account of the host: a-z, 0-9, _ and -, beginning with a letter or _.")
	}
	return s
}

// mode reads the permission bits of a key file as octal text.
func (r *reader) mode(name string, otherwise uint32) uint32 {
	i, ok := r.value(name)
	if !ok {
		return otherwise
	}
	s, ok := r.asText(i)
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 8, 32)
	switch {
	case i.v.Type().FriendlyName() != "string" || len(s) != 4 || s[0] != '0' || err != nil:
		r.problem(i, "Unfit mode", `Write four octal digits in quotes: "0600".`)
	case n&^0o640 != 0 || n&0o400 == 0:
		r.problem(i, "Unsafe mode of a key", `A key may be read by its owner and at most its group. Use "0600", "0640", "0400" or "0440".`)
	default:
		return uint32(n)
	}
	return otherwise
}

// showDuration writes a duration as the language does.
func showDuration(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}
