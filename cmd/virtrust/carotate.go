package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

// rotation is one `ca rotate`.
type rotation struct {
	*fleet
	decl   *inventory.Authority
	public pki.Authority
	ledger *ledger.Ledger
	run    string

	yes, compromised, abort, selfSigned bool
	confirmed                           []string
}

func (a *app) caRotateCmd() *cobra.Command {
	r := &rotation{}
	c := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Take the next step from one generation of an authority to another",
		Long: `Takes one step, and only when its gate holds. Between the steps virtrust apply
carries the change to the hosts, so each change is a plan that can be read first:

  make      a new generation is made; the next apply adds it to every bundle
  issue     gate: every host has loaded it. It signs from now on; the next apply
            makes every certificate anew
  retire    gate: no host has a certificate of the old one. The next apply takes
            it out of every bundle
  destroy   gate: no host has it in a bundle. Its key is removed

At every moment all hosts can talk to each other. --abort goes back, until the old
generation is retired. An authority that has expired is replaced in one step.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.open(c.Context(), tasks.Options{})
			if err != nil {
				return err
			}
			defer f.close()
			r.fleet = f
			return r.step(c.Context(), args[0])
		},
	}
	a.configFlags(c)
	c.Flags().BoolVarP(&r.yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&r.compromised, "compromised", false, "the old key is in wrong hands: issue at once, and leave hosts behind that cannot be reached")
	c.Flags().BoolVar(&r.selfSigned, "self-signed", false, "make the next generation here although a root elsewhere signed the last one")
	c.Flags().BoolVar(&r.abort, "abort", false, "go back to the old generation")
	c.Flags().StringSliceVar(&r.confirmed, "confirmed", nil, "relying parties that are ready for the step")
	c.Flags().BoolVar(&a.exec, "allow-exec", false, "let the configuration run commands for passphrases")
	c.Flags().IntVar(&a.parallel, "parallel", 64, "hosts at once")
	c.MarkFlagsMutuallyExclusive("abort", "compromised")
	return c
}

// rotationResult is what `ca rotate --json` prints.
type rotationResult struct {
	tasks.Rotation
	Done        bool             `json:"done"`
	Generations []pki.Generation `json:"generations"`
	Next        string           `json:"next"`
}

func (r *rotation) step(ctx context.Context, name string) error {
	var err error
	if r.decl, err = declared(r.Fleet, name); err != nil {
		return err
	}
	var ok bool
	if r.public, ok = r.trust.Authority(name); !ok {
		return r.ready(r.every())
	}
	for _, n := range r.confirmed {
		if !slices.ContainsFunc(r.RelyingParties, func(p inventory.RelyingParty) bool { return p.Name == n }) {
			return fmt.Errorf("--confirmed %s: there is no relying_party of that name", n)
		}
	}
	l, err := ledger.Open(ctx, r.LedgerPath, ledger.Existing, ledger.WithClock(r.app.now))
	if err != nil {
		if errors.Is(err, ledger.ErrMissing) {
			return noLedger(err, "the ledger of these authorities is needed", r.LedgerPath)
		}
		return err
	}
	defer func() { _ = l.Close() }()
	r.ledger = l
	if r.abort {
		return r.goBack(ctx)
	}
	next, err := r.next(ctx)
	if err != nil {
		return err
	}
	if len(next.Waits) > 0 {
		if err := r.tell(next, false, "mend what keeps it back, then run `virtrust ca rotate "+name+"` again"); err != nil {
			return err
		}
		return &exitCode{code: exitIncomplete}
	}
	if next.Step == tasks.StepMake {
		if err := r.mayMake(); err != nil {
			return err
		}
	}
	if err := r.warn(ctx, next); err != nil {
		return err
	}
	if !r.yes {
		if err := r.app.approve(ctx, r.question(next)); err != nil {
			return err
		}
	}
	return r.write(ctx, func() error {
		switch next.Step {
		case tasks.StepMake:
			return r.make(ctx, next)
		case tasks.StepDestroy:
			if err := authority.Destroy(r.decl.KeyDirectory, next.Generation); err != nil {
				return err
			}
		}
		if err := l.Advance(ctx, r.run, name, next.To, string(next.Step)); err != nil {
			return err
		}
		return r.tell(next, true, after(next.Step, name))
	})
}

// warn names whose certificate ends with a step that retires a generation: no
// host has it, so no gate sees it.
func (r *rotation) warn(ctx context.Context, next tasks.Rotation) error {
	leaves, err := r.ledger.Leaves(ctx, ledger.IsOutside, false, r.app.now())
	if err != nil {
		return err
	}
	for _, k := range leaves {
		if k.Authority == r.decl.Name && next.To[k.Generation] == pki.PhaseRetired {
			r.app.note("%s (serial %s) is refused from the next apply on: issue it anew with `virtrust cert issue`", report.Safe(k.Host), k.Serial)
		}
	}
	return nil
}

// write does something that changes the ledger, as a run of its own, and brings
// the public file of phases up to date.
func (r *rotation) write(ctx context.Context, do func() error) error {
	var err error
	if r.run, err = r.ledger.StartRun(ctx, ledger.Run{ID: ledger.NewRunID(r.app.now()), Command: commandLine(), Operator: owner(), Version: versionText()}); err != nil {
		return err
	}
	err = do()
	result := "complete"
	if err != nil {
		result = "failed"
	}
	done := context.WithoutCancel(ctx)
	return errors.Join(err, authority.WritePhases(done, r.decl.Name, r.decl.Directory, r.ledger), r.ledger.EndRun(done, r.run, result))
}

// next finds the next step, with a look at every host where it has a gate.
func (r *rotation) next(ctx context.Context) (tasks.Rotation, error) {
	wish := tasks.RotationWish{Confirmed: r.confirmed, Compromised: r.compromised, HasKey: func(n int) bool { return authority.HasKey(r.decl.KeyDirectory, n) }}
	next := tasks.NextRotation(r.public, r.Fleet, &plan.Plan{}, r.trust, wish, r.app.now())
	if next.Step == tasks.StepMake || next.AtOnce {
		return next, nil
	}
	p, err := r.plan(ctx, r.domain(), false)
	if err != nil {
		return next, err
	}
	return tasks.NextRotation(r.public, r.Fleet, p, r.trust, wish, r.app.now()), nil
}

// domain lists the hosts whose policy has the authority.
func (r *rotation) domain() []*inventory.Host { return r.concerned(r.decl.Name) }

func (f *fleet) concerned(authority string) []*inventory.Host {
	var out []*inventory.Host
	for _, h := range f.every() {
		if slices.Contains(tasks.Authorities(h), authority) {
			out = append(out, h)
		}
	}
	return out
}

func (f *fleet) every() []*inventory.Host {
	out := make([]*inventory.Host, len(f.Hosts))
	for i := range f.Hosts {
		out[i] = &f.Hosts[i]
	}
	return out
}

// mayMake refuses where the next generation is not made here.
func (r *rotation) mayMake() error {
	d := r.decl
	if d.External() {
		return &hinted{fmt.Errorf("authority %q is of kind %s: its next certificate is made elsewhere", d.Name, d.Kind), "run `virtrust ca import " + d.Name + " CHAIN.pem`"}
	}
	if w, ok, err := authority.Waits(d.Directory); err != nil {
		return err
	} else if ok {
		return &hinted{fmt.Errorf("generation %d of authority %q waits for its certificate, by %s", w.Number, d.Name, near(w.Path)), "bring it in: `virtrust ca import " + d.Name + " CHAIN.pem`; or remove that file and its key, g" + strconv.Itoa(w.Number) + ".key.age"}
	}
	if old, ok := r.public.Issuing(); ok && len(old.Parents) > 0 && authority.HasKey(d.KeyDirectory, old.Number) && !r.selfSigned {
		return &hinted{fmt.Errorf("the certificate of authority %q is signed by a root elsewhere, and so is its next", d.Name),
			"run `virtrust ca csr " + d.Name + "`, have it signed, and `virtrust ca import " + d.Name + " CHAIN.pem`; or leave that root with --self-signed"}
	}
	return nil
}

// make makes the next generation. It signs at once where there is nothing to
// lose: the old one has expired, or its key is in wrong hands.
func (r *rotation) make(ctx context.Context, next tasks.Rotation) error {
	d := r.decl
	secret, err := authority.Resolve(ctx, d.PassphraseFrom, r.app.secretOptions(r.Fleet, d.Name, true))
	if err != nil {
		return err
	}
	defer secret.Wipe()
	g, err := authority.Next(ctx, authority.Params{
		Name: d.Name, Organization: d.Organization, KeyAlgorithm: pki.KeyAlgorithm(d.KeyAlgorithm), Lifetime: d.Lifetime,
		Dir: d.Directory, KeyDir: d.KeyDirectory, Passphrase: secret, Run: r.run, Now: r.app.now(),
	}, pki.PhasePrepared, r.ledger)
	if err != nil {
		return err
	}
	next.Generation, next.To = g.Number, map[int]pki.Phase{g.Number: pki.PhasePrepared}
	old, have := r.public.Issuing()
	expired := have && r.app.now().After(old.NotAfter)
	switch {
	case !have:
		next.To = map[int]pki.Phase{g.Number: pki.PhaseIssuing}
	case expired:
		next.To = map[int]pki.Phase{g.Number: pki.PhaseIssuing, old.Number: pki.PhaseRetired}
	case r.compromised:
		next.To = map[int]pki.Phase{g.Number: pki.PhaseIssuing, old.Number: pki.PhaseDraining}
	}
	if err := r.ledger.Advance(ctx, r.run, d.Name, next.To, string(next.Step)); err != nil {
		return err
	}
	then := after(next.Step, d.Name)
	switch {
	case expired:
		then = "commit " + d.Directory + ", then run `virtrust apply`: it installs the authority and every certificate"
	case r.compromised:
		then = "run `virtrust apply`: bundles gain the new generation, then certificates follow; after it `virtrust ca rotate " + d.Name + " --compromised`"
	}
	return r.tell(next, true, then)
}

// goBack undoes the change of generations, as far as it can be undone.
func (r *rotation) goBack(ctx context.Context) error {
	to, issued := tasks.Abort(r.public)
	issuing, _ := r.public.Issuing()
	then := "run `virtrust apply`: bundles lose the new generation"
	if issued {
		then = "run `virtrust apply`: certificates are made anew by the old generation; then `virtrust ca rotate " + r.decl.Name + "` retires the new one"
	}
	if len(to) == 0 {
		return &hinted{fmt.Errorf("authority %q has no change of generations under way", r.decl.Name), "a generation that is retired has left the bundles; rotate forward instead"}
	}
	next := tasks.Rotation{Authority: r.decl.Name, Step: "abort", Generation: issuing.Number, To: to}
	if !r.yes {
		if err := r.app.approve(ctx, "Go back to the old generation of authority "+r.decl.Name+"?"); err != nil {
			return err
		}
	}
	return r.write(ctx, func() error {
		if err := r.ledger.Advance(ctx, r.run, r.decl.Name, to, "abort"); err != nil {
			return err
		}
		return r.tell(next, true, then)
	})
}

func (r *rotation) question(n tasks.Rotation) string {
	switch n.Step {
	case tasks.StepMake:
		return fmt.Sprintf("Make generation %d of authority %s?", n.Generation, n.Authority)
	case tasks.StepDestroy:
		return fmt.Sprintf("Remove the key of generation %d of authority %s for good?", n.Generation, n.Authority)
	}
	return fmt.Sprintf("Move %s of authority %s?", moves(n.To), n.Authority)
}

func moves(to map[int]pki.Phase) string {
	var out []string
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(to))) {
		out = append(out, fmt.Sprintf("generation %d to %s", n, to[n]))
	}
	return strings.Join(out, ", ")
}

// after is what to do when a step is done.
func after(s tasks.Step, name string) string {
	again := "`virtrust ca rotate " + name + "`"
	switch s {
	case tasks.StepMake:
		return "run `virtrust apply`: every bundle gains it; then " + again
	case tasks.StepIssue:
		return "run `virtrust apply`: certificates are made anew; then " + again
	case tasks.StepRetire:
		return "run `virtrust apply`: bundles lose the old generation; then " + again
	}
	return "nothing: the change is complete"
}

func (r *rotation) tell(n tasks.Rotation, done bool, then string) error {
	known, err := r.ledger.Generations(context.Background(), n.Authority)
	if err != nil {
		return err
	}
	if r.app.json {
		public, err := authority.Read(r.decl.Name, r.decl.Directory)
		if err != nil {
			return err
		}
		for i := range public.Generations {
			for _, k := range known {
				if k.Number == public.Generations[i].Number {
					public.Generations[i].Phase = k.Phase
				}
			}
		}
		return report.JSON(r.app.out, rotationResult{n, done, public.Generations, then})
	}
	for _, k := range known {
		if k.Phase != pki.PhaseDestroyed || k.Number == n.Generation {
			fmt.Fprintf(r.app.out, "Authority %s: generation %d is %s, until %s\n", n.Authority, k.Number, k.Phase, k.NotAfter.UTC().Format("2006-01-02"))
		}
	}
	if len(n.Waits) > 0 {
		fmt.Fprintf(r.app.out, "\nStep %s of generation %d waits for %s:\n", n.Step, n.Generation, count(len(n.Waits), "host"))
		for _, u := range n.Waits {
			fmt.Fprintf(r.app.out, "  %s: %s\n", report.Safe(u.Host), report.Safe(u.Why))
		}
	}
	fmt.Fprintf(r.app.out, "\nNext: %s.\n", then)
	return nil
}

func (a *app) caMatrixCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "matrix NAME",
		Short: "Show who can talk to whom with an authority's certificates now",
		Long: `Looks at every host that has the authority and compares the certificates in place
with the bundles that the others have loaded. A cell is + where a client on the
host of the row can log in to the host of the column.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.open(c.Context(), tasks.Options{})
			if err != nil {
				return err
			}
			defer f.close()
			if _, err := declared(f.Fleet, args[0]); err != nil {
				return err
			}
			p, err := f.plan(c.Context(), f.concerned(args[0]), false)
			if err != nil {
				return err
			}
			talks := plan.Matrix(args[0], p)
			broken := slices.ContainsFunc(talks, func(t plan.Talk) bool { return !t.OK })
			if a.json {
				err = report.JSON(a.out, talks)
			} else {
				err = report.Matrix(a.out, talks)
			}
			if err == nil && broken {
				return &exitCode{code: exitIncomplete}
			}
			return err
		},
	}
	a.configFlags(c)
	c.Flags().IntVar(&a.parallel, "parallel", 64, "hosts at once")
	return c
}
