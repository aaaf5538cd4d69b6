package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

func (a *app) peersCmd() *cobra.Command {
	var sel selection
	c := &cobra.Command{
		Use:   "peers",
		Short: "Show for every pair of hosts how a guest migrates, and whether encrypted",
		Long: `Looks at every host and says for each ordered pair of a cluster which URI and
options a migration takes, whether it is encrypted, and if not, why. --json is for
orchestrators: they run virsh migrate with "options", the guest and "uri".

Exit code 0 when every pair can migrate in accord with its policy, encrypted where
the policy is available or required; 2 when one cannot; 3 when a host could not be
read.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			hosts, err := sel.hosts(f.Fleet)
			if err != nil {
				return err
			}
			ends, failures := f.ends(c.Context(), hosts)
			if err := context.Cause(c.Context()); err != nil {
				return err
			}
			rows, fine := peerRows(hosts, ends, failures)
			if a.json {
				err = report.JSON(a.out, rows)
			} else {
				err = report.Peers(a.out, rows, a.options())
			}
			switch {
			case err != nil:
				return err
			case len(failures) > 0:
				a.unread(hosts, failures)
				return &exitCode{code: exitIncomplete}
			case !fine:
				return &exitCode{code: exitDifferences}
			}
			return nil
		},
	}
	a.hostFlags(c, &sel)
	return c
}

// unread names hosts that could not be read.
func (a *app) unread(hosts []*inventory.Host, failures map[string]plan.Failure) {
	for _, h := range hosts {
		if x, ok := failures[h.Name]; ok {
			a.note("%s could not be read: %s: %s", h.Name, report.Safe(x.Class), report.Safe(x.Text))
		}
	}
}

// ends looks at hosts for what a migration needs of them.
func (f *fleet) ends(ctx context.Context, hosts []*inventory.Host) (map[string]tasks.End, map[string]plan.Failure) {
	ends, failures := map[string]tasks.End{}, map[string]plan.Failure{}
	var mu sync.Mutex
	p := f.app.progress("reading", len(hosts))
	f.each(ctx, hosts, func(ctx context.Context, _ int, h *inventory.Host) {
		defer p.step(h.Name)
		seen, err := f.look(ctx, h, tasks.PeerQueries())
		if err == nil {
			if dir, usual := tasks.IdentityDir(seen); !usual {
				seen, err = f.look(ctx, h, tasks.PeerQueries(dir))
			}
		}
		f.spare(h.Name)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failures[h.Name] = classify(err)
			return
		}
		ends[h.Name] = tasks.End{Host: h, Seen: seen}
	})
	p.done()
	return ends, failures
}

// peerRows lists the routes within each cluster. Fine tells that all of them
// are as their policies want.
func peerRows(hosts []*inventory.Host, ends map[string]tasks.End, failures map[string]plan.Failure) (rows []report.PeerRow, fine bool) {
	fine = true
	rows = []report.PeerRow{}
	for _, members := range clusters(hosts) {
		for _, from := range members {
			for _, to := range members {
				if from == to {
					continue
				}
				row := report.PeerRow{Cluster: from.Cluster, From: from.Name, To: to.Name}
				for _, h := range []*inventory.Host{from, to} {
					if x, ok := failures[h.Name]; ok {
						row.Why = append(row.Why, h.Name+" could not be read: "+x.Class)
					}
				}
				if len(row.Why) == 0 {
					row = peerRow(tasks.Between(ends[from.Name], ends[to.Name]))
					row.Cluster = from.Cluster
					fine = fine && row.Possible && (row.TLS || row.Policy == string(inventory.MigrationOff))
				}
				rows = append(rows, row)
			}
		}
	}
	return rows, fine
}

func peerRow(r tasks.Route) report.PeerRow {
	row := report.PeerRow{
		From: r.From, To: r.To, TLS: r.TLS, Policy: string(r.Migration), URI: r.URI, MigrateURI: r.MigrateURI,
		TLSDestination: r.TLSDestination, Ports: r.Ports, Why: append(r.Blocked, r.NoTLS...),
	}
	row.Possible = len(r.Blocked) == 0 && (r.TLS || r.PlainAllowed())
	if row.Possible {
		row.Options = r.Options(r.TLS)
	}
	if !r.TLS && len(r.Blocked) == 0 && !r.PlainAllowed() {
		why := "the policy is migration = \"required\""
		if r.Migration != inventory.MigrationRequired {
			why = "migrate_tls_force is set on a host"
		}
		row.Why = append(row.Why, why+": there is no migration without TLS")
	}
	return row
}

// clusters groups hosts, in the order of the configuration. Hosts that are in
// no cluster are not each other's peers.
func clusters(hosts []*inventory.Host) [][]*inventory.Host {
	at := map[string]int{}
	var out [][]*inventory.Host
	for _, h := range hosts {
		if h.Cluster == "" {
			continue
		}
		i, ok := at[h.Cluster]
		if !ok {
			i = len(out)
			at[h.Cluster] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], h)
	}
	return out
}

// member finds a host of the configuration.
func (f *fleet) member(name string) (*inventory.Host, error) {
	h, ok := f.Host(name)
	if !ok {
		return nil, &hinted{fmt.Errorf("host %q is not in the configuration", name), "virtrust show lists the hosts"}
	}
	return h, nil
}
