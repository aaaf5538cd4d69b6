package inventory

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Found is a host that another tool knows.
type Found struct {
	Name     string   // as the other tool calls it
	Address  string   // "" means Name
	Aliases  []string // further names and addresses, told and not taken over
	Groups   []string // all that it is in
	Direct   []string // those that list it themselves
	Port     int      // 0 means 22
	User     string
	Identity string
}

// AdoptOptions say how found hosts are grouped.
type AdoptOptions struct {
	Cluster string   // one cluster for all; "" lets groups decide
	Groups  []string // the groups that become clusters; none lets virtrust decide
}

// Adopt makes hosts of a first configuration of found ones. A host is called
// by the first label of its name where that is unique, else by the whole name
// with - for each dot. Groups that list each host exactly once become
// clusters, the others labels: GROUP = "yes". The notes tell what was decided
// and what was left out, a sentence each. The error tells that a host is in
// none or several of the groups asked for.
func Adopt(found []Found, o AdoptOptions) ([]InitHost, []string, error) {
	var notes []string
	var hosts []InitHost
	names := shortNames(found)
	taken := map[string]string{} // names and addresses, by whom
	var kept []Found
	for i, f := range found {
		h := InitHost{Name: names[i], Address: strings.ToLower(cmp.Or(f.Address, f.Name)), Port: f.Port, User: f.User, Identity: f.Identity}
		leave := func(why string) {
			notes = append(notes, f.Name+" is left out: "+strings.TrimSuffix(why, ".")+".")
		}
		if err := CheckInitHost(h.Name, h.Address); err != nil {
			leave(err.Error())
			continue
		}
		if by := cmp.Or(taken["name "+h.Name], taken["address "+h.Address]); by != "" {
			leave("its name or address is that of " + by)
			continue
		}
		taken["name "+h.Name], taken["address "+h.Address] = f.Name, f.Name
		// A certificate should name a host as people call it.
		if full := strings.ToLower(f.Name); strings.Contains(full, ".") && full != h.Address && !looksLikeAddr(full) && checkDNSName(full) == "" {
			h.Names = []string{full}
		}
		hosts = append(hosts, h)
		kept = append(kept, f)
	}
	clusters, told, err := clusterGroups(kept, o)
	if err != nil {
		return nil, nil, err
	}
	notes = append(notes, told...)
	var odd []string
	for i, f := range kept {
		h := &hosts[i]
		for _, g := range f.Groups {
			if slices.Contains(clusters, g) {
				h.Cluster = clusterName(g)
				continue
			}
			if !labelKey.MatchString(g) {
				if !slices.Contains(odd, g) {
					odd = append(odd, g)
				}
				continue
			}
			if h.Labels == nil {
				h.Labels = map[string]string{}
			}
			h.Labels[g] = "yes"
		}
	}
	for _, g := range odd {
		notes = append(notes, fmt.Sprintf("Group %q is no label: a label holds letters, digits, _ . and -.", g))
	}
	return hosts, notes, nil
}

// shortNames are what hosts are called.
func shortNames(found []Found) []string {
	count := map[string]int{}
	short := make([]string, len(found))
	for i, f := range found {
		name := strings.ToLower(f.Name)
		if a, err := netip.ParseAddr(name); err == nil {
			short[i] = "host-" + strings.Trim(strings.NewReplacer(".", "-", ":", "-").Replace(a.String()), "-")
		} else {
			label, _, _ := strings.Cut(name, ".")
			short[i] = strings.ReplaceAll(label, "_", "-")
		}
		count[short[i]]++
	}
	for i, f := range found {
		if count[short[i]] > 1 && strings.Contains(f.Name, ".") {
			short[i] = strings.NewReplacer(".", "-", "_", "-").Replace(strings.ToLower(f.Name))
		}
	}
	return short
}

func clusterName(group string) string {
	name := strings.ReplaceAll(strings.ToLower(group), "_", "-")
	if name != "" && name[0] <= '9' {
		return "c" + name
	}
	return name
}

// clusterGroups decides which groups become clusters; none for one cluster.
func clusterGroups(found []Found, o AdoptOptions) (groups, notes []string, err error) {
	if len(o.Groups) > 0 {
		for _, f := range found {
			in := slices.DeleteFunc(slices.Clone(f.Groups), func(g string) bool { return !slices.Contains(o.Groups, g) })
			switch len(in) {
			case 0:
				return nil, nil, fmt.Errorf("host %s is in none of the groups %s", f.Name, strings.Join(o.Groups, ", "))
			case 1:
			default:
				return nil, nil, fmt.Errorf("host %s is in several of the groups that become clusters: %s", f.Name, strings.Join(in, ", "))
			}
		}
		return o.Groups, nil, nil
	}
	if o.Cluster != "" {
		return nil, nil, nil
	}
	var bad []string
	names := map[string]string{}
	for _, f := range found {
		if len(f.Direct) != 1 {
			bad = append(bad, f.Name)
			continue
		}
		g := f.Direct[0]
		if !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
		if other, twice := names[clusterName(g)]; twice && other != g || CheckInitCluster(clusterName(g)) != nil {
			bad = append(bad, f.Name)
		}
		names[clusterName(g)] = g
	}
	switch {
	case !slices.ContainsFunc(found, func(f Found) bool { return len(f.Direct) > 0 }):
		return nil, nil, nil
	case len(bad) > 0:
		return nil, []string{fmt.Sprintf("All hosts are one cluster, groups are labels: not every host is listed by exactly one group (%s). --groups GROUP,… names the groups that become clusters.", some(bad))}, nil
	case len(groups) == 1:
		return groups, []string{fmt.Sprintf("Group %s is the cluster.", groups[0])}, nil
	}
	return groups, []string{fmt.Sprintf("%d groups are clusters: %s. --cluster NAME makes one cluster of all.", len(groups), some(groups))}, nil
}
