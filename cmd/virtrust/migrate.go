package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/tasks"
)

// migrateOptions is what was asked of one migration.
type migrateOptions struct {
	guest, from, to string
	autoConverge    bool
	connections     int
	postcopy        bool
	limit           time.Duration
	allowPlain      bool
}

func (a *app) migrateCmd() *cobra.Command {
	o := migrateOptions{limit: 30 * time.Minute}
	c := &cobra.Command{
		Use:   "migrate VM --to HOST",
		Short: "Migrate a running guest, encrypted, and prove where it runs",
		Long: `Finds the guest's host, looks at both ends, and has libvirt migrate the guest
peer to peer. The guest's memory is encrypted when both ends can; where the policy
is required, or --allow-plain is not given, nothing else is done.

The job runs on the host, not in this connection. A time limit aborts it there, and
so does an interrupt, unless the guest is in post-copy: then it goes on. A guest
that is defined stays defined, on its new host alone.

Exit code 0 when the guest runs on HOST, 3 when it stayed or was not found, 4 when
the migration is refused, 130 when interrupted.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.guest = args[0]
			switch {
			case o.limit < 5*time.Second || o.limit > 24*time.Hour:
				return fmt.Errorf("--timeout is between 5s and 24h, not %s", o.limit)
			case o.connections < 0 || o.connections > 64:
				return fmt.Errorf("--parallel is between 1 and 64, not %d", o.connections)
			case o.connections > 0 && o.postcopy:
				return &hinted{errors.New("--parallel and --postcopy do not go together"), "give one of them"}
			}
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			return f.migrate(c.Context(), o)
		},
	}
	a.configFlags(c)
	c.Flags().StringVar(&o.to, "to", "", "host that the guest goes to")
	c.Flags().StringVar(&o.from, "from", "", "host that the guest is on; default: the hosts of the cluster are asked")
	c.Flags().BoolVar(&o.autoConverge, "auto-converge", false, "slow the guest's processors when its memory changes faster than it can be sent")
	c.Flags().IntVar(&o.connections, "parallel", 0, "send memory over this many connections")
	c.Flags().BoolVar(&o.postcopy, "postcopy", false, "after one pass run the guest on the new host and fetch the rest: always ends, but a broken network loses the guest")
	c.Flags().DurationVar(&o.limit, "timeout", o.limit, "abort the job on the host after this time")
	c.Flags().BoolVar(&o.allowPlain, "allow-plain", false, "where policy allows it and TLS is not possible, send the guest's memory in clear")
	_ = c.MarkFlagRequired("to")
	return c
}

// virshOptions are what the flags add to the route's options.
func (o migrateOptions) virshOptions(persistent bool) []string {
	var out []string
	if persistent {
		out = append(out, "--persistent", "--undefinesource")
	}
	if o.autoConverge {
		out = append(out, "--auto-converge")
	}
	if o.connections > 0 {
		out = append(out, "--parallel", "--parallel-connections", strconv.Itoa(o.connections))
	}
	if o.postcopy {
		out = append(out, "--postcopy", "--postcopy-after-precopy")
	}
	return out
}

// refuse is an error that no run would change.
func refuse(hint, format string, args ...any) error {
	return &exitCode{exitRefused, &hinted{fmt.Errorf(format, args...), hint}}
}

func (f *fleet) migrate(ctx context.Context, o migrateOptions) error {
	to, err := f.member(o.to)
	if err != nil {
		return err
	}
	ask, err := f.candidates(to, o.from)
	if err != nil {
		return err
	}
	ends, failures := f.ends(ctx, append(slices.Clone(ask), to))
	if err := context.Cause(ctx); err != nil {
		return err
	}
	from, err := holder(o.guest, ask, ends)
	if len(failures) > 0 && (err != nil || failures[to.Name].Class != "") {
		f.app.unread(append(slices.Clone(ask), to), failures)
		return &exitCode{exitIncomplete, err}
	}
	if err != nil {
		return err
	}
	route := tasks.Between(ends[from.Name], ends[to.Name])
	tls, err := allowed(route, o)
	if err != nil {
		return err
	}
	c, err := f.conn(ctx, from)
	if err != nil {
		return err
	}
	guest, err := remote.FindGuest(ctx, c, o.guest, "")
	if err != nil {
		return err
	}
	if guest.UUID == "" {
		return &exitCode{exitIncomplete, &hinted{fmt.Errorf("libvirt of %s does not know the guest %q", from.Name, o.guest), "look at `virsh -c qemu:///system list --all` there"}}
	}
	if guest.Job != "none" && guest.Job != "" {
		return &exitCode{exitIncomplete, &hinted{fmt.Errorf("%s is in a job: %s", o.guest, report.Safe(guest.Job)), "wait for it, or end it with `virsh domjobabort` on " + from.Name}}
	}
	args := append(route.Options(tls), o.virshOptions(guest.Persistent)...)
	job := remote.Migration{ID: ledger.NewRunID(f.app.now()), Guest: guest.UUID, URI: route.URI, Args: args, Limit: o.limit}
	row := report.MigrationRow{Guest: o.guest, UUID: guest.UUID, From: from.Name, To: to.Name, TLS: tls, Persistent: guest.Persistent,
		Command: strings.Join(append(append([]string{"virsh -c qemu:///system migrate"}, args...), o.guest, route.URI), " ")}
	f.app.note("%s: %s", from.Name, report.SafeN(row.Command, 400))
	state, err := f.runJob(ctx, from, job, f.progressOf(o.guest))
	row.Seconds, row.Stopped = state.Took.Seconds(), state.Stopped
	switch {
	case err != nil:
		row.Text, row.Hint = err.Error(), hintOf(err)
	case state.Exit != 0:
		row.Text, row.Hint = state.Why(), migrationHint(state.Why())
	}
	f.whereIs(ctx, &row, from, to)
	return f.migrated(ctx, row)
}

func (f *fleet) migrated(ctx context.Context, row report.MigrationRow) error {
	var err error
	if f.app.json {
		err = report.JSON(f.app.out, row)
	} else {
		err = report.Migration(f.app.out, row, f.app.options())
	}
	switch {
	case err != nil:
		return err
	case row.Result == report.MigrationMoved:
		return nil
	case context.Cause(ctx) != nil:
		return &exitCode{code: exitInterrupted}
	}
	return &exitCode{code: exitIncomplete}
}

// candidates are the hosts that the guest may be on.
func (f *fleet) candidates(to *inventory.Host, from string) ([]*inventory.Host, error) {
	if from != "" {
		h, err := f.member(from)
		if err == nil && h == to {
			err = fmt.Errorf("--from and --to are both %s", from)
		}
		return []*inventory.Host{h}, err
	}
	var out []*inventory.Host
	for i := range f.Hosts {
		if h := &f.Hosts[i]; h != to && h.Cluster == to.Cluster && to.Cluster != "" {
			out = append(out, h)
		}
	}
	if len(out) == 0 {
		return nil, &hinted{fmt.Errorf("%s is in a cluster with no other host", to.Name), "give --from HOST"}
	}
	return out, nil
}

// holder is the one host that runs the guest.
func holder(guest string, asked []*inventory.Host, ends map[string]tasks.End) (*inventory.Host, error) {
	var on []*inventory.Host
	var names []string
	for _, h := range asked {
		e, ok := ends[h.Name]
		if !ok {
			continue
		}
		for _, g := range e.Seen.Guests {
			if g.Name == guest {
				on = append(on, h)
				names = append(names, h.Name)
			}
		}
	}
	switch len(on) {
	case 1:
		return on[0], nil
	case 0:
		return nil, &exitCode{exitIncomplete, &hinted{fmt.Errorf("no guest %q runs on any host that was asked", guest), "give --from HOST if it is in another cluster; a guest that does not run cannot be migrated live"}}
	}
	return nil, &hinted{fmt.Errorf("a guest %q is on %s", guest, strings.Join(names, " and ")), "give --from HOST"}
}

// allowed decides whether a guest may take the route, and whether encrypted.
func allowed(r tasks.Route, o migrateOptions) (tls bool, err error) {
	why := strings.Join(append(slices.Clone(r.Blocked), r.NoTLS...), "; ")
	switch {
	case len(r.Blocked) > 0:
		return false, refuse("virtrust peers shows all pairs", "a guest cannot migrate from %s to %s: %s", r.From, r.To, report.SafeN(why, 600))
	case r.TLS:
		return true, nil
	case r.Migration == inventory.MigrationRequired:
		return false, refuse("mend what it names; virtrust peers shows all pairs", "the policy demands encryption, and it is not possible from %s to %s: %s", r.From, r.To, report.SafeN(why, 600))
	case r.Forced:
		return false, refuse("mend what it names; virtrust peers shows all pairs", "libvirt of a host refuses a migration without TLS (migrate_tls_force), and TLS is not possible from %s to %s: %s", r.From, r.To, report.SafeN(why, 600))
	case o.allowPlain:
		return false, nil
	}
	return false, refuse("mend what it names, or give --allow-plain to send the guest's memory in clear", "encryption is not possible from %s to %s: %s", r.From, r.To, report.SafeN(why, 600))
}

func migrationHint(why string) string {
	switch {
	case strings.Contains(why, "canceled by client"), strings.Contains(why, "cancelled"), strings.Contains(why, "operation aborted"):
		return "a guest that changes its memory faster than it can be sent needs --auto-converge, --parallel 4 or --postcopy"
	case strings.Contains(why, "does not support machine type"), strings.Contains(why, "Unable to find"):
		return "the other host's QEMU is too old for this guest"
	case strings.Contains(why, "unable to connect to server"), strings.Contains(why, "Unable to connect"), strings.Contains(why, "No route to host"):
		return "is the range of ports that virtrust peers --json shows open on the destination?"
	case strings.Contains(why, "TLS"), strings.Contains(why, "ertificate"):
		return "compare both ends with virtrust peers and virtrust verify"
	}
	return ""
}

// lostFor is how long a host that does not answer is tried again while a job
// runs there.
const lostFor = 2 * time.Minute

// runJob starts a job and follows it to its end. What runs on the host does
// not hang on ctx or on the connection: at its end the job is told to abort,
// and is still waited for.
func (f *fleet) runJob(ctx context.Context, on *inventory.Host, job remote.Migration, progress func(remote.MigrationState)) (remote.MigrationState, error) {
	work := context.WithoutCancel(ctx)
	if err := context.Cause(ctx); err != nil {
		return remote.MigrationState{}, err
	}
	c, err := f.conn(work, on)
	if err != nil {
		return remote.MigrationState{}, err
	}
	if err := job.Start(work, c); err != nil && remote.ClassOf(err) != remote.ClassUnknown {
		return remote.MigrationState{}, err
	}
	told := false
	interrupted := ctx.Done()
	lastAnswer := time.Now()
	for wait := 200 * time.Millisecond; ; wait = min(wait+200*time.Millisecond, time.Second) {
		select {
		case <-time.After(wait):
		case <-interrupted:
			interrupted = nil // answered below, once
		}
		var s remote.MigrationState
		if c, err = f.conn(work, on); err == nil {
			if ctx.Err() != nil && !told {
				if err = job.Abort(work, c); err == nil {
					told = true
					f.app.note("%s: the job is told to end", on.Name)
				}
			}
			if err == nil {
				s, err = job.Poll(work, c)
			}
		}
		switch {
		case err != nil && remote.ClassOf(err) == remote.ClassScript:
			return s, err
		case err != nil:
			f.forget(on.Name)
			if time.Since(lastAnswer) > lostFor {
				return s, fmt.Errorf("the job runs on, and its host has not answered for %s: %w", lostFor, err)
			}
		case s.Done:
			if c, err := f.conn(work, on); err == nil {
				if err := job.Forget(work, c); err != nil {
					f.log.Warn("what the job left could not be removed", "host", on.Name, "error", err)
				}
			}
			return s, nil
		default:
			lastAnswer = time.Now()
			progress(s)
		}
	}
}

// progressOf says how far a job is: on a terminal one line rewritten, else a
// line every ten seconds.
func (f *fleet) progressOf(guest string) func(remote.MigrationState) {
	began := time.Now()
	last := time.Time{}
	return func(s remote.MigrationState) {
		text := report.MigrationProgress(guest, s.Job, time.Since(began))
		if text == "" || f.app.json {
			return
		}
		if f.app.errTerm {
			if len(text) > f.app.width-1 {
				text = text[:f.app.width-1]
			}
			fmt.Fprint(f.app.err, "\r"+text+"\x1b[K")
			if s.Stopped != "" && last.IsZero() {
				last = time.Now()
			}
			return
		}
		if time.Since(last) >= 10*time.Second {
			last = time.Now()
			f.app.note("%s", text)
		}
	}
}

// whereIs asks both ends where the guest runs.
func (f *fleet) whereIs(ctx context.Context, row *report.MigrationRow, from, to *inventory.Host) {
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if f.app.errTerm && !f.app.json {
		fmt.Fprint(f.app.err, "\r\x1b[K")
	}
	runs := map[string]bool{}
	unknown := false
	for _, h := range []*inventory.Host{from, to} {
		var g remote.GuestState
		c, err := f.conn(work, h)
		if err == nil {
			g, err = remote.FindGuest(work, c, row.Guest, row.UUID)
		}
		switch {
		case err != nil:
			unknown = true
			f.log.Warn("a host could not be asked for the guest", "host", h.Name, "error", err)
		case g.State != "" && g.State != "shut off":
			runs[h.Name] = true
			row.RunsOn = append(row.RunsOn, h.Name+" ("+report.SafeN(g.State, 40)+")")
			if h == to {
				row.Statistics = g.Completed
			}
		}
	}
	switch {
	case unknown, runs[from.Name] == runs[to.Name]:
		row.Result = report.MigrationUnknown
	case runs[to.Name]:
		row.Result = report.MigrationMoved
	default:
		row.Result = report.MigrationStayed
	}
}
