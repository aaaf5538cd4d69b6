package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/plan"
)

func (a *app) forgetCmd() *cobra.Command {
	var revoke, yes bool
	c := &cobra.Command{
		Use:   "forget HOST",
		Short: "Forget a machine whose name another one gets",
		Long: `Drops from the ledger what is known of the machine of this name: what it was proved
to have, its failures, and which certificates are its own. What was issued and
revoked stays on record. No host is contacted. With --revoke the former machine's
certificates are revoked as well; without it they are good until they end, for
whoever has the old disks.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			host := args[0]
			if ledger.IsOutside(host) {
				return &hinted{fmt.Errorf("%s is no host: its certificate was issued for who holds the key", host), "to end it: virtrust ca revoke"}
			}
			r, err := f.revoker(c.Context())
			if err != nil {
				return err
			}
			defer r.close()
			all, err := r.ledger.Issuances(c.Context(), ledger.Filter{Host: host, Limit: 1})
			if err != nil {
				return err
			}
			if len(all) == 0 {
				return &hinted{fmt.Errorf("the ledger knows no host %q", host), "names are those of the inventory, as `virtrust status` prints them"}
			}
			var todo []plan.Revocation
			if revoke {
				if todo, err = r.ofHost(c.Context(), "", host, ""); err != nil {
					return err
				}
			}
			question := fmt.Sprintf("Forget the machine that was %s?", host)
			if len(todo) > 0 {
				question = fmt.Sprintf("Forget the machine that was %s and revoke its %s for good?", host, count(len(todo), "certificate"))
			}
			if !yes {
				if err := a.approve(c.Context(), question); err != nil {
					return err
				}
			}
			if err := r.start(c.Context()); err != nil {
				return err
			}
			for i := range todo {
				todo[i].Reason = "the machine was replaced"
			}
			var lists []signedList
			if len(todo) > 0 {
				lists, err = r.revoke(c.Context(), todo)
			}
			n := 0
			if err == nil {
				n, err = r.ledger.Forget(c.Context(), r.id, host)
			}
			r.end(err)
			if err != nil {
				return err
			}
			if !a.json {
				what := "had " + count(n+len(todo), "certificate") + " that have not ended"
				if len(todo) > 0 {
					what = count(len(todo), "certificate") + " revoked"
				}
				fmt.Fprintf(a.out, "Forgot %s: %s.\n", host, what)
			}
			if h, here := f.Host(host); here {
				a.note("The new machine has another SSH key: ssh-keygen -R %s, then accept the new one, and apply.", strings.TrimSpace(h.Address))
			}
			if len(lists) > 0 || a.json {
				return r.print(lists)
			}
			return nil
		},
	}
	a.configFlags(c)
	c.Flags().BoolVar(&revoke, "revoke", false, "revoke what the former machine has")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&a.exec, "allow-exec", false, "let the configuration run commands for passphrases")
	return c
}
