package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

func (a *app) applyCmd() *cobra.Command {
	var sel selection
	var opts tasks.Options
	var yes bool
	after, waitJobs := remote.DefaultRevertAfter, 2*time.Minute
	c := &cobra.Command{
		Use:   "apply [PLAN]",
		Short: "Carry out a plan and prove the result",
		Long: `Makes a plan, asks, and carries it out; or carries out a saved plan as it is.
Each host is one transaction: it is locked, looked at again, everything is staged
beside its place, a reverter is armed, the names are switched, the listener must
show the new certificate, and only then it is confirmed. What fails is put back.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if after < remote.MinRevertAfter || after > time.Hour {
				return fmt.Errorf("--revert-after is between %s and 1h, not %s", remote.MinRevertAfter, after)
			}
			f, err := a.open(c.Context(), opts)
			if err != nil {
				return err
			}
			defer f.close()
			f.revertAfter, f.waitJobs, f.withPeers = after, waitJobs, sel.withPeers
			var p *plan.Plan
			if len(args) == 1 {
				if len(sel.limit)+len(sel.exclude)+len(opts.Replace) > 0 || sel.withPeers {
					return &hinted{errors.New("a saved plan is carried out as it is"), "give --limit, --exclude, --with-peers and --replace to plan"}
				}
				if p, err = f.readPlan(args[0]); err != nil {
					return err
				}
			} else {
				hosts, err := sel.hosts(f.Fleet)
				if err != nil {
					return err
				}
				if p, err = f.plan(c.Context(), hosts, true); err != nil {
					return err
				}
				if p, err = f.settle(c.Context(), hosts, p); err != nil {
					return err
				}
				if !a.json {
					if err := report.Plan(a.out, p, a.options()); err != nil {
						return err
					}
				}
			}
			if err := context.Cause(c.Context()); err != nil {
				return err
			}
			change, _, _, _ := p.Count()
			if change+len(p.Revocations) > 0 && len(args) == 0 && !yes {
				question := fmt.Sprintf("Change %s?", count(change, "host"))
				if n := len(p.Revocations); n > 0 {
					question = fmt.Sprintf("Change %s and revoke %s for good?", count(change, "host"), count(n, "certificate"))
				}
				if err := a.approve(c.Context(), question); err != nil {
					return err
				}
			}
			return f.apply(c.Context(), p, commandLine())
		},
	}
	a.hostFlags(c, &sel)
	peersFlag(c, &sel)
	replaceFlag(c, &opts)
	c.Flags().DurationVar(&waitJobs, "wait-jobs", waitJobs, "how long a restart waits for a migration, backup or other job of a guest before the host is held")
	c.Flags().DurationVar(&after, "revert-after", after, "how long a host waits for the confirmation before it puts everything back")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&a.exec, "allow-exec", false, "let the configuration run commands for passphrases")
	return c
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// commandLine is what was typed, for the ledger. Flags hold no secrets.
func commandLine() string { return strings.Join(os.Args[1:], " ") }

// apply carries a plan out and prints the report.
func (f *fleet) apply(ctx context.Context, p *plan.Plan, command string) error {
	change, _, _, _ := p.Count()
	tell := f.app.steps(change)
	rep, err := f.carryOut(ctx, p, command, tell)
	if err != nil {
		return err
	}
	withdrawn := f.withdraw(ctx, p, rep, command, tell)
	if f.app.json {
		err = report.JSON(f.app.out, rep)
	} else {
		err = report.Apply(f.app.out, rep, f.app.options())
	}
	if err = errors.Join(withdrawn, err); err != nil {
		return err
	}
	return applyExit(ctx, rep)
}

// carryOut carries a plan out. Each step is told while it happens.
func (f *fleet) carryOut(ctx context.Context, p *plan.Plan, command string, tell func(plan.Event)) (*plan.Report, error) {
	run := &applyRun{fleet: f, id: ledger.NewRunID(f.app.now()), authorities: map[string]signer{}, done: map[string]bool{}, plan: p}
	change, _, _, _ := p.Count()
	if change > 0 {
		if err := run.open(ctx, command); err != nil {
			return nil, err
		}
		defer run.close()
	}
	rollouts := map[string]plan.Rollout{}
	for _, h := range f.Hosts {
		if _, ok := rollouts[h.Cluster]; !ok {
			r := h.Policy.Rollout
			rollouts[h.Cluster] = plan.Rollout{Canary: r.Canary, Batch: r.Batch, Restarts: r.Restarts, MaxFailures: r.MaxFailures, MaxUnreachable: r.MaxUnreachable}
		}
	}
	for _, c := range f.Clusters {
		r := c.Rollout
		rollouts[c.Name] = plan.Rollout{Canary: r.Canary, Batch: r.Batch, Restarts: r.Restarts, MaxFailures: r.MaxFailures, MaxUnreachable: r.MaxUnreachable}
	}
	for _, name := range f.settled {
		run.done[name] = true
	}
	for i := range p.Hosts {
		// A host whose client certificate and bundle stay as they are can
		// dial others before its own turn comes.
		if h := &p.Hosts[i]; h.Failure == nil && !f.dialsDifferently(h) {
			run.done[h.Host] = true
		}
	}
	runner := plan.Runner{
		Run: run.id, Open: run.session, Queries: run.queries, Sign: run.sign, Peers: run.peers, Classify: classify, Done: run.record,
		Trust: f.trust, WaitJobs: f.waitJobs, Rollouts: rollouts, Parallel: f.app.parallel, Now: f.app.now, Log: f.log,
		Progress: tell,
	}
	rep := runner.Apply(ctx, p)
	f.app.stepsDone()
	result := "complete"
	if !rep.Complete() {
		result = "incomplete"
	}
	run.end(result)
	return rep, nil
}

// applyExit is the exit code of a report.
func applyExit(ctx context.Context, rep *plan.Report) error {
	wanted, moved, locked := 0, 0, 0
	for _, h := range rep.Hosts {
		if h.Result == plan.Unchanged && h.Failure == nil {
			continue
		}
		wanted++
		if h.Failure != nil && h.Failure.Class == "moved" {
			moved++
		}
		if h.Failure != nil && h.Failure.Class == string(remote.ClassLock) {
			locked++
		}
	}
	switch {
	case context.Cause(ctx) != nil:
		return &exitCode{code: exitInterrupted}
	case rep.Complete():
		return nil
	case wanted > 0 && locked == wanted:
		return &exitCode{code: exitLocked}
	case wanted > 0 && moved == wanted:
		return &exitCode{code: exitRefused}
	}
	return &exitCode{code: exitIncomplete}
}
