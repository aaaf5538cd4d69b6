package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
)

func (a *app) validateCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration; contacts nothing",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := a.load(true)
			if err != nil {
				return err
			}
			if !a.json {
				fmt.Fprintf(a.out, "The configuration is valid: %s, %s, %s.\n", count(len(f.Hosts), "host"), count(len(f.Clusters), "cluster"), plural(len(f.Authorities), "authority", "authorities"))
			}
			return nil
		},
	}
	a.configFlags(c)
	return c
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (a *app) fmtCmd() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "fmt [FILE...]",
		Short: "Bring *.hcl files into the canonical layout",
		Long:  "Rewrites the files, or all *.hcl of the directory, and prints the names of those\nthat changed. - reads standard input.",
		RunE: func(_ *cobra.Command, args []string) error {
			if slices.Equal(args, []string{"-"}) {
				src, err := io.ReadAll(io.LimitReader(a.in, 8<<20))
				if err != nil {
					return err
				}
				out, err := inventory.Format(src)
				if err != nil {
					return err
				}
				_, err = a.out.Write(out)
				return err
			}
			if len(args) == 0 {
				found, err := filepath.Glob(filepath.Join(a.dir, "*.hcl"))
				if err != nil {
					return err
				}
				args = found
			}
			changed := 0
			for _, name := range args {
				src, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				out, err := inventory.Format(src)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if bytes.Equal(src, out) {
					continue
				}
				changed++
				fmt.Fprintln(a.out, name)
				if check {
					continue
				}
				if err := replaceFile(name, out); err != nil {
					return err
				}
			}
			if check && changed > 0 {
				return &exitCode{code: exitDifferences}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&check, "check", false, "change nothing; exit code 2 when a file would change")
	return c
}

// replaceFile writes beside a file and renames, with the file's own mode.
func replaceFile(name string, content []byte) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".fmt-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already after the rename
	if _, err := tmp.Write(content); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Chmod(info.Mode().Perm()); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

func (a *app) templateCmd() *cobra.Command {
	c := &cobra.Command{Use: "template", Short: "Show the policy templates that virtrust ships", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "List the templates", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return report.JSON(a.out, inventory.Templates())
			}
			fmt.Fprintln(a.out, strings.Join(inventory.Templates(), "\n"))
			return nil
		},
	}, &cobra.Command{
		Use: "show NAME", Short: "Print a template", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			src, ok := inventory.TemplateSource(args[0])
			if !ok {
				return &hinted{fmt.Errorf("there is no template %q", args[0]), "there are: " + strings.Join(inventory.Templates(), ", ")}
			}
			if a.json {
				return report.JSON(a.out, map[string]string{"name": args[0], "source": string(src)})
			}
			_, err := a.out.Write(src)
			return err
		},
	})
	return c
}

func (a *app) showCmd() *cobra.Command {
	var host string
	c := &cobra.Command{
		Use:   "show [--host NAME | PLAN]",
		Short: "Show effective values of a host, or a saved plan",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				f, err := a.open(c.Context(), noOptions)
				if err != nil {
					return err
				}
				p, err := f.readPlan(args[0])
				if err != nil {
					return err
				}
				if a.json {
					return report.JSON(a.out, p)
				}
				return report.Plan(a.out, p, a.options())
			}
			f, err := a.load(false)
			if err != nil {
				return err
			}
			if host == "" {
				if a.json {
					return report.JSON(a.out, f)
				}
				for _, h := range f.Hosts {
					fmt.Fprintf(a.out, "%s  %s  cluster %s, policy %s  (%s)\n", h.Name, h.Address, orDash(h.Cluster), h.Policy.Name, h.Source)
				}
				return nil
			}
			values, ok := inventory.Show(f, host)
			if !ok {
				return fmt.Errorf("host %q is not in the configuration", host)
			}
			if values, err = wayIn(f, host, values); err != nil {
				return err
			}
			if a.json {
				return report.JSON(a.out, values)
			}
			wide := 0
			for _, v := range values {
				wide = max(wide, len(v.Name))
			}
			for _, v := range values {
				fmt.Fprintf(a.out, "%-*s = %s  # %s\n", wide, v.Name, v.Value, v.Source)
			}
			return nil
		},
	}
	a.configFlags(c)
	c.Flags().StringVar(&host, "host", "", "the host whose values are shown")
	return c
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// version is set by the Makefile; go install leaves it to the build info.
var version = ""

func versionText() string {
	if version != "" {
		return version
	}
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "dev"
}

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.printVersion() },
	}
}

func (a *app) printVersion() error {
	if a.json {
		return json.NewEncoder(a.out).Encode(map[string]string{"version": versionText(), "go": runtime.Version()})
	}
	_, err := fmt.Fprintf(a.out, "virtrust %s (%s, %s/%s)\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
