package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/remote"
)

func (a *app) unlockCmd() *cobra.Command {
	var lease string
	c := &cobra.Command{
		Use:   "unlock HOST --lease RUN",
		Short: "Free a host from the lease of a run that is gone for good",
		Long: `A lease ends by itself after five minutes. unlock frees a host at once, when you
know that the run named by --lease is gone. What that run left is settled by the
next apply.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			h, ok := f.Host(args[0])
			if !ok {
				return fmt.Errorf("host %q is not in the configuration", args[0])
			}
			conn, err := f.conn(c.Context(), h)
			if err != nil {
				return err
			}
			if err := remote.Unlock(c.Context(), conn, h.Name, lease); err != nil {
				return err
			}
			a.note("%s is free.", h.Name)
			return nil
		},
	}
	a.configFlags(c)
	c.Flags().StringVar(&lease, "lease", "", "the run whose lease is dropped, as the error message names it")
	_ = c.MarkFlagRequired("lease")
	return c
}
