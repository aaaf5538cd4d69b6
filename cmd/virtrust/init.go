package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mitchellh/go-wordwrap"
	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
)

// initFlags are what init was told on the command line.
type initFlags struct {
	inventory.InitOptions
	hosts    []string
	user     string
	mode     string
	known    string // pattern for hosts of known_hosts
	ansible  string // path of an inventory
	groups   []string
	patterns []string
	yes      bool
}

func (a *app) initCmd() *cobra.Command {
	var o initFlags
	c := &cobra.Command{
		Use:   "init [--host NAME=ADDRESS ...] [PATTERN ...]",
		Short: "Write a first configuration",
		Long: `Writes inventory.hcl, policy.hcl and .gitignore. Nothing is ever overwritten, and
no host is contacted. Without hosts it asks for them on a terminal.

--from-known-hosts takes the hosts of known_hosts, --from-ansible those of an Ansible
inventory: a file in INI or YAML, or a directory. A PATTERN is a name, a glob, a range
such as kvm[01:20].example.com or, with --from-ansible, a group; without one all hosts
are taken. Nothing of an inventory is run, and what is not taken over is told.`,
		Example: `  virtrust init
  virtrust init --host kvm1=kvm1.example.com --host 10.0.0.12 --cluster rack1
  virtrust init --from-known-hosts 'kvm*.example.com'
  virtrust init --from-ansible hosts.yml hypervisors`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			o.patterns = args
			if c.Flags().Changed("from-known-hosts") && o.known != "*" {
				o.patterns = append([]string{o.known}, args...)
			}
			return a.init(c.Context(), &o)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.hosts, "host", nil, "a host, NAME=ADDRESS, a name or an address (repeatable)")
	f.StringVar(&o.Cluster, "cluster", "", "name of the cluster (default rack1, or what the groups of an inventory say)")
	f.StringVar(&o.Organization, "organization", "", "organization in certificates (default Example)")
	f.StringVar(&o.mode, "migration", "", "off, available or required (default available)")
	f.StringVar(&o.user, "user", "", "login user of hosts for which nothing else is said (default root)")
	f.StringVar(&o.KnownHosts, "known-hosts", "", "known_hosts file for the ssh block")
	f.StringVar(&o.known, "from-known-hosts", "", "take the hosts of known_hosts (--known-hosts, else ~/.ssh/known_hosts) that fit `PATTERN`")
	f.Lookup("from-known-hosts").NoOptDefVal = "*"
	f.StringVar(&o.ansible, "from-ansible", "", "take the hosts of this Ansible `INVENTORY`")
	f.StringSliceVar(&o.groups, "groups", nil, "with --from-ansible: groups that become clusters")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask before writing")
	c.MarkFlagsMutuallyExclusive("from-known-hosts", "from-ansible", "host")
	c.MarkFlagsMutuallyExclusive("cluster", "groups")
	return c
}

// init drafts, shows and writes a first configuration.
func (a *app) init(ctx context.Context, o *initFlags) error {
	if err := inventory.Vacant(a.dir); err != nil {
		return err
	}
	if err := o.settle(a.dir); err != nil {
		return err
	}
	var notes []string
	var err error
	asked := false
	switch {
	case o.ansible != "":
		notes, err = o.fromAnsible()
	case o.known != "":
		notes, err = o.fromKnownHosts()
	case len(o.patterns) > 0:
		err = &hinted{fmt.Errorf("%q belongs to no option", o.patterns[0]), "give hosts with --host, or patterns with --from-known-hosts or --from-ansible"}
	case len(o.hosts) > 0:
		err = o.fromFlags()
	case a.inTerm && a.errTerm && !o.yes && !a.json:
		asked = true
		err = a.askInit(ctx, o)
	default:
		err = &hinted{errors.New("no hosts were given"), "virtrust init --host kvm1=kvm1.example.com --host kvm2=10.0.0.12"}
	}
	if err != nil {
		return nothingWritten(err)
	}
	if o.user != "" {
		for i := range o.Hosts {
			if o.Hosts[i].User == "" {
				o.Hosts[i].User = o.user
			}
		}
	}
	draft, err := inventory.NewDraft(o.InitOptions)
	if err != nil {
		return err
	}
	notes = append(notes, draft.Notes...)
	imported := o.ansible != "" || o.known != ""
	if asked || imported && !o.yes && !a.json && a.inTerm && a.errTerm {
		if err := a.showDraft(ctx, draft, notes); err != nil {
			return nothingWritten(err)
		}
	} else if !a.json {
		a.sentences(notes)
	}
	wrote, err := draft.Write(a.dir)
	if err != nil {
		return err
	}
	if a.json {
		return report.JSON(a.out, map[string]any{"wrote": wrote, "hosts": len(o.Hosts), "notes": notes})
	}
	where := ""
	if a.dir != "." {
		where = " in " + a.dir
	}
	a.note("Wrote %s%s: %s.", strings.Join(wrote, ", "), where, count(len(o.Hosts), "host"))
	if !slices.Contains(wrote, ".gitignore") {
		a.note("There is a .gitignore already: add the line .virtrust/ to it.")
	}
	a.note("Next: virtrust validate, virtrust ca init, virtrust plan.")
	return nil
}

// nothingWritten says so where a person ended the questions.
func nothingWritten(err error) error {
	switch {
	case errors.Is(err, errInterrupted):
		return &exitCode{exitInterrupted, errors.New("interrupted: nothing was written")}
	case errors.Is(err, io.EOF):
		return &exitCode{exitNotApproved, errors.New("the answers ended: nothing was written")}
	}
	return err
}

// settle checks what was given for all hosts.
func (o *initFlags) settle(dir string) error {
	if o.mode != "" {
		o.Migration = inventory.Migration(o.mode)
	}
	if o.user != "" {
		if err := inventory.CheckInitUser(o.user); err != nil {
			return err
		}
	}
	// What is typed is relative to here, what is written to the configuration.
	if k := o.KnownHosts; k != "" && !filepath.IsAbs(k) && !strings.HasPrefix(k, "~/") && filepath.Clean(dir) != "." {
		abs, err := filepath.Abs(k)
		if err != nil {
			return err
		}
		o.KnownHosts = abs
	}
	return nil
}

// fromFlags takes the hosts of --host.
func (o *initFlags) fromFlags() error {
	for _, h := range o.hosts {
		host, err := initHost(h)
		if err != nil {
			return err
		}
		o.Hosts = append(o.Hosts, host)
	}
	return nil
}

// initHost reads NAME=ADDRESS, or a name or an address alone, which gives the
// name as well.
func initHost(text string) (inventory.InitHost, error) {
	if name, address, ok := strings.Cut(text, "="); ok {
		h := inventory.InitHost{Name: strings.TrimSpace(name), Address: strings.TrimSpace(address)}
		return h, inventory.CheckInitHost(h.Name, h.Address)
	}
	hosts, notes, err := inventory.Adopt([]inventory.Found{{Name: strings.TrimSpace(text)}}, inventory.AdoptOptions{})
	if err != nil {
		return inventory.InitHost{}, err
	}
	if len(hosts) == 0 {
		return inventory.InitHost{}, errors.New(strings.Join(notes, " "))
	}
	return hosts[0], nil
}

// showDraft shows what would be written and asks.
func (a *app) showDraft(ctx context.Context, d *inventory.Draft, notes []string) error {
	for _, f := range d.Files {
		if strings.HasSuffix(f.Name, ".hcl") {
			a.note("\n%s\n\n%s", a.heading(f.Name), report.SafeLines(strings.TrimRight(string(f.Text), "\n"), 0))
		}
	}
	if len(notes) > 0 {
		a.note("")
	}
	a.sentences(notes)
	for {
		text, err := a.ask(ctx, fmt.Sprintf("\nWrite this into %s? [yes/no] ", a.dir))
		if err != nil {
			return err
		}
		switch strings.ToLower(text) {
		case "y", "yes":
			return nil
		case "n", "no":
			return &exitCode{exitNotApproved, errors.New("nothing was written")}
		}
	}
}

// sentences writes texts, each from a line of its own, within the width.
func (a *app) sentences(list []string) {
	for _, text := range list {
		a.note("%s", wordwrap.WrapString(report.SafeN(text, 0), uint(a.width)))
	}
}

// heading is the name of a file above its text.
func (a *app) heading(name string) string {
	if a.errTerm && !a.noColor {
		return "\x1b[1m# " + name + "\x1b[0m"
	}
	return "# " + name
}

// home is the user's directory, for paths that begin with ~/.
func home(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path, nil
	}
	dir, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, rest), nil
}
