package inventory

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

func (l *loader) decodeHosts() {
	total := 0
	for _, d := range l.order["host"] {
		total += len(d.instances)
	}
	if total > maxHosts {
		l.errorAt(l.order["host"][len(l.order["host"])-1].node.rng, "Too many hosts", fmt.Sprintf("A fleet may have %d hosts and this has %d.", maxHosts, total))
		return
	}
	for _, d := range l.order["host"] {
		for _, i := range d.instances {
			if l.unique("host", i) {
				l.host(d.node, i)
			}
		}
	}
	l.checkNames()
	if total == 0 && !l.diags.HasErrors() {
		l.diags.add(Diagnostic{Severity: SeverityNote, Summary: "No hosts", Detail: `The configuration declares no host. Add one: host "NAME" with an address and a policy.`})
	}
}

func (l *loader) host(n *node, i *instance) {
	r := l.instanceReader(n, i)
	h := Host{Name: i.name, Source: sourceRange(n.rng), Origins: r.origins}
	address, addressAt, ok := r.text("address", "")
	if ok {
		if problem := checkHostAddress(address); problem != "" {
			r.problem(addressAt, fmt.Sprintf("Unfit address %q", address), problem)
		} else {
			h.Address = address
			l.claim(r, addressAt, strings.ToLower(address), h.Name)
		}
	}
	if !ok && !r.bad && n.attrs["address"] != nil {
		r.missing("address", "address = \"NAME or IP\"; null is no address")
	}
	cluster := l.hostCluster(r, &h)
	h.Labels = r.labels()
	h.HostKeys = r.hostKeys()
	h.Away = r.away()
	h.Managed = r.inheritFlag("managed", cluster)
	h.Migration = r.inheritMigration(cluster)
	h.SSH = r.hostSSH(cluster)
	for _, x := range n.all("nic") {
		if nic, ok := l.nic(r, x, h.Name); ok {
			h.Nics = append(h.Nics, nic)
		}
	}
	for _, x := range r.items("names") {
		if s, ok := r.asText(x); ok {
			s = strings.ToLower(s)
			if problem := checkAnyName(s); problem != "" {
				r.problem(x, fmt.Sprintf("Unfit name %q", s), problem)
				continue
			}
			h.Names = append(h.Names, s)
			l.shared = append(l.shared, sharedName{s, h.Name, x, r})
		}
	}
	l.hostPolicy(r, &h, cluster)
	l.fleet.Hosts = append(l.fleet.Hosts, h)
}

func (l *loader) hostCluster(r *reader, h *Host) *clusterInfo {
	c, _, ok := r.reference("cluster", "cluster")
	if !ok {
		return nil
	}
	h.Cluster = c.inst.name
	return l.clusters[c.inst.name]
}

// hostPolicy gives a host its policy, with the names that its certificates
// must carry.
func (l *loader) hostPolicy(r *reader, h *Host, cluster *clusterInfo) {
	p, _, own := r.reference("policy", "policy")
	switch {
	case own:
	case r.n.attrs["policy"] != nil:
		return // reported
	case cluster != nil:
		p = cluster.policy
		r.origins["policy"] = cluster.origins["policy"]
		if cluster.badPolicy {
			return
		}
	case r.n.attrs["cluster"] != nil:
		return // reported
	}
	if p == nil {
		detail := fmt.Sprintf("Nothing says what must be true of host %q. Write policy = policy.NAME on the host or on its cluster.", h.Name)
		if names := l.declared("policy"); len(names) == 1 {
			detail = strings.ReplaceAll(detail, "policy.NAME", "policy."+names[0])
		}
		l.errorAt(r.n.labelRange(), "Host without a policy", detail)
		return
	}
	x := l.policies[p.name]
	if x == nil || !x.ok {
		return
	}
	h.Policy = l.forHost(x, h)
	l.ofCluster(r, h)
	for k := range h.Policy.Certificates {
		c := &h.Policy.Certificates[k]
		c.DNSNames, c.IPs = l.certificateNames(h, c)
		if len(c.DNSNames)+len(c.IPs) == 0 && !r.bad {
			l.errorAt(r.n.labelRange(), "Certificate without a name", fmt.Sprintf(
				"Certificate %q of host %q would carry no name: the host has no nic on %s. Add the nic, or another network to the certificate.",
				c.Name, h.Name, strings.Join(c.Networks, ", ")))
		}
	}
}

func (r *reader) inheritFlag(name string, cluster *clusterInfo) bool {
	otherwise := true
	if cluster != nil {
		otherwise = cluster.managed
	}
	v := r.flag(name, otherwise)
	r.inheritOrigin(name, cluster)
	return v
}

func (r *reader) inheritMigration(cluster *clusterInfo) Migration {
	otherwise := r.l.migration
	if cluster != nil {
		otherwise = cluster.migration
	}
	v := r.migration(otherwise)
	r.inheritOrigin("migration", cluster)
	if cluster == nil && r.origins["migration"].Line == 0 && r.l.origins["migration"].Line != 0 {
		r.origins["migration"] = r.l.origins["migration"]
	}
	return v
}

// inheritOrigin takes the origin of a value that the host does not set from
// its cluster, and there from the fleet.
func (r *reader) inheritOrigin(name string, cluster *clusterInfo) {
	if r.origins[name].Line != 0 || cluster == nil {
		return
	}
	if o := cluster.origins[name]; o.Line != 0 {
		r.origins[name] = o
	} else if o := r.l.origins[name]; o.Line != 0 {
		r.origins[name] = o
	}
}

// hostSSH merges the ssh blocks of the fleet, the cluster and the host,
// attribute by attribute.
func (r *reader) hostSSH(cluster *clusterInfo) SSH {
	merged := &node{spec: sshSpec, attrs: map[string]*attr{}}
	scopes := map[*attr]*scope{}
	lay := func(n *node, sc *scope) {
		if n == nil {
			return
		}
		for name, a := range n.attrs {
			merged.attrs[name] = a
			scopes[a] = sc
		}
	}
	lay(r.l.top.find("ssh", ""), &scope{})
	if cluster != nil {
		lay(cluster.ssh, cluster.scope)
	}
	lay(r.n.find("ssh", ""), r.scope(nil))
	c := r.child(merged, "ssh.")
	c.scope = func(a *attr) *scope { return scopes[a] }
	return c.ssh()
}

var (
	labelKey   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^[A-Za-z0-9_.:/@+-]{0,128}$`)
	hostKey    = regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}=?$`)
	envName    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func (r *reader) labels() map[string]string {
	i, ok := r.value("labels")
	if !ok {
		return nil
	}
	if ty := i.v.Type(); !ty.IsObjectType() && !ty.IsMapType() {
		r.problem(i, "Map expected", `Write labels = { rack = "r1" }.`)
		return nil
	}
	out := map[string]string{}
	values := i.v.AsValueMap()
	for _, k := range sortedKeys(values) {
		x := i.part(values[k])
		s, ok := r.asText(x)
		switch {
		case !ok:
		case !labelKey.MatchString(k):
			r.problem(i, fmt.Sprintf("Unfit label %q", k), "A label may hold letters, digits, _ . and -, and begins and ends with a letter or digit.")
		case !labelValue.MatchString(s):
			r.problem(i, fmt.Sprintf("Unfit value of label %q", k), "It may hold letters, digits and _ . : / @ + - only.")
		default:
			out[k] = s
		}
	}
	return out
}

func (r *reader) hostKeys() []string {
	var out []string
	for _, i := range r.items("host_key") {
		s, ok := r.asText(i)
		if ok && !hostKey.MatchString(s) {
			r.problem(i, "Unfit fingerprint", "Write SHA256: and 43 characters, as ssh-keygen -lf prints it.")
		} else if ok {
			out = append(out, strings.TrimSuffix(s, "="))
		}
	}
	return out
}

// away reads "2026-12-31: mainboard".
func (r *reader) away() *Away {
	s, i, ok := r.text("away", "")
	if !ok {
		return nil
	}
	date, why, colon := strings.Cut(s, ":")
	day, err := time.Parse(time.DateOnly, strings.TrimSpace(date))
	if err != nil || !colon || strings.TrimSpace(why) == "" {
		r.problem(i, "Unfit away", `Write the last day and the reason: "2026-12-31: mainboard".`)
		return nil
	}
	return &Away{Until: day.AddDate(0, 0, 1).Add(-time.Nanosecond), Reason: strings.TrimSpace(why)}
}
