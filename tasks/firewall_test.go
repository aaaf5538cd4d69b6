package tasks

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

const closedTable = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n"

// walled is a host that iptables owns, with these rules live and kept.
func walled(rules string) *facts.Host {
	saved := strings.Replace(closedTable, "COMMIT", rules+"COMMIT", 1)
	return &facts.Host{
		Firewall: map[string]string{"managers": "netfilter-persistent", "iptables": saved, "ip6tables": closedTable},
		Paths: map[string]facts.Path{
			"/etc/iptables/rules.v4": {Type: facts.Regular, HasData: true, Content: []byte(saved)},
			"/etc/iptables/rules.v6": {Type: facts.Regular, HasData: true, Content: []byte(closedTable)},
			qemuSettings:             {Type: facts.Regular, HasData: true, Content: []byte("migration_port_min = 50000\nmigration_port_max = 50010\n")},
		},
	}
}

func allowing(allows ...inventory.Allow) *wall {
	return &wall{host: &inventory.Host{Name: "kvm1", Address: "10.0.0.1"}, want: &inventory.Firewall{Backend: "auto", Allows: allows}}
}

func TestFirewallTask(t *testing.T) {
	net := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	tls := inventory.Allow{Name: "libvirt-tls", Port: 16514, From: []string{"management"}, Sources: net}
	ours := `-A INPUT -s 10.0.0.0/24 -p tcp -m tcp --dport 16514 -m comment --comment "virtrust:libvirt-tls" -j ACCEPT` + "\n"
	backend := allowing(tls)
	backend.want.Backend = "ufw"
	for _, c := range []struct {
		name     string
		task     *wall
		host     *facts.Host
		ops      string
		findings string
	}{
		{"no firewall: nothing to do, nothing to say", allowing(tls), &facts.Host{}, "", ""},
		{"closed", allowing(tls), walled(""), "allow-port libvirt-tls 16514 from 10.0.0.0/24", ""},
		{"open", allowing(tls), walled(ours), "", ""},
		{"no longer wanted", allowing(), walled(ours), "close-port libvirt-tls 16514 from 10.0.0.0/24", ""},
		{"open to everyone by another's rule", allowing(tls), walled("-A INPUT -p tcp -m tcp --dport 16514 -j ACCEPT\n"), "", "firewall-wider"},
		{"the range of that host's qemu.conf", allowing(inventory.Allow{Name: "migration", Sources: net}), walled(""), "allow-port migration 50000-50010 from 10.0.0.0/24", ""},
		{"the host itself is no peer", allowing(inventory.Allow{Name: "x", Ports: "5900-5901", Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32")}}), walled(""), "allow-port x 5900-5901 from 10.0.0.2/32", ""},
		{"nobody is known: held, never everyone", allowing(inventory.Allow{Name: "libvirt-tls", Port: 16514, From: []string{"peers"}}), walled(ours), "", "firewall-no-source"},
		{"another backend than the policy's", backend, walled(""), "", "firewall-backend"},
	} {
		ops, found := c.task.Diff(c.host, time.Time{})
		var text, codes []string
		for _, o := range ops {
			p, _, _ := plan.PortOf(o)
			s := o.Kind() + " " + p.Name + " " + p.Range() + " from"
			for _, src := range p.Sources {
				s += " " + src.String()
			}
			text = append(text, s)
			if p.Managers != "netfilter-persistent" || p.Owner != "iptables" {
				t.Errorf("%s: %+v", c.name, p)
			}
			if kept, err := Keep(plan.Ops{o}, c.host); err != nil || len(kept) != 1 {
				t.Errorf("%s: kept in %d files, %v", c.name, len(kept), err)
			}
		}
		for _, f := range found {
			codes = append(codes, f.Code)
			if f.Holds {
				t.Errorf("%s: %s holds the whole host", c.name, f.Code)
			}
		}
		if got := strings.Join(text, "; "); got != c.ops {
			t.Errorf("%s: ops %q, want %q", c.name, got, c.ops)
		}
		if got := strings.Join(codes, " "); got != c.findings {
			t.Errorf("%s: findings %q, want %q", c.name, got, c.findings)
		}
	}
}
