package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

func (a *app) inspectCmd() *cobra.Command {
	var write, yes bool
	c := &cobra.Command{
		Use:   "inspect HOST...",
		Short: "Show what is there on hosts, whatever the policy wants",
		Long: `Reads hosts of the inventory (names, globs, cluster:NAME, label:K=V) and changes
nothing on them. It shows the system, the way in which libvirt runs, its listener,
the certificates and bundles that lie there, settings, firewall and addresses.

With --write it mends the addresses in the inventory, in place and with all
comments: where the inventory gives a host an address that it does not have, and
in networks with discover = true. It shows the difference and asks first. The
next plan makes new certificates for what changed.

Exit code 0, or 3 when a host could not be read or something could not be mended.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if write && a.json {
				return errors.New("--write and --json exclude each other")
			}
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			hosts, err := selection{limit: args}.hosts(f.Fleet)
			if err != nil {
				if hintOf(err) == "" {
					// Without the flag that was not given.
					return cmp.Or(errors.Unwrap(err), err)
				}
				return err
			}
			return f.inspect(c.Context(), hosts, write, yes)
		},
	}
	a.configFlags(c)
	c.Flags().IntVar(&a.parallel, "parallel", 64, "hosts at once")
	c.Flags().BoolVar(&write, "write", false, "mend the addresses in the inventory")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before the inventory is written")
	return c
}

// inspected is what inspect found of one host.
type inspected struct {
	tasks.Inspection
	// Differences between the inventory and the host.
	Differences []string      `json:"differences,omitempty"`
	Failure     *plan.Failure `json:"failure,omitempty"`
	presences   []inventory.Presence
}

func (f *fleet) inspect(ctx context.Context, hosts []*inventory.Host, write, yes bool) error {
	all := make([]inspected, len(hosts))
	p := f.app.progress("reading", len(hosts))
	f.each(ctx, hosts, func(ctx context.Context, i int, h *inventory.Host) {
		defer p.step(h.Name)
		all[i].Host = h.Name
		seen, err := f.look(ctx, h, tasks.InspectQueries())
		if err != nil {
			failure := classify(err)
			all[i].Failure = &failure
			return
		}
		f.forget(h.Name)
		all[i].Inspection = tasks.Inspect(h, f.Networks, seen)
		all[i].presences, all[i].Differences = f.presence(h, all[i].Networks)
	})
	p.done()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	incomplete := false
	for _, i := range all {
		incomplete = incomplete || i.Failure != nil
	}
	switch {
	case f.app.json:
		if err := report.JSON(f.app.out, all); err != nil {
			return err
		}
	case write:
		problems, err := f.mend(ctx, all, yes)
		if err != nil {
			return err
		}
		incomplete = incomplete || problems
	default:
		for n, i := range all {
			if n > 0 {
				fmt.Fprintln(f.app.out)
			}
			if err := report.Inspection(f.app.out, i.Host, i.sections(), f.app.options()); err != nil {
				return err
			}
		}
	}
	if incomplete {
		return &exitCode{code: exitIncomplete}
	}
	return nil
}

// presence is a host's addresses in the networks that it is on, or that are
// discovered, and in what the inventory differs from them.
func (f *fleet) presence(h *inventory.Host, in map[string][]netip.Addr) (out []inventory.Presence, differ []string) {
	for _, n := range f.Networks {
		i := slices.IndexFunc(h.Nics, func(c inventory.Nic) bool { return c.Network == n.Name })
		if i < 0 && !n.Discover {
			continue
		}
		out = append(out, inventory.Presence{Host: h.Name, Network: n.Name, Addresses: in[n.Name]})
		var have []netip.Addr
		if i >= 0 {
			have = h.Nics[i].Addresses
		}
		for _, a := range have {
			if !slices.Contains(in[n.Name], a) {
				differ = append(differ, fmt.Sprintf("network %s: the inventory has %s, the host does not", n.Name, a))
			}
		}
		for _, a := range in[n.Name] {
			if !slices.Contains(have, a) {
				differ = append(differ, fmt.Sprintf("network %s: the host has %s, the inventory does not", n.Name, a))
			}
		}
	}
	return out, differ
}

// mend writes the addresses that were found into the inventory, after a yes.
func (f *fleet) mend(ctx context.Context, all []inspected, yes bool) (problems bool, err error) {
	var found []inventory.Presence
	for _, i := range all {
		if i.Failure != nil {
			f.app.fail(&hinted{fmt.Errorf("%s: %s: %s", i.Host, i.Failure.Class, i.Failure.Text), i.Failure.Hint})
			continue
		}
		found = append(found, i.presences...)
	}
	files, cannot := f.Mend(found)
	for _, e := range cannot {
		f.app.fail(e)
	}
	if len(files) == 0 {
		if len(cannot) == 0 {
			fmt.Fprintln(f.app.out, "Nothing to write: the inventory has the addresses of "+count(len(all), "host")+".")
		}
		return len(cannot) > 0, nil
	}
	for _, m := range files {
		if err := report.Diff(f.app.out, m.Name, m.Before, m.After, f.app.options()); err != nil {
			return false, err
		}
	}
	if !yes {
		if err := f.app.approve(ctx, "Write "+count(len(files), "file")+"?"); err != nil {
			return false, err
		}
	}
	for _, m := range files {
		if err := f.Write(m); err != nil {
			return false, err
		}
	}
	fmt.Fprintln(f.app.out, "Written. The next plan makes new certificates for the names and addresses that changed.")
	return len(cannot) > 0, nil
}

// sections is an inspection for people.
func (i inspected) sections() []report.Section {
	if i.Failure != nil {
		rows := [][2]string{{i.Failure.Class, i.Failure.Text}}
		if i.Failure.Hint != "" {
			rows = append(rows, [2]string{"hint", i.Failure.Hint})
		}
		return []report.Section{{Title: "could not be read", Rows: rows}}
	}
	var out []report.Section
	var rows [][2]string
	row := func(name, text string) {
		if text != "" {
			rows = append(rows, [2]string{name, text})
		}
	}
	end := func(title string) {
		out = append(out, report.Section{Title: title, Rows: rows})
		rows = nil
	}
	row("name", i.Hostname)
	row("system", i.System)
	for _, v := range slices.Sorted(maps.Keys(i.Versions)) {
		row(v, i.Versions[v])
	}
	var mac []string
	if i.SELinux {
		mac = append(mac, "SELinux")
	}
	if i.AppArmor {
		mac = append(mac, "AppArmor")
	}
	row("confined by", strings.Join(mac, ", "))
	row("crypto policy", i.CryptoPolicy)
	row("firewall", strings.Join(append([]string{i.Firewall}, i.Beside...), ", beside it "))
	row("guests", i.guests())
	row("missing programs", strings.Join(i.Missing, ", "))
	end("host")

	row("runs as", i.Layout.Kind)
	for _, u := range slices.Sorted(maps.Keys(i.Layout.Units)) {
		row(u, i.Layout.Units[u])
	}
	row("arguments", strings.Join(i.Layout.Arguments, " "))
	row("TLS port open on", addressPorts(i.Listening))
	if len(i.Listening) == 0 {
		row("TLS port", "closed")
	}
	row("plain port open on", addressPorts(i.Plain))
	if i.Served != nil {
		row("serves", leafText(*i.Served))
	} else if len(i.Listening) > 0 {
		row("serves", "no certificate: "+i.NotServed)
	}
	end("libvirt")

	for _, c := range i.Certificates {
		text := "key " + c.Key
		if c.Leaf.Serial != "" {
			text = leafText(c.Leaf) + "\nusages " + strings.Join(c.Usages, ", ") + "; key " + c.Key
		}
		if c.Mine {
			text += "; made by virtrust"
		}
		rows = append(rows, [2]string{"", c.Path + "\n  " + strings.ReplaceAll(text, "\n", "\n  ")})
	}
	end("certificates")
	for _, b := range i.Bundles {
		text := b.Path
		for _, l := range b.Authorities {
			text += fmt.Sprintf("\n  %s, until %s", l.Subject, day(l.NotAfter))
		}
		if len(b.Authorities) == 0 {
			text += "\n  no certificate"
		}
		rows = append(rows, [2]string{"", text})
	}
	end("authorities")
	for _, s := range i.Settings {
		text := s.Path
		for _, v := range s.Values {
			text += "\n  " + v[0] + " = " + v[1]
		}
		if s.Problem != "" {
			text += "\n  " + s.Problem
		} else if len(s.Values) == 0 {
			text += "\n  nothing is set"
		}
		rows = append(rows, [2]string{"", text})
	}
	end("settings")
	for _, n := range slices.Sorted(maps.Keys(i.Interfaces)) {
		var list []string
		for _, p := range i.Interfaces[n] {
			list = append(list, p.String())
		}
		row(n, strings.Join(list, ", "))
	}
	end("addresses")
	for _, d := range i.Differences {
		rows = append(rows, [2]string{"", d})
	}
	end("differs from the inventory (inspect --write mends it)")
	return out
}

func (i inspected) guests() string {
	text := fmt.Sprintf("%d running", i.Guests)
	if i.Busy > 0 {
		text += fmt.Sprintf(", %d in a job", i.Busy)
	}
	return text
}

func addressPorts(list []netip.AddrPort) string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}

func day(stamp string) string { d, _, _ := strings.Cut(stamp, "T"); return d }

func leafText(l plan.Leaf) string {
	var names []string
	names = append(names, l.DNSNames...)
	for _, a := range l.IPs {
		names = append(names, a.String())
	}
	return fmt.Sprintf("%s, from %s until %s\nnames %s\nsigned by %s, serial %s", l.Subject, day(l.NotBefore), day(l.NotAfter), strings.Join(names, ", "), l.Issuer, l.Serial)
}
