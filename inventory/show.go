package inventory

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// EffectiveValue is one value that holds for a host, and where it was written.
type EffectiveValue struct {
	Name   string `json:"name"`  // "certificate.libvirt-server.lifetime"
	Value  string `json:"value"` // as the language writes it
	Source Range  `json:"source"`
}

// Show lists every effective value of a host in a fixed order: the host's
// own, then its policy's in the order of the policy's blocks. It is false
// when the fleet has no host of that name.
func Show(f *Fleet, host string) ([]EffectiveValue, bool) {
	h, ok := f.Host(host)
	if !ok {
		return nil, false
	}
	s := &shower{origins: h.Origins}
	s.host(h)
	s.origins = h.Policy.Origins
	s.policy(&h.Policy)
	return s.out, true
}

type shower struct {
	origins map[string]Range
	prefix  string
	out     []EffectiveValue
}

func (s *shower) add(name, value string) {
	o, ok := s.origins[s.prefix+name]
	if !ok {
		o = Range{File: sourceDefault}
	}
	s.out = append(s.out, EffectiveValue{s.prefix + name, value, o})
}

// at records a value whose place is known without the origins.
func (s *shower) at(name, value string, source Range) {
	s.out = append(s.out, EffectiveValue{s.prefix + name, value, source})
}

func (s *shower) host(h *Host) {
	s.at("host", strconv.Quote(h.Name), h.Source)
	s.add("address", strconv.Quote(h.Address))
	if h.Cluster != "" {
		s.add("cluster", "cluster."+h.Cluster)
	}
	for _, k := range sortedKeys(h.Labels) {
		s.at("labels."+k, strconv.Quote(h.Labels[k]), h.Origins["labels"])
	}
	for _, n := range h.Nics {
		prefix := "nic." + n.Network + "."
		if n.FQDN != "" {
			s.at(prefix+"fqdn", strconv.Quote(n.FQDN), n.Source)
		}
		s.at(prefix+"addresses", addrs(n.Addresses), n.Source)
	}
	s.add("names", quoted(h.Names))
	s.add("ssh.user", strconv.Quote(h.SSH.User))
	s.add("ssh.become", strconv.Quote(h.SSH.Become))
	if h.SSH.Password != "" {
		s.add("ssh.password", strconv.Quote(h.SSH.Password))
	}
	if h.SSH.BecomePassword != "" {
		s.add("ssh.become_password", strconv.Quote(h.SSH.BecomePassword))
	}
	s.add("ssh.port", strconv.Itoa(h.SSH.Port))
	s.add("ssh.known_hosts", strconv.Quote(h.SSH.KnownHosts))
	s.add("ssh.identity", quoted(h.SSH.Identity))
	s.add("ssh.jump", quoted(h.SSH.Jump))
	s.add("ssh.config", strconv.Quote(h.SSH.Config))
	s.add("host_key", quoted(h.HostKeys))
	if h.Away != nil {
		s.add("away", strconv.Quote(h.Away.Until.Format(time.DateOnly)+": "+h.Away.Reason))
	}
	s.add("managed", strconv.FormatBool(h.Managed))
	s.add("migration", strconv.Quote(string(h.Migration)))
	s.add("policy", "policy."+h.Policy.Name)
}

func (s *shower) policy(p *Policy) {
	for _, c := range p.Certificates {
		s.prefix = "certificate." + c.Name + "."
		s.add("authority", "authority."+c.Authority)
		s.add("usages", quoted(c.Usages))
		s.add("networks", words(c.Networks))
		s.add("scope", strconv.Quote(c.Scope))
		s.add("lifetime", strconv.Quote(showDuration(c.Lifetime)))
		s.add("renew_before", strconv.Quote(showDuration(c.RenewBefore)))
		s.add("key_usage", strconv.Quote(c.KeyUsage))
		if c.OnReplace == "revoke" {
			s.add("on_replace", strconv.Quote(c.OnReplace))
		}
		s.add("key.algorithm", strconv.Quote(c.KeyAlgorithm))
		s.add("install.directory", strconv.Quote(c.Install.Directory))
		s.add("install.cert", strconv.Quote(c.Install.Cert))
		s.add("install.key", strconv.Quote(c.Install.Key))
		for _, a := range c.Install.Aliases {
			s.at("install.aliases", fmt.Sprintf("{ %q = %q }", a.Cert, a.Key), s.origins[s.prefix+"install.aliases"])
		}
		s.add("install.owner", strconv.Quote(c.Install.Owner))
		if c.Install.Owner != QEMUAccount {
			s.add("install.group", strconv.Quote(c.Install.Group))
			s.add("install.key_mode", fmt.Sprintf("\"%04o\"", c.Install.KeyMode))
		}
		s.at("names", quoted(c.DNSNames), Range{File: "computed"})
		s.at("addresses", addrs(c.IPs), Range{File: "computed"})
	}
	for _, t := range p.Trusts {
		s.prefix = "trust." + t.Path + "."
		s.add("authorities", words(t.Authorities))
		s.add("foreign", strconv.Quote(t.Foreign))
		if t.CRL != "" {
			s.add("crl", strconv.Quote(t.CRL))
		}
	}
	for _, t := range p.Stores {
		s.prefix = "trust." + t.Path + "."
		s.add("authorities", words(t.Authorities))
		s.add("format", strconv.Quote(t.Format))
		s.add("foreign", strconv.Quote(t.Foreign))
	}
	for _, x := range p.Settings {
		s.prefix = "settings." + x.Path + "."
		for _, v := range x.Values {
			s.at(v.Key, v.Text, v.Source)
		}
	}
	for _, x := range p.Listeners {
		s.prefix = "listener." + x.Name + "."
		s.add("port", strconv.Itoa(x.Port))
		s.add("mode", strconv.Quote(x.Mode))
	}
	if p.VNC != nil {
		s.prefix = "listener.vnc."
		verify := "null"
		if p.VNC.Verify != nil {
			verify = strconv.FormatBool(*p.VNC.Verify)
		}
		s.add("verify", verify)
	}
	if p.Firewall != nil {
		s.prefix = "firewall."
		s.add("backend", strconv.Quote(p.Firewall.Backend))
		for _, a := range p.Firewall.Allows {
			s.prefix = "firewall.allow." + a.Name + "."
			if a.Port != 0 {
				s.add("port", strconv.Itoa(a.Port))
			}
			if a.Ports != "" {
				s.add("ports", strconv.Quote(a.Ports))
			}
			s.add("from", words(a.From))
		}
	}
	s.prefix = "rollout."
	s.add("canary", strconv.Itoa(p.Rollout.Canary))
	s.add("batch", strconv.Quote(p.Rollout.Batch))
	s.add("restarts", strconv.Itoa(p.Rollout.Restarts))
	s.add("max_failures", strconv.Itoa(p.Rollout.MaxFailures))
	s.add("max_unreachable", strconv.Quote(p.Rollout.MaxUnreachable))
	if len(p.Rollout.Windows) > 0 {
		s.add("windows", windowText(p.Rollout.Windows))
	}
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strconv.Quote(s)
	}
	return words(out)
}

func words(list []string) string { return "[" + strings.Join(list, ", ") + "]" }

func addrs(list []netip.Addr) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return quoted(out)
}
