package inventory

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// perCluster is an authority of which each cluster has its own, on its way to
// those.
type perCluster struct {
	node     *node
	clusters map[string]bool // whose hosts use it
}

// ofCluster gives a host the authorities of its cluster in place of those that
// are declared for each cluster.
func (l *loader) ofCluster(r *reader, h *Host) {
	if len(l.spread) == 0 {
		return
	}
	var lost []string
	own := func(name string) string {
		p := l.spread[name]
		switch {
		case p == nil:
		case h.Cluster == "":
			if !slices.Contains(lost, name) {
				lost = append(lost, name)
			}
		default:
			p.clusters[h.Cluster] = true
			return clusterAuthority(name, h.Cluster)
		}
		return name
	}
	for i := range h.Policy.Certificates {
		h.Policy.Certificates[i].Authority = own(h.Policy.Certificates[i].Authority)
	}
	all := func(names []string) []string {
		names = slices.Clone(names) // all hosts of the policy share them
		for k := range names {
			names[k] = own(names[k])
		}
		return names
	}
	for i := range h.Policy.Trusts {
		h.Policy.Trusts[i].Authorities = all(h.Policy.Trusts[i].Authorities)
	}
	for i := range h.Policy.Stores {
		h.Policy.Stores[i].Authorities = all(h.Policy.Stores[i].Authorities)
	}
	// A cluster that could not be resolved is reported already.
	if len(lost) > 0 && r.n.attrs["cluster"] == nil {
		slices.Sort(lost)
		l.errorAt(r.n.labelRange(), "Host without a cluster", fmt.Sprintf(
			"Policy %q of host %q uses authority %s, of which each cluster has its own (per = \"cluster\"). Give the host a cluster, or a policy with another authority.", h.Policy.Name, h.Name, strings.Join(lost, " and ")))
	}
}

// clusterAuthority is the name of a cluster's own authority.
func clusterAuthority(name, cluster string) string { return name + "-" + cluster }

// spreadAuthorities replaces each authority that is declared for each cluster by
// those of the clusters whose hosts use it, in the order of the clusters.
func (l *loader) spreadAuthorities() {
	if len(l.spread) == 0 {
		return
	}
	var all []Authority
	instances := map[string][]string{}
	for _, d := range l.fleet.Authorities {
		p := l.spread[d.Name]
		if p == nil {
			all = append(all, d)
			continue
		}
		var own []Authority
		for _, c := range l.fleet.Clusters {
			if p.clusters[c.Name] {
				own = append(own, l.instanceOf(d, c.Name, p.node))
				instances[d.Name] = append(instances[d.Name], own[len(own)-1].Name)
			}
		}
		if len(own) == 0 && !l.diags.HasErrors() {
			l.noteAt(p.node.labelRange(), fmt.Sprintf("Authority %q of no cluster", d.Name), "Each cluster whose hosts use it has its own, and no host uses it.")
		}
		l.noteMissing(p.node, d, own)
		all = append(all, own...)
	}
	seen := map[string]Authority{}
	for _, a := range all {
		if first, twice := seen[a.Name]; twice {
			l.errorAt(l.decls["authority"][orSelf(a)].node.labelRange(), fmt.Sprintf("Second authority %q", a.Name), fmt.Sprintf(
				"Authority %q has the same name (%s): that of a cluster is called AUTHORITY-CLUSTER. Rename one of them.", orSelf(first), first.Source))
		}
		seen[a.Name] = a
	}
	l.fleet.Authorities = all
	for i := range l.fleet.RelyingParties {
		rp := &l.fleet.RelyingParties[i]
		var names []string
		for _, n := range rp.Authorities {
			if l.spread[n] != nil {
				names = append(names, instances[n]...)
			} else {
				names = append(names, n)
			}
		}
		rp.Authorities = names
	}
	others := func(names []string) (out []string) {
		for _, name := range names {
			if a, ok := seen[name]; ok && a.Of != "" {
				out = append(out, without(instances[a.Of], name)...)
			}
		}
		return out
	}
	for i := range l.fleet.Hosts {
		p := &l.fleet.Hosts[i].Policy
		for k := range p.Trusts {
			p.Trusts[k].Others = others(p.Trusts[k].Authorities)
		}
		for k := range p.Stores {
			p.Stores[k].Others = others(p.Stores[k].Authorities)
		}
	}
}

// orSelf is the name under which an authority is declared.
func orSelf(a Authority) string {
	if a.Of != "" {
		return a.Of
	}
	return a.Name
}

func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

// instanceOf is a cluster's own authority.
func (l *loader) instanceOf(d Authority, cluster string, n *node) Authority {
	keys := d.KeyDirectory
	v := d
	v.Name, v.Of, v.Cluster = clusterAuthority(d.Name, cluster), d.Name, cluster
	v.Directory = filepath.Join(l.fleet.Dir, "authorities", v.Name)
	if v.KeyDirectory = v.Directory; keys != d.Directory {
		v.KeyDirectory = filepath.Join(keys, cluster)
	}
	if !plainName.MatchString(v.Name) {
		l.errorAt(n.labelRange(), fmt.Sprintf("Unfit name %q", v.Name), "It is the authority's with the cluster's, and may be 63 characters long. Shorten one of them.")
	} else if err := checkOrganization(v.Organization, v.Name); err != nil && checkOrganization(v.Organization, d.Name) == nil {
		l.errorAt(n.labelRange(), "Name of an authority too long", fmt.Sprintf("That of cluster %q is called %s. %s", cluster, v.Name, sentence(err.Error())))
	}
	return v
}

// noteMissing says once which of the clusters' authorities have no certificate.
func (l *loader) noteMissing(n *node, d Authority, own []Authority) {
	var missing []string
	for _, a := range own {
		switch certificates, requests := l.authorityFiles(a.Name); {
		case requests > 0:
			l.noteFiles(&a, n)
		case certificates == 0:
			missing = append(missing, a.Cluster)
		}
	}
	if len(missing) == 0 {
		return
	}
	of := strings.Join(missing, ", ")
	if len(missing) > 8 {
		of = fmt.Sprintf("%s and %d more", strings.Join(missing[:7], ", "), len(missing)-7)
	}
	l.noteAt(n.labelRange(), fmt.Sprintf("Authority %q has no files yet", d.Name), fmt.Sprintf("For cluster %s: run virtrust ca init before the first plan.", of))
}
