package sshconfig

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Query is what is asked of a configuration.
type Query struct {
	Host    string // as it would stand on ssh's command line
	Account string // login name on this machine

	// Given are values that win over the configuration, as options on ssh's
	// command line do, by keyword in lower case. They take part in criteria such
	// as "Match user".
	Given map[string]string

	// Keywords are those that the caller uses, in lower case. A block that only a
	// program could judge is an error when it would set one of them.
	Keywords []string
}

// Source is a line of a configuration file. Its zero value stands for a value
// that was given, or for a default.
type Source struct {
	File string
	Line int
}

// String returns "FILE:LINE", or "" for the zero value.
func (s Source) String() string {
	if s.File == "" {
		return ""
	}
	return s.File + ":" + strconv.Itoa(s.Line)
}

// Value is what one line says.
type Value struct {
	Text   string   // the first argument, or the rest of the line where ssh takes that
	Args   []string // all arguments
	Source Source
}

// Settings are the values that hold for one host.
type Settings struct {
	values map[string][]Value
}

// Get returns the value of a keyword, in lower case.
func (s *Settings) Get(keyword string) (Value, bool) {
	if all := s.values[keyword]; len(all) > 0 {
		return all[0], true
	}
	return Value{}, false
}

// All returns the values of a keyword that may stand more than once.
func (s *Settings) All(keyword string) []Value { return s.values[keyword] }

// many are keywords whose values add up, over all blocks.
var many = []string{"identityfile", "certificatefile"}

// Lookup returns what holds for a host.
func (c *Config) Lookup(q Query) (*Settings, error) {
	p := &pass{config: c, query: q, settings: &Settings{values: map[string][]Value{}}, name: q.Host}
	for k, v := range q.Given {
		p.settings.values[k] = []Value{{Text: v, Args: []string{v}}}
	}
	if err := p.run(); err != nil {
		return nil, err
	}
	resolved := p.host()
	if _, err := netip.ParseAddr(resolved); err != nil {
		resolved = strings.ToLower(resolved)
	}
	canonical, _ := p.settings.Get("canonicalizehostname")
	switch strings.ToLower(canonical.Text) {
	case "", "no", "false":
	default:
		if err := p.canonical(resolved, canonical); err != nil {
			return nil, err
		}
		p.wantFinal = true
	}
	if p.wantFinal {
		// As ssh does: once more over everything, with the name found so far, for
		// the values not set yet.
		p.final, p.name = true, resolved
		if err := p.run(); err != nil {
			return nil, err
		}
	}
	if h, ok := p.settings.Get("hostname"); ok {
		h.Text = resolved
		p.settings.values["hostname"] = []Value{h}
	}
	return p.settings, nil
}

// canonical refuses a configuration in which ssh would ask DNS for the whole
// name and then look for blocks of that name.
func (p *pass) canonical(host string, v Value) error {
	dots := 1
	if m, ok := p.settings.Get("canonicalizemaxdots"); ok {
		dots, _ = strconv.Atoi(m.Text)
	}
	domains, ok := p.settings.Get("canonicaldomains")
	if !ok || strings.EqualFold(domains.Text, "none") || strings.Count(host, ".") > dots || strings.Contains(host, ":") {
		return nil
	}
	return fmt.Errorf("%s: CanonicalizeHostname would complete the name %q, which is not done here: write the whole name", v.Source, host)
}

// pass is one reading of all blocks for one host.
type pass struct {
	config    *Config
	query     Query
	settings  *Settings
	name      string // what Host lines are matched with
	final     bool
	wantFinal bool
}

// host is the name to dial, as far as it is known.
func (p *pass) host() string {
	v, ok := p.settings.Get("hostname")
	if !ok {
		return p.query.Host
	}
	return strings.NewReplacer("%%", "%", "%h", p.query.Host).Replace(v.Text)
}

func (p *pass) user() string {
	if v, ok := p.settings.Get("user"); ok {
		return v.Text
	}
	return p.query.Account
}

func (p *pass) run() error {
	for _, f := range p.config.files {
		if err := p.file(f, yes, ""); err != nil {
			return err
		}
	}
	return nil
}

// file reads a file whose lines are active, or not, until its first block.
func (p *pass) file(f *file, outer verdict, why string) error {
	now := outer
	for i := range f.lines {
		l := &f.lines[i]
		at := Source{f.path, l.number}
		switch l.keyword {
		case "host", "match":
			if outer == no {
				continue
			}
			if l.err != nil {
				return l.err
			}
			now = no
			if l.keyword == "host" {
				if matchHosts(p.name, l.args) {
					now = yes
				}
			} else {
				v, what, err := p.criteria(l.args)
				if err != nil {
					return fmt.Errorf("%s: %w", at, err)
				}
				if now = v; v == undecided {
					why = at.String() + ": " + what
				}
			}
			if now == yes {
				now = outer
			}
		case "include":
			if now == no {
				// Blocks in it may still ask for a final pass; ssh parses them, too.
				continue
			}
			if l.err != nil {
				return l.err
			}
			for _, inner := range l.include {
				if err := p.file(inner, now, why); err != nil {
					return err
				}
			}
		default:
			if now == no {
				continue
			}
			if err := p.set(l, at, now, why); err != nil {
				return err
			}
		}
	}
	return nil
}

// set takes a line's value unless there is one.
func (p *pass) set(l *line, at Source, now verdict, why string) error {
	add := slices.Contains(many, l.keyword)
	_, given := p.query.Given[l.keyword]
	if given || !add && p.has(l.keyword) {
		return nil
	}
	if l.err != nil {
		if slices.Contains(p.query.Keywords, l.keyword) {
			return l.err
		}
		return nil
	}
	if now == undecided {
		if slices.Contains(p.query.Keywords, l.keyword) {
			return fmt.Errorf("%s would decide %s in line %d, and no program is run for it here", why, name(l.keyword), l.number)
		}
		return nil
	}
	v := Value{Text: l.args[0], Args: l.args, Source: at}
	if l.keyword == "proxyjump" {
		v.Text = l.rest
	}
	have := p.settings.values[l.keyword]
	if add && slices.ContainsFunc(have, func(x Value) bool { return x.Text == v.Text }) {
		return nil
	}
	p.settings.values[l.keyword] = append(have, v)
	return nil
}

// has reports whether a value is there. Of ProxyJump and ProxyCommand the
// first one counts; "ProxyJump none" leaves ProxyCommand its say, as in OpenSSH.
func (p *pass) has(keyword string) bool {
	jump, jumps := p.settings.Get("proxyjump")
	_, command := p.settings.Get("proxycommand")
	switch keyword {
	case "proxyjump":
		return jumps || command
	case "proxycommand":
		return command || jumps && !strings.EqualFold(jump.Text, "none")
	}
	return len(p.settings.values[keyword]) > 0
}

// name is a keyword as people write it.
func name(keyword string) string {
	for _, n := range []string{"HostName", "User", "Port", "IdentityFile", "IdentitiesOnly", "IdentityAgent", "CertificateFile", "ProxyJump", "ProxyCommand", "UserKnownHostsFile", "GlobalKnownHostsFile", "HostKeyAlias", "RevokedHostKeys", "AddressFamily", "BindAddress"} {
		if strings.EqualFold(n, keyword) {
			return n
		}
	}
	return keyword
}
