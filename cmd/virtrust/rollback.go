package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

func (a *app) rollbackCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "rollback HOST...",
		Short: "Undo what the last run changed on hosts, as a plan",
		Long: `Reads the journal of what the last run changed on each host, in one transaction or
two, shows the plan that undoes it, asks, and carries it out like any other plan. It
refuses to bring back what is expired, revoked or no longer trusted. The next plan
wants the change again: roll the configuration back, too.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			hosts, err := selection{limit: args, named: true}.hosts(f.Fleet)
			if err != nil {
				return err
			}
			p, queries := f.undo(c.Context(), hosts)
			if !a.json {
				if err := report.Plan(a.out, p, a.options()); err != nil {
					return err
				}
			}
			change, _, _, _ := p.Count()
			if change > 0 && !yes {
				if err := a.approve(c.Context(), "Roll back "+count(change, "host")+"?"); err != nil {
					return err
				}
			}
			f.undoQueries = queries
			return f.apply(c.Context(), p, commandLine())
		},
	}
	a.configFlags(c)
	c.Flags().IntVar(&a.parallel, "parallel", 64, "hosts at once")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// undo makes the plan that undoes each host's last transaction.
func (f *fleet) undo(ctx context.Context, hosts []*inventory.Host) (*plan.Plan, map[string]*tasks.Journal) {
	parts := make([]plan.HostPlan, len(hosts))
	journals := make([]*tasks.Journal, len(hosts))
	f.each(ctx, hosts, func(ctx context.Context, i int, h *inventory.Host) {
		parts[i] = plan.HostPlan{Host: h.Name, Cluster: h.Cluster}
		fail := func(err error) {
			failure := classify(err)
			parts[i].Failure = &failure
		}
		seen, err := f.look(ctx, h, tasks.JournalQueries())
		if err != nil {
			fail(err)
			return
		}
		j, err := tasks.ReadJournal(seen)
		if err == nil && len(j.FirstQueries()) > 0 {
			if seen, err = f.look(ctx, h, j.FirstQueries()); err != nil {
				fail(err)
				return
			}
			for _, g := range j.ReadFirst(seen) {
				g.Host = h.Name
				parts[i].Findings = append(parts[i].Findings, g)
			}
		}
		if err == nil {
			if seen, err = f.look(ctx, h, j.UndoQueries()); err != nil {
				fail(err)
				return
			}
			parts[i].MachineID, parts[i].HostKey = seen.MachineID, seen.HostKey
			journals[i] = j
			parts[i].Ops, err = j.Undo(seen, f.trust, f.app.now())
		}
		if err != nil {
			parts[i].Findings = append(parts[i].Findings, plan.Finding{Code: "no-rollback", Severity: plan.Problem, Host: h.Name, Text: err.Error(), Holds: true})
		}
	})
	byHost := map[string]*tasks.Journal{}
	for i, h := range hosts {
		if journals[i] != nil {
			byHost[h.Name] = journals[i]
		}
	}
	return plan.Make(versionText(), f.Digest, f.trust, parts, nil, f.app.now()), byHost
}
