package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
)

// waitingResult is what `ca csr --json` prints.
type waitingResult struct {
	Authority  string `json:"authority"`
	Generation int    `json:"generation"`
	Path       string `json:"path"`
	CSR        string `json:"csr"` // PEM
}

func (a *app) caCSRCmd() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "csr NAME",
		Short: "Make the request for an authority below a root that is kept elsewhere",
		Long: `Makes the key of the authority's next generation, encrypted with its passphrase, and
the request for its certificate (PKCS#10), which a root that is kept offline signs as
a CA: basicConstraints CA:TRUE with path length 0, keyCertSign and cRLSign. Then

  virtrust ca import NAME CHAIN.pem

brings the certificate in, with those of its issuers up to the root. As the first
generation it issues at once, else virtrust ca rotate changes over to it. While a
request waits, it is printed again and no second key is made.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			inv, err := a.load(false)
			if err != nil {
				return err
			}
			d, err := declared(inv, args[0])
			if err != nil {
				return err
			}
			if d.External() {
				return &hinted{fmt.Errorf("authority %q is of kind %s: its key is elsewhere", d.Name, d.Kind), "only a local authority has a key here that a root could certify"}
			}
			w, ok, err := authority.Waits(d.Directory)
			if err != nil {
				return err
			}
			if !ok {
				if w, err = a.requestCertificate(c, inv, d); err != nil {
					return err
				}
			}
			switch {
			case a.json:
				return report.JSON(a.out, waitingResult{d.Name, w.Number, w.Path, string(w.PEM())})
			case out != "":
				err = a.writeOut(out, formatPEM, w.PEM(), 0o644)
			default:
				_, err = a.out.Write(w.PEM())
			}
			if err != nil {
				return err
			}
			a.note("Authority %s: generation %d waits for its certificate. The request is %s,\n  its key is in %s. Have it signed as a CA, then:\n  virtrust ca import %s CHAIN.pem",
				d.Name, w.Number, near(w.Path), near(d.KeyDirectory), d.Name)
			return nil
		},
	}
	a.configFlags(c)
	c.Flags().StringVar(&out, "out", "", "write to this file, which must not exist; else standard output")
	c.Flags().BoolVar(&a.exec, "allow-exec", false, "let the configuration run commands for passphrases")
	return c
}

func (a *app) requestCertificate(c *cobra.Command, inv *inventory.Fleet, d *inventory.Authority) (authority.Waiting, error) {
	var w authority.Waiting
	secret, err := authority.Resolve(c.Context(), d.PassphraseFrom, a.secretOptions(inv, d.Name, true))
	if err != nil {
		return w, err
	}
	defer secret.Wipe()
	err = a.inRun(c.Context(), inv, func(id string, l *ledger.Ledger) error {
		w, err = authority.RequestCertificate(c.Context(), authority.Params{
			Name: d.Name, Organization: d.Organization, KeyAlgorithm: pki.KeyAlgorithm(d.KeyAlgorithm),
			Dir: d.Directory, KeyDir: d.KeyDirectory, Passphrase: secret, Run: id, Now: a.now(),
		}, l)
		return err
	})
	return w, err
}

// declared is an authority of the configuration.
func declared(inv *inventory.Fleet, name string) (*inventory.Authority, error) {
	if d, ok := inv.Authority(name); ok {
		return d, nil
	}
	if own := inv.AuthoritiesOf(name); len(own) > 0 {
		return nil, &hinted{fmt.Errorf("each cluster has its own authority %q", name), "name one of them: " + strings.Join(own, ", ")}
	}
	return nil, &hinted{fmt.Errorf("authority %q is not in the configuration", name), "declare it: authority \"" + name + "\" { … }"}
}
