// Labctl builds base systems and starts, shows and removes labs: real hosts on
// one Debian machine, for demonstrations and for work on virtrust. It needs root.
// Results go to standard output, progress to standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/integration/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := command(log).ExecuteContext(ctx)
	var exit exitCode
	var child *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(int(exit))
	case errors.As(err, &child):
		os.Exit(child.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "labctl:", err)
		os.Exit(1)
	}
}

// An exitCode is the exit status of a command that ran on a host.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

func command(log *slog.Logger) *cobra.Command {
	root := &cobra.Command{
		Use:           "labctl",
		Short:         "Start and remove labs of real hosts on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		depsCommand(), buildCommand(log), upCommand(log), listCommand(log),
		runCommand(log), execCommand(log), downCommand(log), sweepCommand(log))
	return root
}

func depsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "deps",
		Short: "Install the Debian packages that the lab needs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return lab.InstallDependencies(cmd.Context(), cmd.ErrOrStderr())
		},
	}
}

func buildCommand(log *slog.Logger) *cobra.Command {
	return &cobra.Command{
		Use:       "build [SUITE...]",
		Short:     "Build and cache base systems, all of Debian's by default, and print their root trees",
		ValidArgs: append(slices.Clone(lab.Suites), lab.Modular),
		RunE: func(cmd *cobra.Command, suites []string) error {
			if len(suites) == 0 {
				suites = lab.Suites
			}
			roots, err := lab.BuildAll(cmd.Context(), suites, log)
			if err != nil {
				return err
			}
			for _, suite := range suites {
				fmt.Fprintln(cmd.OutOrStdout(), roots[suite])
			}
			return nil
		},
	}
}

func upCommand(log *slog.Logger) *cobra.Command {
	var id, suite, firewall, login string
	var count int
	var cheap, asJSON bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make a lab that stays until 'labctl down', or add hosts to the one named with --id",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			specs := make([]lab.HostSpec, count)
			for i := range specs {
				specs[i] = lab.HostSpec{Suite: suite, Firewall: lab.Firewall(firewall), Login: lab.Login(login), Cheap: cheap}
			}
			var l *lab.Lab
			err := os.ErrNotExist
			if id != "" {
				l, err = lab.Open(id, log)
			}
			made := errors.Is(err, os.ErrNotExist)
			if made {
				l, err = lab.New(cmd.Context(), lab.Config{ID: id, Owner: lab.OwnerKept, Log: log})
			}
			if err != nil {
				return err
			}
			if _, err := l.Start(cmd.Context(), specs...); err != nil {
				if made {
					err = errors.Join(err, l.Close())
				}
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, l)
		},
	}
	f := cmd.Flags()
	f.StringVar(&id, "id", "", "name of the lab (default a random one)")
	f.StringVar(&suite, "suite", "trixie", "suite of the hosts: bookworm, trixie, forky or modular")
	f.IntVar(&count, "hosts", 2, "how many hosts to start")
	f.StringVar(&firewall, "firewall", "off", "off, firewalld, ufw, nftables or iptables")
	f.StringVar(&login, "login", "root", "root, or sudo for the user deploy")
	f.BoolVar(&cheap, "cheap", false, "hosts that run sshd only")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listCommand(log *slog.Logger) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the labs and their hosts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			labs, err := lab.List(log)
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), asJSON, labs...)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one lab per line")
	return cmd
}

// pick opens the lab with an id, or the only one there is.
func pick(id string, log *slog.Logger) (*lab.Lab, error) {
	if id != "" {
		return lab.Open(id, log)
	}
	labs, err := lab.List(log)
	if err != nil {
		return nil, err
	}
	if len(labs) != 1 {
		return nil, fmt.Errorf("%d labs run: choose one with --id; 'labctl list' shows them", len(labs))
	}
	return labs[0], nil
}

func runCommand(log *slog.Logger) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "run HOST -- COMMAND [ARG...]",
		Short: "Run a command on a host as root, past SSH and the network",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := pick(id, log)
			if err != nil {
				return err
			}
			for _, h := range l.Hosts() {
				if h.Name != args[0] && h.FQDN != args[0] {
					continue
				}
				r, err := h.Run(cmd.Context(), args[1], args[2:]...)
				if err != nil {
					return err
				}
				fmt.Fprint(cmd.OutOrStdout(), r.Stdout)
				fmt.Fprint(cmd.ErrOrStderr(), r.Stderr)
				if r.Code != 0 {
					return exitCode(r.Code)
				}
				return nil
			}
			return fmt.Errorf("no host %q in lab %s", args[0], l.ID)
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the lab (default the only one)")
	return cmd
}

func execCommand(log *slog.Logger) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "exec -- COMMAND [ARG...]",
		Short: "Run a program of this machine in the lab's network, where the hosts' names resolve",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := pick(id, log)
			if err != nil {
				return err
			}
			child := l.Command(cmd.Context(), args[0], args[1:]...)
			child.Stdin, child.Stdout, child.Stderr = os.Stdin, cmd.OutOrStdout(), cmd.ErrOrStderr()
			return child.Run()
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "the lab (default the only one)")
	return cmd
}

func downCommand(log *slog.Logger) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "down [ID]",
		Short: "Remove a lab: the one with this id, or the only one, or all kept ones",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all {
				labs, err := lab.List(log)
				if err != nil {
					return err
				}
				var errs []error
				for _, l := range labs {
					// A lab of a running process is that process's to remove.
					if l.Owner() == lab.OwnerKept {
						errs = append(errs, remove(cmd, l))
					}
				}
				return errors.Join(append(errs, lab.Sweep(cmd.Context(), log))...)
			}
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			l, err := pick(id, log)
			if err != nil {
				return err
			}
			return remove(cmd, l)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove all kept labs")
	return cmd
}

func remove(cmd *cobra.Command, l *lab.Lab) error {
	if err := l.Close(); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), l.ID)
	return nil
}

func sweepCommand(log *slog.Logger) *cobra.Command {
	return &cobra.Command{
		Use:   "sweep",
		Short: "Remove labs whose owner process is gone",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return lab.Sweep(cmd.Context(), log)
		},
	}
}
