package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

// rebuilt is what a rebuilt ledger has.
type rebuilt struct {
	Ledger      string   `json:"ledger"`
	Generations int      `json:"generations"`
	Revocations int      `json:"revocations"`
	Leaves      int      `json:"certificates"`
	Foreign     []string `json:"foreign,omitempty"` // found on hosts and left out, and why
}

// found is what one host has.
type found struct {
	host   string
	leaves []tasks.Installed
}

func (a *app) ledgerRebuildCmd() *cobra.Command {
	var sel selection
	c := &cobra.Command{
		Use:   "rebuild",
		Short: "Make a lost ledger anew from the authorities' files and the hosts",
		Long: `Makes the ledger anew where it is lost and no copy is left: generations and their
phases from the authorities' public files, revocations from their lists, and the
certificates that hosts have, read over SSH. A ledger that is there is never touched.

What cannot be read back is not in it: certificates that no host has (of people, of
hosts that left, and superseded ones), reasons, former runs and proofs. Bring the
authorities' files up to date first: a list older than the hosts' forgets revocations.
Nothing is written while a selected host cannot be read.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			if _, err := os.Lstat(f.LedgerPath); err == nil {
				return &exitCode{exitRefused, &hinted{fmt.Errorf("there is a ledger: %s", f.LedgerPath), "nothing is ever overwritten: move it away if it is damaged, or belongs to another fleet"}}
			}
			if err := f.phased(); err != nil {
				return err
			}
			hosts, err := sel.hosts(f.Fleet)
			if err != nil {
				return err
			}
			seen, err := f.readBack(c.Context(), hosts)
			if err != nil {
				return err
			}
			made, err := f.rebuild(c.Context(), seen)
			if err != nil {
				return err
			}
			if a.json {
				return report.JSON(a.out, made)
			}
			for _, s := range made.Foreign {
				a.note("left out: %s", report.Safe(s))
			}
			fmt.Fprintf(a.out, "The ledger has %s, %s and %s of %s.\n", count(made.Generations, "generation"), count(made.Revocations, "revocation"),
				count(made.Leaves, "certificate"), count(len(hosts), "host"))
			a.note("It is %s: back it up, do not commit it.", made.Ledger)
			return nil
		},
	}
	a.hostFlags(c, &sel)
	return c
}

// phased refuses authorities whose files do not tell which generation signs.
func (f *fleet) phased() error {
	if len(f.trust.Authorities) == 0 {
		return &hinted{errors.New("no authority has files here: there is nothing to rebuild from"), "bring back the directories of the authorities"}
	}
	for _, p := range f.trust.Authorities {
		d, ok := f.Fleet.Authority(p.Name)
		if !ok || len(p.Generations) < 2 {
			continue
		}
		if _, err := os.Stat(filepath.Join(d.Directory, authority.PhasesFile)); errors.Is(err, fs.ErrNotExist) {
			return &exitCode{exitRefused, &hinted{fmt.Errorf("authority %q has %d generations and no file that says which one signs", p.Name, len(p.Generations)),
				"bring back " + filepath.Join(d.Directory, authority.PhasesFile) + ", or write it: a line such as \"g1 draining\" for each generation"}}
		} else if err != nil {
			return err
		}
	}
	return nil
}

// readBack reads the certificates that hosts have.
func (f *fleet) readBack(ctx context.Context, hosts []*inventory.Host) ([]found, error) {
	if err := f.ready(hosts); err != nil {
		return nil, err
	}
	out := make([]found, len(hosts))
	errs := make([]error, len(hosts))
	p := f.app.progress("reading", len(hosts))
	f.each(ctx, hosts, func(ctx context.Context, i int, h *inventory.Host) {
		defer p.step(h.Name)
		all, err := tasks.For(h, f.trust, f.opts)
		if err == nil {
			queries := plan.Queries(all)
			seen, lookErr := f.look(ctx, h, queries)
			if err = lookErr; err == nil {
				out[i] = found{host: h.Name, leaves: tasks.Leaves(all, seen)}
			}
		}
		errs[i] = err
		f.forget(h.Name)
	})
	p.done()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("rebuilding the ledger: %w", err)
	}
	var unread []string
	for i, err := range errs {
		if err != nil {
			failure := classify(err)
			f.app.note("%s: %s: %s", hosts[i].Name, failure.Class, report.Safe(failure.Text))
			unread = append(unread, hosts[i].Name)
		}
	}
	if len(unread) > 0 {
		return nil, &exitCode{exitIncomplete, &hinted{fmt.Errorf("%s could not be read; nothing was written", count(len(unread), "host")),
			"hosts that are gone for good: --exclude " + strings.Join(unread, ",")}}
	}
	return out, nil
}

// rebuild makes the ledger of what was found, complete or not at all.
func (f *fleet) rebuild(ctx context.Context, seen []found) (made rebuilt, err error) {
	made.Ledger = f.LedgerPath
	dir := filepath.Dir(f.LedgerPath)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return made, err
	}
	suffix := make([]byte, 8)
	rand.Read(suffix)
	temp := filepath.Join(dir, ".ledger.new-"+hex.EncodeToString(suffix))
	defer func() {
		if rm := os.Remove(temp); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
			err = errors.Join(err, rm)
		}
	}()
	l, err := ledger.Open(ctx, temp, ledger.Create, ledger.WithClock(f.app.now))
	if err != nil {
		return made, err
	}
	defer func() { _ = l.Close() }()
	run, err := l.StartRun(ctx, ledger.Run{ID: ledger.NewRunID(f.app.now()), Command: commandLine(), Operator: owner(), Version: versionText()})
	if err != nil {
		return made, err
	}
	for _, p := range f.trust.Authorities {
		for _, g := range p.Generations {
			if err := l.AddGeneration(ctx, run, p.Name, g); err != nil {
				return made, err
			}
			made.Generations++
			for _, serial := range g.Revoked {
				if err := l.Revoke(ctx, run, ledger.Revocation{Authority: p.Name, Generation: g.Number, Serial: serial, Reason: "on the revocation list"}); err != nil {
					return made, err
				}
				made.Revocations++
			}
		}
	}
	for _, h := range seen {
		for _, k := range h.leaves {
			name, number, ok := f.signedBy(k.Leaf)
			switch {
			case !ok:
				made.Foreign = append(made.Foreign, fmt.Sprintf("%s of %s: signed by %s, not by an authority of this configuration", k.Certificate, h.host, k.Leaf.Issuer))
				continue
			case k.Leaf.Subject.CommonName != h.host:
				// A host must not claim what another one was given.
				made.Foreign = append(made.Foreign, fmt.Sprintf("%s of %s: it was made for %s", k.Certificate, h.host, k.Leaf.Subject.CommonName))
				continue
			}
			if err := l.Adopt(ctx, run, name, number, h.host, k.Certificate, k.Leaf.Raw); err != nil {
				return made, err
			}
			made.Leaves++
		}
	}
	if err := l.EndRun(ctx, run, "complete"); err != nil {
		return made, err
	}
	if err := l.Verify(ctx); err != nil {
		return made, err
	}
	if err := l.Close(); err != nil {
		return made, err
	}
	// A link, unlike a rename, never replaces what is there.
	if err := os.Link(temp, f.LedgerPath); err != nil {
		return made, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return made, err
	}
	defer d.Close()
	return made, d.Sync()
}

// signedBy finds the generation that signed a leaf.
func (f *fleet) signedBy(leaf *x509.Certificate) (name string, number int, ok bool) {
	for _, p := range f.trust.Authorities {
		for _, g := range p.Generations {
			if ca, err := g.Certificate(); err == nil && leaf.CheckSignatureFrom(ca) == nil {
				return p.Name, g.Number, true
			}
		}
	}
	return "", 0, false
}
