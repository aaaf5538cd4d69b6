package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

func (l *loader) listener(r *reader) Listener {
	v := Listener{Name: r.n.label(), Source: sourceRange(r.n.rng)}
	switch {
	case v.Name == "libvirt":
	case l.later(r.n.labelRange(), "listener", v.Name, fmt.Sprintf("listener %q", v.Name)):
		r.bad = true
	default:
		r.bad = true
		l.errorAt(r.n.labelRange(), fmt.Sprintf("Unknown listener %q", v.Name), `Use "libvirt" or "vnc".`)
	}
	if i, ok := r.value("verify"); ok {
		r.problem(i, "Unfit verify", "libvirtd always asks clients for a certificate. Leave verify out.")
	}
	v.Port = r.number("port", 16514, 1, 65535)
	v.Mode = r.word("mode", "auto", "auto")
	return v
}

func (l *loader) firewall(r *reader) *Firewall {
	v := &Firewall{Source: sourceRange(r.n.rng)}
	v.Backend = r.word("backend", "auto", "auto", "firewalld", "ufw", "nftables", "iptables", "none")
	for _, n := range r.n.all("allow") {
		c := r.child(n, "allow."+n.label()+".")
		if c.flag("enabled", true) {
			v.Allows = append(v.Allows, c.allow())
		}
		r.bad = r.bad || c.bad
	}
	return v
}

// listenerAllow is the opening for libvirt's own port.
const listenerAllow = "libvirt-tls"

// openListener gives the opening of libvirt's port, where it names none, the
// port of the policy's listener, and drops it where there is no listener.
func (p *Policy) openListener() {
	if p.Firewall == nil {
		return
	}
	p.Firewall.Allows = slices.DeleteFunc(p.Firewall.Allows, func(a Allow) bool {
		return a.Name == listenerAllow && a.Port == 0 && a.Ports == "" && len(p.Listeners) == 0
	})
	for i := range p.Firewall.Allows {
		if a := &p.Firewall.Allows[i]; a.Name == listenerAllow && a.Port == 0 && a.Ports == "" {
			a.Port = p.Listeners[0].Port
		}
	}
}

func (r *reader) allow() Allow {
	v := Allow{Name: r.n.label(), Port: r.number("port", 0, 1, 65535), Source: sourceRange(r.n.rng)}
	ports, i, ok := r.text("ports", "")
	if ok {
		first, last, _ := strings.Cut(ports, "-")
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := strconv.ParseUint(last, 10, 16)
		if errA != nil || errB != nil || a == 0 || a > b {
			r.problem(i, "Unfit range of ports", `Write the first and the last port: "49152-49215".`)
		}
		v.Ports = ports
		if v.Port != 0 {
			r.problem(i, "Both port and ports", "Give one of the two.")
		}
	}
	// A comment in a rule of the host carries the name.
	if strings.Trim(v.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || len(v.Name) > 64 || strings.HasPrefix(v.Name, "-") {
		r.bad = true
		r.l.errorAt(r.n.labelRange(), fmt.Sprintf("Unfit name %q", v.Name), "Use at most 64 letters, digits and . _ -")
	}
	if v.Port == 0 && v.Ports == "" && v.Name != "migration" && v.Name != listenerAllow && r.n.attrs["port"] == nil && r.n.attrs["ports"] == nil {
		r.bad = true
		r.l.errorAt(r.n.rng, "Allow without a port", `Write port = 16514 or ports = "49152-49215". Two have a default: allow "migration" the range of the host's qemu.conf, allow "libvirt-tls" the listener's port.`)
	}
	v.From = r.from()
	return v
}

func (r *reader) from() []string {
	items, _ := r.list("from")
	var out []string
	for _, i := range items {
		if x, ok := asRef(i.v); ok {
			if _, ok := r.asReference(i, "network"); ok {
				out = append(out, x.inst.name)
			}
			continue
		}
		if i.v.Type() != cty.String {
			r.asReference(i, "network")
			continue
		}
		s, ok := r.asText(i)
		if !ok {
			continue
		}
		if s != "peers" {
			if _, err := netip.ParsePrefix(s); err != nil {
				r.asReference(i, "network")
				continue
			}
			if _, ok := r.prefix(i); !ok {
				continue
			}
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
