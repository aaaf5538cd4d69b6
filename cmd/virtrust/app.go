package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/charmbracelet/log"
	"github.com/muesli/termenv"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
)

// app is what all commands share.
type app struct {
	in       *os.File
	out      io.Writer // the result
	err      io.Writer // everything else
	dir      string
	json     bool
	noColor  bool
	verbose  bool
	vars     []string
	varFiles []string
	parallel int
	exec     bool
	outTerm  bool // out is a terminal
	errTerm  bool
	inTerm   bool
	width    int
	now      func() time.Time
	lines    *bufio.Reader // of in, for answers
	asking   atomic.Int32  // questions that wait for an answer
	told     told          // passphrases that several authorities share
	running  *progress     // of an apply to many hosts
}

func newApp(in, out, errs *os.File) *app {
	a := &app{in: in, out: out, err: errs, now: time.Now, width: 80}
	a.outTerm, a.errTerm, a.inTerm = term.IsTerminal(int(out.Fd())), term.IsTerminal(int(errs.Fd())), term.IsTerminal(int(in.Fd()))
	if a.outTerm {
		if w, _, err := term.GetSize(int(out.Fd())); err == nil && w > 0 {
			a.width = min(max(w, 60), 200)
		}
	} else {
		a.width = 100
	}
	return a
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "virtrust",
		Short: "TLS for fleets of KVM hosts, over SSH, with no agent",
		Long: `virtrust reads an inventory and policies in HCL, looks at every host over SSH,
shows what differs, and carries it out: certificates whose keys never leave
their host, settings, listeners. Then it proves the result.

A first run:   virtrust init
               virtrust ca init && virtrust plan && virtrust apply

Exit codes: 0 done or nothing to do, 1 error, 2 differences, 3 incomplete (a host
was unreachable, failed, reverted, held or waits), 4 refused, 5 locked,
6 not approved, 130 interrupted.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	version := c.Flags().Bool("version", false, "print the version")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *version {
			return a.printVersion()
		}
		return c.Help()
	}
	f := c.PersistentFlags()
	f.StringVarP(&a.dir, "dir", "C", ".", "directory of the configuration")
	f.BoolVar(&a.json, "json", false, "print the result as JSON")
	f.BoolVar(&a.noColor, "no-color", os.Getenv("NO_COLOR") != "", "no colours (also NO_COLOR)")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log every step on standard error")
	c.SetOut(a.out)
	c.SetErr(a.err)
	c.AddCommand(a.inspectCmd())
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &hinted{err, "see " + c.CommandPath() + " --help"}
	})
	c.AddCommand(a.initCmd(), a.validateCmd(), a.fmtCmd(), a.templateCmd(), a.showCmd(), a.explainCmd(), a.versionCmd(),
		a.caCmd(), a.planCmd(), a.applyCmd(), a.verifyCmd(), a.statusCmd(), a.peersCmd(), a.migrateCmd(), a.rollbackCmd(), a.unlockCmd(), a.doctorCmd())
	c.AddCommand(a.renewCmd(), a.forgetCmd(), a.certCmd(), a.ledgerCmd())
	return c
}

// configFlags adds what commands that read a configuration take.
func (a *app) configFlags(c *cobra.Command) {
	c.Flags().StringArrayVar(&a.vars, "var", nil, "value of a variable, NAME=VALUE (repeatable)")
	c.Flags().StringArrayVar(&a.varFiles, "var-file", nil, "file of variables' values (repeatable)")
}

// hostFlags adds what commands that reach hosts take.
func (a *app) hostFlags(c *cobra.Command, sel *selection) {
	a.configFlags(c)
	c.Flags().IntVar(&a.parallel, "parallel", 64, "hosts at once")
	c.Flags().StringSliceVar(&sel.limit, "limit", nil, "only hosts of these names, globs, cluster:NAME, label:K=V or @FILE")
	c.Flags().StringSliceVar(&sel.exclude, "exclude", nil, "not these hosts, written like --limit")
}

func (a *app) options() report.Options {
	return report.Options{Width: a.width, Color: a.outTerm && !a.noColor && !a.json, Now: a.now(), Verbose: a.verbose}
}

// fail prints an error for a person, with its hint.
func (a *app) fail(err error) {
	fmt.Fprintln(a.err, "virtrust: "+report.Safe(err.Error()))
	if h := hintOf(err); h != "" {
		fmt.Fprintln(a.err, "  "+report.Safe(h))
	}
}

func hintOf(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	var re *remote.Error
	if errors.As(err, &re) {
		return re.Hint
	}
	return ""
}

// note says something that is not the result.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

func (a *app) logger() *slog.Logger {
	level := log.WarnLevel
	if a.verbose {
		level = log.DebugLevel
	}
	// Hidden from the library, a terminal is not asked for its colours: one
	// that does not answer would be waited for, and the question would show.
	l := log.NewWithOptions(struct{ io.Writer }{a.err}, log.Options{Level: level, ReportTimestamp: true, TimeFormat: time.TimeOnly})
	if a.errTerm && !a.noColor {
		l.SetColorProfile(termenv.ANSI)
	}
	return slog.New(l)
}

// owner is how this program names itself to hosts and in the ledger.
func owner() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	keep := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
				return r
			}
			return -1
		}, s)
	}
	return keep(name) + "@" + keep(host)
}

// load reads the configuration and prints its diagnostics. Notes are printed
// only where everything is: by validate.
func (a *app) load(notes bool) (*inventory.Fleet, error) {
	vars := map[string]string{}
	for _, v := range a.vars {
		k, val, ok := strings.Cut(v, "=")
		if !ok {
			return nil, &hinted{fmt.Errorf("--var %q is not NAME=VALUE", v), ""}
		}
		vars[k] = val
	}
	fleet, diags := inventory.Load(a.dir, inventory.Options{Vars: vars, VarFiles: a.varFiles})
	if a.json && notes {
		raw, err := diags.JSON()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(a.out, "%s\n", raw)
	} else if diags.HasErrors() || notes && diags.Len() > 0 {
		if err := diags.Render(a.err, a.width, a.errTerm && !a.noColor); err != nil {
			return nil, err
		}
	}
	if diags.HasErrors() {
		return nil, &exitCode{code: exitError}
	}
	return fleet, nil
}

// secretOptions says how references of the configuration are resolved.
func (a *app) secretOptions(fleet *inventory.Fleet, name string, confirm bool) authority.Options {
	o := authority.Options{Prompt: a.prompt, Label: "Passphrase of authority " + name, Confirm: confirm, AllowExec: a.exec, Dir: fleet.Dir, Stderr: a.err}
	if d, ok := fleet.Authority(name); ok && d.Of != "" {
		o.Label = "Passphrase of authority " + d.Of + " of every cluster"
		o.Prompt = func(ctx context.Context, label string, confirm bool) (authority.Secret, error) {
			return a.once(ctx, d.Of, label, confirm)
		}
	}
	for _, au := range fleet.Authorities {
		if n, ok := authority.EnvReference(au.SecretFrom()); ok {
			o.HideEnv = append(o.HideEnv, n)
		}
	}
	for i := range fleet.Hosts {
		for _, ref := range []string{fleet.Hosts[i].SSH.Password, fleet.Hosts[i].SSH.BecomePassword} {
			if n, ok := authority.EnvReference(ref); ok && !slices.Contains(o.HideEnv, n) {
				o.HideEnv = append(o.HideEnv, n)
			}
		}
	}
	return o
}
