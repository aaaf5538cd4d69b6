package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

var noOptions tasks.Options

func (a *app) statusCmd() *cobra.Command {
	var sel selection
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what every host serves and has, and how long it lasts",
		Long:  "Exit code 0 when all is well, 2 when something is due, differs or has expired,\n3 when a host could not be read.",
		Args:  cobra.NoArgs,
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
			rows, unread, err := f.status(c.Context(), hosts)
			if err != nil {
				return err
			}
			if a.json {
				err = report.JSON(a.out, rows)
			} else {
				err = report.Status(a.out, rows, a.options())
			}
			if err != nil {
				return err
			}
			if unread > 0 {
				return &exitCode{code: exitIncomplete}
			}
			for _, r := range rows {
				if r.State != "ok" {
					return &exitCode{code: exitDifferences}
				}
			}
			return nil
		},
	}
	a.hostFlags(c, &sel)
	return c
}

// status looks at the hosts and gives a row for each certificate.
func (f *fleet) status(ctx context.Context, hosts []*inventory.Host) ([]report.StatusRow, int, error) {
	if err := f.ready(hosts); err != nil {
		return nil, 0, err
	}
	per := make([][]report.StatusRow, len(hosts))
	failed := make([]bool, len(hosts))
	p := f.app.progress("reading", len(hosts))
	errs := make([]error, len(hosts))
	f.each(ctx, hosts, func(ctx context.Context, i int, h *inventory.Host) {
		defer p.step(h.Name)
		all, err := tasks.For(h, f.trust, f.opts)
		if err != nil {
			errs[i] = err
			return
		}
		seen, err := f.look(ctx, h, plan.Queries(all))
		if err != nil {
			failure := classify(err)
			failed[i] = true
			per[i] = []report.StatusRow{{Host: h.Name, State: "unreadable", Note: failure.Class + ": " + failure.Text}}
			return
		}
		f.forget(h.Name)
		for _, c := range tasks.Status(all, seen, f.app.now()) {
			per[i] = append(per[i], report.StatusRow{
				Host: h.Name, Certificate: c.Certificate, Served: c.Served, OnDisk: c.OnDisk, NotAfter: c.NotAfter,
				DaysLeft: c.DaysLeft, Due: c.Due, State: c.State, Note: c.Note,
			})
		}
	})
	p.done()
	var rows []report.StatusRow
	unread := 0
	for i := range hosts {
		if errs[i] != nil {
			return nil, 0, errs[i]
		}
		if failed[i] {
			unread++
		}
		rows = append(rows, per[i]...)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, 0, fmt.Errorf("status: %w", err)
	}
	return rows, unread, nil
}
