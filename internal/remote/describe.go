package remote

import (
	"slices"
	"strconv"

	"github.com/virtrust/virtrust/internal/remote/sshconfig"
)

// Setting is a value that a configuration file of ssh decides for an endpoint.
type Setting struct {
	Name   string // host_name, port, user, identity, certificate, agent, jump, known_hosts, host_key_alias, revoked
	Values []string
	Source sshconfig.Source // of the last of its lines
}

// Describe lists what the configuration files decide about the way to e. It
// connects to nothing. The error is of class [ClassConfiguration].
func (d *Dialer) Describe(e Endpoint) ([]Setting, error) {
	w, err := d.ways.resolve(e)
	if err != nil {
		return nil, &Error{Class: ClassConfiguration, Host: e.label(), Op: "finding the way in", Err: err}
	}
	var out []Setting
	add := func(keyword, name string, values ...string) {
		if s, ok := w.from[keyword]; ok {
			out = append(out, Setting{name, values, s})
		}
	}
	add("hostname", "host_name", w.Address)
	add("user", "user", w.User)
	add("port", "port", strconv.Itoa(w.Port))
	add("identityfile", "identity", w.Identity...)
	add("certificatefile", "certificate", w.certificates...)
	add("identityagent", "agent", w.agent)
	var jumps []string
	for v := w.via; v != nil; v = v.via {
		jumps = append(jumps, v.User+"@"+v.address())
	}
	slices.Reverse(jumps)
	add("proxyjump", "jump", jumps...)
	if _, ok := w.from["userknownhostsfile"]; ok {
		add("userknownhostsfile", "known_hosts", w.KnownHosts...)
	} else {
		add("globalknownhostsfile", "known_hosts", w.KnownHosts...)
	}
	add("hostkeyalias", "host_key_alias", w.keyAlias)
	add("revokedhostkeys", "revoked", w.revoked...)
	return out, nil
}
