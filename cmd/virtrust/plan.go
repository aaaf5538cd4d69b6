package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

func (a *app) planCmd() *cobra.Command {
	var sel selection
	var opts tasks.Options
	var outFile string
	var detailed, markdown bool
	c := &cobra.Command{
		Use:   "plan",
		Short: "Look at the hosts and show what would change",
		Long: `Looks at every selected host over SSH and shows what apply would change. Nothing
is changed, no secret is opened, nothing that the configuration names is run.

Exit code 0, or with --detailed-exitcode 2 when something would change; 3 when a
host could not be read or is held.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := a.open(c.Context(), opts)
			if err != nil {
				return err
			}
			defer f.close()
			f.withPeers = sel.withPeers
			hosts, err := sel.hosts(f.Fleet)
			if err != nil {
				return err
			}
			p, err := f.plan(c.Context(), hosts, false)
			if err != nil {
				return err
			}
			switch {
			case a.json:
				err = report.JSON(a.out, p)
			case markdown:
				err = report.PlanMarkdown(a.out, p, a.options())
			default:
				err = report.Plan(a.out, p, a.options())
			}
			if err != nil {
				return err
			}
			if outFile != "" {
				if err := savePlan(outFile, p); err != nil {
					return err
				}
				a.note("The plan is in %s: `virtrust apply %s` carries out exactly this.", outFile, outFile)
			}
			change, held, unread, _ := p.Count()
			switch {
			case held+unread > 0:
				return &exitCode{code: exitIncomplete}
			case detailed && change+len(p.Revocations) > 0:
				return &exitCode{code: exitDifferences}
			}
			return nil
		},
	}
	a.hostFlags(c, &sel)
	peersFlag(c, &sel)
	replaceFlag(c, &opts)
	c.Flags().StringVar(&outFile, "out", "", "save the plan to this file (mode 0600)")
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit code 2 when something would change")
	c.Flags().BoolVar(&markdown, "markdown", false, "print Markdown, for a comment in a review")
	return c
}

func peersFlag(c *cobra.Command, sel *selection) {
	c.Flags().BoolVar(&sel.withPeers, "with-peers", false, "also change the hosts that a condition of a selected host names")
}

func replaceFlag(c *cobra.Command, opts *tasks.Options) {
	c.Flags().StringSliceVar(&opts.Replace, "replace", nil, "make these certificates anew, e.g. certificate.libvirt-server")
}

// savePlan writes a plan beside its place and renames it there, so that a
// crash leaves no half plan.
func savePlan(file string, p *plan.Plan) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".plan-*") // mode 0600
	if err != nil {
		return fmt.Errorf("saving the plan: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already after the rename
	if err := p.Write(tmp); err != nil {
		tmp.Close()
		return fmt.Errorf("saving the plan: %w", err)
	}
	if err := tmp.Sync(); err != nil {
		tmp.Close()
		return fmt.Errorf("saving the plan: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("saving the plan: %w", err)
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return fmt.Errorf("saving the plan: %w", err)
	}
	return nil
}

// readPlan reads a saved plan and refuses one of another configuration.
func (f *fleet) readPlan(file string) (*plan.Plan, error) {
	r, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := plan.ReadPlan(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	refused := func(what string) error {
		return &exitCode{exitRefused, &hinted{fmt.Errorf("%s: %s since the plan was made", file, what), "make a new plan"}}
	}
	if p.Configuration != f.Digest {
		return nil, refused("the configuration changed")
	}
	if p.Trust != f.trust.Digest() {
		return nil, refused("an authority changed")
	}
	for _, h := range p.Hosts {
		if _, ok := f.Host(h.Host); !ok {
			return nil, refused("host " + h.Host + " left the configuration")
		}
	}
	return p, nil
}
