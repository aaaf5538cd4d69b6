package inventory

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// clusterInfo is a cluster with what its hosts inherit from it.
type clusterInfo struct {
	policy    *ref
	badPolicy bool
	migration Migration
	managed   bool
	ssh       *node
	scope     *scope
	origins   map[string]Range
}

// decodeFleet reads what stands once: fleet, ledger and the default ssh.
func (l *loader) decodeFleet() {
	l.migration = MigrationOff
	l.fleet.LedgerPath = filepath.Join(l.fleet.Dir, ".virtrust", "ledger.db")
	if n := l.top.find("fleet", ""); n != nil {
		r := &reader{l: l, n: n, scope: ownScope, origins: l.origins}
		l.migration = r.migration(MigrationOff)
	}
	if n := l.top.find("ledger", ""); n != nil {
		r := &reader{l: l, n: n, scope: ownScope}
		l.fleet.LedgerPath = r.localPath("path", l.fleet.LedgerPath)
	}
	if n := l.top.find("ssh", ""); n != nil {
		r := &reader{l: l, n: n, scope: ownScope}
		r.ssh() // for its mistakes, also when no host is there to inherit it
	}
}

func (r *reader) migration(otherwise Migration) Migration {
	return Migration(r.word("migration", string(otherwise), string(MigrationOff), string(MigrationAvailable), string(MigrationRequired)))
}

func (l *loader) decodeClusters() {
	for _, d := range l.order["cluster"] {
		for _, i := range d.instances {
			if !l.unique("cluster", i) {
				continue
			}
			r := l.instanceReader(d.node, i)
			info := &clusterInfo{scope: i.scope, origins: r.origins, ssh: d.node.find("ssh", "")}
			info.migration = r.migration(l.migration)
			info.managed = r.flag("managed", true)
			v := Cluster{Name: i.name, Migration: info.migration, Rollout: defaultRollout, Source: sourceRange(d.node.rng)}
			p, _, ok := r.reference("policy", "policy")
			info.badPolicy = d.node.attrs["policy"] != nil && !ok
			if ok {
				info.policy = p
				v.Policy = p.name
				if x := l.policies[p.name]; x != nil && x.ok {
					v.Rollout = x.value.Rollout
				}
			}
			if info.ssh != nil {
				c := r.child(info.ssh, "ssh.")
				c.ssh()
			}
			l.clusters[i.name] = info
			l.fleet.Clusters = append(l.fleet.Clusters, v)
		}
	}
}

// ssh reads the attributes of one ssh block. Merging is done before.
func (r *reader) ssh() SSH {
	v := SSH{User: "root", Become: "none", Port: 22}
	user, i, ok := r.text("user", v.User)
	if ok && !account.MatchString(user) {
		r.problem(i, "Unfit user", "Give the name of an account: a-z, 0-9, _ and -, beginning with a letter or _.")
	}
	v.User = user
	v.Become = r.word("become", v.Become, "none", "sudo")
	v.Password = r.loginSecret("password", "the login's password")
	v.BecomePassword = r.loginSecret("become_password", "sudo's password")
	v.KnownHosts = r.localPath("known_hosts", "")
	v.Port = r.number("port", v.Port, 1, 65535)
	for _, x := range r.items("identity") {
		if s, ok := r.asText(x); ok {
			if s, ok = r.localise(x, s); ok {
				v.Identity = append(v.Identity, s)
			}
		}
	}
	for _, x := range r.items("jump") {
		s, ok := r.asText(x)
		if !ok {
			continue
		}
		if problem := checkJump(s); problem != "" {
			r.problem(x, fmt.Sprintf("Unfit jump host %q", s), problem)
			continue
		}
		v.Jump = append(v.Jump, s)
	}
	if s, _, ok := r.text("config", ""); ok && s == "none" {
		v.Config = s
	} else if ok {
		v.Config = r.localPath("config", "")
	}
	for name := range r.n.attrs {
		v.Set = append(v.Set, name)
	}
	slices.Sort(v.Set)
	return v
}

// loginSecret reads where a secret comes from that is needed to log in, and
// so also by commands that change nothing. They run no commands of the
// configuration.
func (r *reader) loginSecret(name, what string) string {
	s, i, ok := r.text(name, "")
	if !ok {
		return ""
	}
	kind, rest, _ := strings.Cut(s, ":")
	switch {
	case s == "prompt", kind == "env" && envName.MatchString(rest), kind == "file" && rest != "":
		return s
	case kind == "command":
		r.problem(i, "Command for a secret of the login", "A plan needs it, and a plan runs nothing that the configuration names. Write \"prompt\", \"env:NAME\" or \"file:PATH\".")
		return ""
	}
	// The text may be the secret, so it is not repeated.
	r.bad = true
	r.l.diags.add(Diagnostic{Severity: SeverityError, Summary: "Unfit source of " + what, Source: span(i.rng), secret: true, Detail: `Write "prompt", "env:NAME" or "file:PATH". The password itself does not belong into the configuration.`})
	return ""
}

func (r *reader) items(name string) []item {
	items, _ := r.list(name)
	return items
}

// localPath reads a path on this machine: ~ is the user's home, a relative
// path is relative to the configuration's directory.
func (r *reader) localPath(name, otherwise string) string {
	s, i, ok := r.text(name, "")
	if !ok {
		return otherwise
	}
	if s, ok = r.localise(i, s); !ok {
		return otherwise
	}
	return s
}

func (r *reader) localise(i item, s string) (string, bool) {
	if s == "" {
		r.problem(i, "Empty path", "Give a path, or leave the attribute out.")
		return "", false
	}
	if rest, home := strings.CutPrefix(s, "~/"); home {
		dir, err := os.UserHomeDir()
		if err != nil {
			r.problem(i, "Unknown home directory", "The ~ in the path cannot be replaced: "+sentence(err.Error())+" Write the whole path.")
			return "", false
		}
		return filepath.Join(dir, rest), true
	}
	if strings.HasPrefix(s, "~") {
		r.problem(i, "Unfit path", "Only ~/ stands for a home directory. Write the whole path.")
		return "", false
	}
	if filepath.IsAbs(s) {
		return filepath.Clean(s), true
	}
	return filepath.Join(r.l.fleet.Dir, s), true
}
