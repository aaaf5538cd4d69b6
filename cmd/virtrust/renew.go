package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

func (a *app) renewCmd() *cobra.Command {
	var sel selection
	var dry, quiet bool
	most, every := string(plan.DisruptReload), 7*24*time.Hour
	c := &cobra.Command{
		Use:   "renew",
		Short: "Renew what is due, made for a scheduler",
		Long: `A plan and an apply of renewals alone: certificates that are due, and revocation
lists. It asks nothing and is silent on what a person has to decide. Hosts are
contacted only where the ledger says that something may be due, and a part of the
others each day, so that the whole fleet is looked at within --full-every; what an
apply would change there is reported, not changed. Windows (rollout { windows })
and the pause after failures are kept; a certificate that is about to end waits for
neither. One run at a time in each cluster.

The summary on standard output is fit for mail or chat; with --json each step is a
JSON object on a line of its own, and the last one is the summary.

Exit codes: 0 done, nothing due, or waiting for a window; 3 when a host failed, is
held, backs off after failures or its cluster was locked; 4 refused; 5 when another
run has every cluster.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !slices.Contains([]plan.Disruption{plan.DisruptNone, plan.DisruptReload, plan.DisruptRestart}, plan.Disruption(most)) {
				return fmt.Errorf(`--max-disruption is none, reload or "daemon restart", not %q`, most)
			}
			if every != 0 && every < 24*time.Hour {
				return fmt.Errorf("--full-every is a day at least, or 0 for never, not %s", every)
			}
			f, err := a.open(c.Context(), tasks.Options{Renew: true})
			if err != nil {
				return err
			}
			defer f.close()
			f.revertAfter = remote.DefaultRevertAfter
			hosts, err := sel.hosts(f.Fleet)
			if err != nil {
				return err
			}
			r := &renewing{fleet: f, most: plan.Disruption(most), every: every, dry: dry}
			r.sum.At, r.sum.Hosts = a.now().UTC(), len(hosts)
			err = r.run(c.Context(), hosts)
			var code *exitCode
			switch {
			case errors.As(err, &code):
				r.sum.ExitCode = code.code
			case err != nil:
				r.sum.ExitCode = exitError
			}
			if r.sum.ExitCode != exitDone && err.Error() != "" && (code == nil || code.err != nil) {
				r.sum.Error = err.Error()
			}
			if a.json {
				r.event(event{Type: "summary", Run: r.sum.Run, Summary: &r.sum})
			} else if r.sum.Error == "" && (!quiet || !r.sum.Quiet()) {
				if err := report.Renewal(a.out, &r.sum, a.options()); err != nil {
					return err
				}
			}
			return err
		},
	}
	a.hostFlags(c, &sel)
	c.Flags().StringVar(&most, "max-disruption", most, `hold hosts on which more would be interrupted: none, reload or "daemon restart"`)
	c.Flags().DurationVar(&every, "full-every", every, "within which time each host is looked at in full; 0 never without a reason")
	c.Flags().BoolVar(&dry, "dry-run", false, "look and report, change nothing")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing when there is nothing to read")
	c.Flags().BoolVar(&a.exec, "allow-exec", false, "let the configuration run commands for passphrases")
	return c
}

// renewing is one scheduled run.
type renewing struct {
	*fleet
	most  plan.Disruption
	every time.Duration
	dry   bool
	sum   report.Renewals

	telling sync.Mutex
}

// event is one line of --json.
type event struct {
	Type    string           `json:"type"` // start, finding, step, host, summary
	Time    time.Time        `json:"time"`
	Run     string           `json:"run,omitempty"`
	Host    string           `json:"host,omitempty"`
	Step    string           `json:"step,omitempty"`
	Text    string           `json:"text,omitempty"`
	Code    string           `json:"code,omitempty"`
	Result  plan.Result      `json:"result,omitempty"`
	Hosts   []string         `json:"hosts,omitempty"`
	Summary *report.Renewals `json:"summary,omitempty"`
}

func (r *renewing) event(e event) {
	if !r.app.json {
		return
	}
	e.Time = r.app.now().UTC()
	r.telling.Lock()
	defer r.telling.Unlock()
	if err := report.JSONLine(r.app.out, e); err != nil {
		r.log.Warn("an event could not be written", "error", err)
	}
}

func (r *renewing) run(ctx context.Context, hosts []*inventory.Host) error {
	mode := ledger.Existing
	if r.onlyExternal() {
		mode = ledger.Create // as for apply
	}
	l, err := ledger.Open(ctx, r.LedgerPath, mode, ledger.WithClock(r.app.now))
	if errors.Is(err, ledger.ErrMissing) {
		return noLedger(err, "renew needs the ledger of these authorities", r.LedgerPath)
	} else if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	hosts, release, err := r.lock(hosts)
	if err != nil {
		return err
	}
	defer release()
	if err := r.refreshLists(ctx, l, hosts); err != nil {
		return err
	}
	looks, err := l.Looks(ctx)
	if err != nil {
		return err
	}
	todo, err := r.candidates(ctx, l, hosts, looks)
	if err != nil {
		return err
	}
	r.sum.Contacted = len(todo)
	var names []string
	for _, h := range todo {
		names = append(names, h.Name)
	}
	r.event(event{Type: "start", Hosts: names})
	if len(todo) == 0 {
		return r.exit(ctx, nil)
	}
	r.whole = map[string]plan.HostPlan{}
	p, err := r.plan(ctx, todo, true)
	if err != nil {
		return err
	}
	if !r.dry {
		if p, err = r.settle(ctx, todo, p); err != nil {
			return err
		}
	}
	r.judge(p)
	rep := &plan.Report{}
	if !r.dry {
		tell := func(e plan.Event) {
			t := "step"
			if e.Result != "" {
				t = "host"
			}
			r.event(event{Type: t, Host: e.Host, Step: e.Step, Text: e.Detail, Result: e.Result})
		}
		if rep, err = r.carryOut(ctx, p, commandLine(), tell); err != nil {
			return err
		}
		r.sum.Run = rep.Run
		if err := r.withdraw(ctx, p, rep, commandLine(), tell, hosts...); err != nil {
			r.sum.Failed = append(r.sum.Failed, report.RenewalRow{Host: "revocation", Text: err.Error()})
		}
		for _, v := range rep.Revoked {
			r.sum.Lists = append(r.sum.Lists, report.RenewalRow{Host: v.Host, Text: "revoked " + v.What()})
		}
	}
	r.outcome(p, rep)
	if !r.dry {
		if err := r.remember(ctx, l, p, rep); err != nil {
			return err
		}
	}
	return r.exit(ctx, rep)
}

// lock takes the locks of the hosts' clusters and leaves out hosts of those that
// another run has.
func (r *renewing) lock(hosts []*inventory.Host) (free []*inventory.Host, release func(), err error) {
	taken := map[string]string{}
	var releases []func()
	release = func() {
		for _, f := range releases {
			f()
		}
	}
	seen := map[string]bool{}
	for _, h := range hosts {
		if !seen[h.Cluster] {
			seen[h.Cluster] = true
			f, who, err := lockCluster(r.LedgerPath, h.Cluster)
			if err != nil {
				release()
				return nil, nil, err
			}
			if f == nil {
				taken[h.Cluster] = who
			} else {
				releases = append(releases, f)
			}
		}
		if who, is := taken[h.Cluster]; is {
			r.sum.Held = append(r.sum.Held, report.RenewalRow{Host: h.Name, Text: "another renew is at work in its cluster: " + who})
			continue
		}
		free = append(free, h)
	}
	if len(free) == 0 {
		release()
		return nil, nil, &exitCode{code: exitLocked}
	}
	return free, release, nil
}

// exit is the exit code of the run.
func (r *renewing) exit(ctx context.Context, rep *plan.Report) error {
	switch {
	case context.Cause(ctx) != nil:
		return &exitCode{code: exitInterrupted}
	case rep != nil && len(rep.Stopped) > 0 || len(r.sum.Failed)+len(r.sum.Held) > 0:
		return &exitCode{code: exitIncomplete}
	}
	return nil
}

// judge holds hosts on which too much would be interrupted, and tells findings.
func (r *renewing) judge(p *plan.Plan) {
	for i := range p.Hosts {
		h := &p.Hosts[i]
		if d := h.Disrupts(); len(h.Ops) > 0 && d.Exceeds(r.most) {
			h.Findings = append(h.Findings, plan.Finding{Code: "too-disruptive", Severity: plan.Problem, Host: h.Host, Holds: true,
				Text: fmt.Sprintf("the renewal means %s and --max-disruption allows %s", d, r.most), Hint: "apply at a time that suits, or allow more"})
		}
		for _, f := range h.Findings {
			r.event(event{Type: "finding", Host: h.Host, Code: f.Code, Text: f.Text})
		}
	}
}

// outcome sorts hosts into the summary.
func (r *renewing) outcome(p *plan.Plan, rep *plan.Report) {
	results := map[string]plan.HostReport{}
	for _, h := range rep.Hosts {
		results[h.Host] = h
	}
	for i := range p.Hosts {
		h := &p.Hosts[i]
		row := func(text string) report.RenewalRow { return report.RenewalRow{Host: h.Host, Text: text} }
		hr := results[h.Host]
		failure := hr.Failure
		if failure == nil {
			failure = h.Failure
		}
		switch {
		case h.ReadOnly != "":
		case hr.Result == plan.Changed:
			r.sum.Renewed = append(r.sum.Renewed, row(made(h)))
		case h.Held():
			r.sum.Held = append(r.sum.Held, row(heldText(h)))
		case failure != nil && (hr.Result == plan.Held || hr.Result == ""):
			r.sum.Held = append(r.sum.Held, row(failure.Class+": "+failure.Text))
		case failure != nil:
			r.sum.Failed = append(r.sum.Failed, row(string(hr.Result)+", "+failure.Class+": "+failure.Text))
		case r.dry && h.Changes():
			r.sum.Waiting = append(r.sum.Waiting, row("would be renewed: "+made(h)))
		}
		if text := together(h, tasks.CodeWaitsForWindow); text != "" {
			r.sum.Waiting = append(r.sum.Waiting, row(text))
		}
		if text := together(h, tasks.CodeBacksOff); text != "" {
			r.sum.Held = append(r.sum.Held, row(text))
		}
		if n := r.others(h); n > 0 && h.ReadOnly == "" {
			r.sum.Differs = append(r.sum.Differs, row(count(n, "change")+" that only a person may approve: virtrust plan"))
		}
	}
}

// together is what a host's findings of one code say, in one line: they are
// about certificates of one transaction.
func together(h *plan.HostPlan, code string) string {
	text, more := "", 0
	for _, f := range h.Findings {
		switch {
		case f.Code != code:
		case text == "":
			text = f.Text
		default:
			more++
		}
	}
	if more > 0 {
		text += fmt.Sprintf(" (the same for %s)", count(more, "more certificate"))
	}
	return text
}

// others counts what an apply would do on a host beside what this run did.
func (r *renewing) others(h *plan.HostPlan) int {
	whole, ok := r.whole[h.Host]
	if !ok {
		return 0
	}
	n := 0
	for _, o := range whole.Ops {
		if !slices.ContainsFunc(h.Ops, func(x plan.Op) bool { return x.Kind() == o.Kind() && x.Subject() == o.Subject() }) {
			if e, is := o.(plan.Enrol); is && r.later(h, e) {
				continue
			}
			if _, is := o.(plan.Activate); is {
				continue // follows from the others
			}
			n++
		}
	}
	return n
}

// later reports whether a certificate is left to a later run.
func (r *renewing) later(h *plan.HostPlan, e plan.Enrol) bool {
	return slices.ContainsFunc(h.Findings, func(f plan.Finding) bool {
		return f.Task == e.Task && (f.Code == tasks.CodeWaitsForWindow || f.Code == tasks.CodeBacksOff)
	})
}

func made(h *plan.HostPlan) string {
	var parts []string
	for _, o := range h.Ops {
		switch o := o.(type) {
		case plan.Enrol:
			parts = append(parts, o.Certificate)
		case plan.WriteFile:
			parts = append(parts, o.Path)
		}
	}
	if len(parts) == 0 {
		return "taken up by the daemon"
	}
	return strings.Join(parts, ", ")
}

func heldText(h *plan.HostPlan) string {
	for _, f := range h.Findings {
		if f.Holds {
			return f.Text
		}
	}
	return "held"
}

// remember records which hosts were looked at and have what is wanted.
func (r *renewing) remember(ctx context.Context, l *ledger.Ledger, p *plan.Plan, rep *plan.Report) error {
	for i := range p.Hosts {
		h := &p.Hosts[i]
		if h.Failure != nil || h.Held() {
			continue
		}
		if len(h.Ops) > 0 && !slices.ContainsFunc(rep.Hosts, func(x plan.HostReport) bool {
			return x.Host == h.Host && x.Result == plan.Changed && len(x.HeldOps) == 0
		}) {
			continue
		}
		host, ok := r.Host(h.Host)
		if !ok {
			continue
		}
		if err := l.RecordLook(context.WithoutCancel(ctx), h.Host, r.trustOf(host)); err != nil {
			return err
		}
	}
	return nil
}

// refreshLists signs the revocation lists that end soon or lack something, so
// that this run brings them to hosts. What cannot be signed is reported: hosts go
// on using the list before.
func (r *renewing) refreshLists(ctx context.Context, l *ledger.Ledger, hosts []*inventory.Host) error {
	var names []string
	for _, h := range hosts {
		names = append(names, tasks.Authorities(h)...)
	}
	rv := &revoker{fleet: r.fleet, ledger: l}
	for _, a := range r.trust.Authorities {
		if d, ok := r.Fleet.Authority(a.Name); !ok || d.External() || !slices.Contains(names, a.Name) {
			continue
		}
		var due []signing
		for _, g := range a.Trusted() {
			list, err := g.List()
			if err != nil {
				return err
			}
			if len(g.Unlisted) > 0 || list != nil && len(list.RevokedCertificateEntries) > 0 && !pki.CRLDue(list).After(r.app.now()) {
				due = append(due, signing{a.Name, g.Number})
			}
		}
		if len(due) == 0 {
			continue
		}
		if r.dry {
			r.sum.Lists = append(r.sum.Lists, report.RenewalRow{Host: a.Name, Text: "would be signed anew"})
			continue
		}
		if rv.id == "" {
			if err := rv.start(ctx); err != nil {
				return err
			}
		}
		lists, err := rv.sign(ctx, due)
		if err != nil {
			r.sum.Failed = append(r.sum.Failed, report.RenewalRow{Host: "revocation list of " + a.Name, Text: err.Error()})
		}
		for _, x := range lists {
			r.sum.Lists = append(r.sum.Lists, report.RenewalRow{Host: a.Name, Text: x.text()})
		}
	}
	if rv.id == "" {
		return nil
	}
	rv.end(nil)
	var err error
	r.trust, err = readTrust(ctx, r.Fleet)
	return err
}
