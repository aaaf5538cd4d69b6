package main

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/report"
)

func (a *app) ledgerCmd() *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Back up or rebuild the record of what was issued", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.ledgerBackupCmd(), a.ledgerRebuildCmd())
	return c
}

func (a *app) ledgerBackupCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the ledger to a new file",
		Long: `Copies the ledger, as it is at one moment, to a file that must not exist, and checks
the copy; other runs may go on. It holds no key and no passphrase. To bring it back,
put the copy in the place of the ledger while no virtrust runs: what was issued after
the copy is then unknown, so copy after each apply.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			inv, err := a.load(false)
			if err != nil {
				return err
			}
			l, err := a.readLedger(c.Context(), inv)
			if err != nil {
				return err
			}
			defer func() { _ = l.Close() }()
			if err := l.Backup(c.Context(), args[0]); errors.Is(err, fs.ErrExist) {
				return &hinted{err, "nothing is ever overwritten: give the name of a file that is not there"}
			} else if err != nil {
				return err
			}
			if a.json {
				return report.JSON(a.out, map[string]string{"ledger": l.Path(), "id": l.ID(), "file": args[0]})
			}
			a.note("The ledger %s is in %s.", l.Path(), args[0])
			return nil
		},
	}
	a.configFlags(c)
	return c
}
