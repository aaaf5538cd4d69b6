package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

// allPairs is up to how many hosts every host dials every other by default.
const allPairs = 12

func (a *app) verifyCmd() *cobra.Command {
	var sel selection
	var pairs, from, to string
	var migrate bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Prove that hosts serve what they should and accept each other",
		Long: `Looks at what every host serves: the leaf on disk, its chain by libvirt's own
rules, every name, expiry. Then hosts dial each other with qemu+tls and their own
client certificates, as a migration would, at every name of the certificate.

With --migrate a throw-away guest without disk migrates with TLS from host to host
and back, in a ring over each cluster or between --from and --to, while its monitor
shows the credentials. Where the policy is required, a migration without TLS must
be refused. Nothing is left behind.

Exit code 0 when all of it is proved, 2 when something is not, 3 when a host could
not be read.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if pairs != "" && pairs != "all" && pairs != "ring" {
				return fmt.Errorf("--pairs is all or ring, not %q", pairs)
			}
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			hosts, err := sel.hosts(f.Fleet)
			if err != nil {
				return err
			}
			if migrate {
				return f.verifyMigration(c.Context(), hosts, from, to)
			}
			if from != "" || to != "" {
				return errors.New("--from and --to belong to --migrate")
			}
			checks, readable, err := f.checks(c.Context(), hosts)
			if err != nil {
				return err
			}
			if pairs == "" {
				pairs = "all"
				if len(readable) > allPairs {
					pairs = "ring"
				}
			}
			dials := f.dials(c.Context(), readable, pairs)
			if a.json {
				err = report.JSON(a.out, map[string]any{"checks": checks, "pairs": dials})
			} else {
				err = report.Verify(a.out, checks, dials, a.options())
			}
			if err != nil {
				return err
			}
			if err := context.Cause(c.Context()); err != nil {
				return err
			}
			if len(readable) < len(hosts) {
				return &exitCode{code: exitIncomplete}
			}
			for _, r := range checks {
				if !r.OK {
					return &exitCode{code: exitDifferences}
				}
			}
			for _, r := range dials {
				if !r.OK {
					return &exitCode{code: exitDifferences}
				}
			}
			return nil
		},
	}
	a.hostFlags(c, &sel)
	c.Flags().StringVar(&pairs, "pairs", "", "who dials whom: all, or ring (each host dials two others); default all up to 12 hosts")
	c.Flags().BoolVar(&migrate, "migrate", false, "prove encrypted migrations with a throw-away guest instead")
	c.Flags().StringVar(&from, "from", "", "with --migrate: one of two hosts")
	c.Flags().StringVar(&to, "to", "", "with --migrate: the other one")
	return c
}

// checks judges each host by itself and says which hosts could be read.
func (f *fleet) checks(ctx context.Context, hosts []*inventory.Host) ([]report.CheckRow, []*inventory.Host, error) {
	if err := f.ready(hosts); err != nil {
		return nil, nil, err
	}
	per := make([][]report.CheckRow, len(hosts))
	read := make([]bool, len(hosts))
	errs := make([]error, len(hosts))
	p := f.app.progress("reading", len(hosts))
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
			per[i] = []report.CheckRow{{Host: h.Name, What: "reached", Text: failure.Class + ": " + failure.Text, Hint: failure.Hint}}
			return
		}
		read[i] = true
		for _, c := range tasks.Checks(all, seen, f.app.now()) {
			per[i] = append(per[i], report.CheckRow{Host: h.Name, What: c.What, OK: c.OK, Text: c.Text, Hint: c.Hint})
		}
	})
	p.done()
	var rows []report.CheckRow
	var readable []*inventory.Host
	for i, h := range hosts {
		if errs[i] != nil {
			return nil, nil, errs[i]
		}
		rows = append(rows, per[i]...)
		if read[i] {
			readable = append(readable, h)
		}
	}
	return rows, readable, nil
}

// dials has the hosts dial each other at every address of the target's
// server certificate that a peer would use.
func (f *fleet) dials(ctx context.Context, hosts []*inventory.Host, pairs string) []report.VerifyRow {
	type dial struct {
		from, to *inventory.Host
		address  string
	}
	var todo []dial
	for i, from := range hosts {
		for j, to := range hosts {
			apart := (j - i + len(hosts)) % len(hosts)
			if i == j || len(to.Policy.Listeners) == 0 || len(from.Policy.Listeners) == 0 || pairs == "ring" && apart > 2 || !tasks.Dials(from, to) {
				continue
			}
			for _, addr := range dialled(to) {
				todo = append(todo, dial{from, to, addr})
			}
		}
	}
	rows := make([]report.VerifyRow, len(todo))
	byFrom := map[string][]int{}
	for n, d := range todo {
		rows[n] = report.VerifyRow{From: d.from.Name, To: d.to.Name, Address: d.address, Text: "not asked: the run was interrupted"}
		byFrom[d.from.Name] = append(byFrom[d.from.Name], n)
	}
	p := f.app.progress("dialling", len(todo))
	f.each(ctx, hosts, func(ctx context.Context, _ int, h *inventory.Host) {
		for _, n := range byFrom[h.Name] {
			d := todo[n]
			peer := remote.Peer{Host: h.Name, Port: d.to.Policy.Listeners[0].Port, Conn: func(ctx context.Context) (*remote.Conn, error) { return f.conn(ctx, h) }}
			err := peer.Accepted(ctx, d.address)
			p.step(h.Name)
			rows[n].OK = err == nil
			rows[n].Text = ""
			if err == nil {
				continue
			}
			rows[n].Text = err.Error()
			var refused *plan.RefusedError
			if errors.As(err, &refused) {
				rows[n].Text = "refused: " + refused.Text
			}
		}
	})
	p.done()
	return rows
}

// dialled are the names and addresses under which peers reach a host: what it
// is called in the inventory, and what its networks give it.
func dialled(h *inventory.Host) []string {
	out := []string{h.PeerAddress()}
	seen := map[string]bool{h.PeerAddress(): true}
	add := func(s string) {
		if s != "" && !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	for _, n := range h.Nics {
		add(n.FQDN)
		for _, a := range n.Addresses {
			add(a.String())
		}
	}
	return out
}
