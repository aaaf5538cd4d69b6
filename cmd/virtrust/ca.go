package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/keystore"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
)

func (a *app) caCmd() *cobra.Command {
	c := &cobra.Command{Use: "ca", Short: "Make and show certification authorities", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.caInitCmd(), a.caCSRCmd(), a.caImportCmd(), a.caRotateCmd(), a.caMatrixCmd(), a.caListCmd(), a.caShowCmd(), a.caExportCmd(), a.caRevokeCmd(), a.caCRLCmd())
	return c
}

func (a *app) caInitCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "init [NAME...]",
		Short: "Make the first generation of authorities",
		Long: `Makes the key and certificate of every authority that the configuration declares
and that has no files yet, or of those named; where each cluster has its own, those
that are missing. The key is encrypted with the passphrase of the authority's
passphrase_from. Nothing is ever overwritten.`,
		RunE: func(c *cobra.Command, args []string) error {
			inv, err := a.load(false)
			if err != nil {
				return err
			}
			todo, err := toInit(inv, args)
			if err != nil {
				return err
			}
			if len(todo) == 0 {
				a.note("Every declared authority has its files already.")
				return nil
			}
			l, err := ledger.Open(c.Context(), inv.LedgerPath, ledger.Create, ledger.WithClock(a.now))
			if err != nil {
				return err
			}
			defer func() { _ = l.Close() }()
			id, err := l.StartRun(c.Context(), ledger.Run{ID: ledger.NewRunID(a.now()), Command: commandLine(), Operator: owner(), Version: versionText()})
			if err != nil {
				return err
			}
			result := "failed"
			defer func() { _ = l.EndRun(c.Context(), id, result) }()
			for _, d := range todo {
				if d.External() {
					return &hinted{fmt.Errorf("authority %q is of kind %s: its certificate is made elsewhere", d.Name, d.Kind), "run `virtrust ca import " + d.Name + " CHAIN.pem`"}
				}
				secret, err := authority.Resolve(c.Context(), d.PassphraseFrom, a.secretOptions(inv, d.Name, true))
				if err != nil {
					return err
				}
				made, err := authority.Init(c.Context(), authority.Params{
					Name: d.Name, Organization: d.Organization, KeyAlgorithm: pki.KeyAlgorithm(d.KeyAlgorithm), Lifetime: d.Lifetime,
					Dir: d.Directory, KeyDir: d.KeyDirectory, Passphrase: secret, Run: id, Now: a.now(),
				}, l)
				secret.Wipe()
				if err != nil {
					return err
				}
				if !a.json {
					fmt.Fprintf(a.out, "Authority %s: %s\n", d.Name, describe(made.Generations[0]))
					a.note("  to commit: certificate and revocation list in %s\n  to keep safe, with its passphrase: the sealed key in %s", near(d.Directory), near(d.KeyDirectory))
				}
			}
			result = "complete"
			if a.json {
				return a.caJSON(inv)
			}
			a.note("The ledger is %s: back it up, do not commit it.", near(l.Path()))
			return nil
		},
	}
	a.configFlags(c)
	c.Flags().BoolVar(&a.exec, "allow-exec", false, "let the configuration run commands for passphrases")
	return c
}

func toInit(inv *inventory.Fleet, names []string) ([]*inventory.Authority, error) {
	var out []*inventory.Authority
	if len(names) > 0 {
		for _, n := range names {
			own := inv.AuthoritiesOf(n)
			if len(own) == 0 {
				own = []string{n}
			}
			for _, name := range own {
				d, err := declared(inv, name)
				if err != nil {
					return nil, err
				}
				// Of all clusters' those that lack one; of a name that is one, it.
				if have, err := authority.Read(d.Name, d.Directory); err != nil {
					return nil, err
				} else if d.Name == n || len(have.Generations) == 0 {
					out = append(out, d)
				}
			}
		}
		return out, nil
	}
	for i := range inv.Authorities {
		d := &inv.Authorities[i]
		have, err := authority.Read(d.Name, d.Directory)
		if err != nil {
			return nil, err
		}
		_, waits, err := authority.Waits(d.Directory)
		if err != nil {
			return nil, err
		}
		if len(have.Generations) == 0 && !d.External() && !waits {
			out = append(out, d)
		}
	}
	return out, nil
}

// makes is the command that gives an authority its first certificate.
func makes(d *inventory.Authority) string {
	// A directory that cannot be read is reported by whoever reads its files.
	if _, waits, err := authority.Waits(d.Directory); d.External() || err == nil && waits {
		return "ca import " + d.Name + " CHAIN.pem"
	}
	return "ca init " + d.Name
}

// near is a path as it is typed here: relative where it is below this directory.
func near(path string) string {
	if here, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return path
}

func describe(g pki.Generation) string {
	c, err := x509.ParseCertificate(g.Cert)
	if err != nil {
		return "unreadable: " + err.Error()
	}
	name, err := pki.DNString(c.RawSubject)
	if err != nil {
		name = c.Subject.CommonName
	}
	return fmt.Sprintf("generation %d, %s, %s, until %s", g.Number, name, g.Phase, g.NotAfter.UTC().Format("2006-01-02"))
}

func (a *app) caJSON(inv *inventory.Fleet) error {
	var list []pki.Authority
	for _, d := range inv.Authorities {
		p, err := authority.Read(d.Name, d.Directory)
		if err != nil {
			return err
		}
		if p.Generations == nil {
			p.Generations = []pki.Generation{}
		}
		list = append(list, p)
	}
	return report.JSON(a.out, list)
}

func (a *app) caListCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List authorities and their generations",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			inv, err := a.load(false)
			if err != nil {
				return err
			}
			if a.json {
				return a.caJSON(inv)
			}
			trust, err := readTrust(c.Context(), inv)
			if err != nil {
				return err
			}
			for _, d := range inv.Authorities {
				w, waits, err := authority.Waits(d.Directory)
				if err != nil {
					return err
				}
				p, ok := trust.Authority(d.Name)
				if !ok && !waits {
					fmt.Fprintf(a.out, "%s: no files yet; run `virtrust %s`\n", d.Name, makes(&d))
					continue
				}
				for _, g := range p.Generations {
					fmt.Fprintf(a.out, "%s: %s\n", d.Name, report.Safe(describe(g)))
				}
				if waits {
					fmt.Fprintf(a.out, "%s: generation %d waits for its certificate, by %s\n", d.Name, w.Number, near(w.Path))
				}
			}
			return nil
		},
	}
	a.configFlags(c)
	return c
}

func (a *app) caShowCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Show an authority's generations in full",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := a.readAuthority(c, args[0])
			if err != nil {
				return err
			}
			if a.json {
				return report.JSON(a.out, p)
			}
			for _, g := range p.Generations {
				cert, err := x509.ParseCertificate(g.Cert)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s generation %d (%s)\n  subject      %s\n  serial       %s\n  valid        %s to %s\n  key          %s\n  key id       %s\n  revocations  %d (list number %d)\n",
					p.Name, g.Number, g.Phase, report.Safe(cert.Subject.String()), pki.SerialText(cert.SerialNumber),
					g.NotBefore.UTC().Format("2006-01-02 15:04"), g.NotAfter.UTC().Format("2006-01-02 15:04"), pki.AlgorithmOf(cert.PublicKey), g.SubjectKeyID, len(g.Revoked), g.CRLNumber)
			}
			return nil
		},
	}
	a.configFlags(c)
	return c
}

func (a *app) readAuthority(c *cobra.Command, name string) (pki.Authority, error) {
	inv, err := a.load(false)
	if err != nil {
		return pki.Authority{}, err
	}
	d, err := declared(inv, name)
	if err != nil {
		return pki.Authority{}, err
	}
	trust, err := readTrust(c.Context(), inv)
	if err != nil {
		return pki.Authority{}, err
	}
	p, ok := trust.Authority(name)
	if !ok {
		return pki.Authority{}, &hinted{fmt.Errorf("authority %q has no certificate yet", name), "run `virtrust " + makes(d) + "`"}
	}
	return p, nil
}

func (a *app) caExportCmd() *cobra.Command {
	var out, consumer, format, password string
	c := &cobra.Command{
		Use:   "export NAME",
		Short: "Print an authority's certificates, for programs outside the fleet",
		Long: `Prints the certificates that somebody outside the fleet needs to verify hosts: as PEM,
or as a trust store of Java and its like, PKCS#12 or JKS, by the ending of --out
(.p12, .pfx, .jks) or by --format. Such a store holds nothing secret: it has no
password (in JKS the usual one, changeit) unless --password-file gives one.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			format, err := formatFor(format, out)
			if err != nil {
				return err
			}
			if password != "" && format == formatPEM {
				return errors.New("--password-file is for a store: PEM has no password")
			}
			p, err := a.readAuthority(c, args[0])
			if err != nil {
				return err
			}
			if consumer != string(pki.ConsumerLibvirt) && consumer != string(pki.ConsumerQEMU) {
				return fmt.Errorf("--for is libvirt or qemu, not %q", consumer)
			}
			text, err := authority.Export(p, pki.Consumer(consumer))
			if err != nil {
				return err
			}
			if format != formatPEM {
				var secret authority.Secret
				if password != "" {
					if secret, err = a.storePassword(c.Context(), password, "the store"); err != nil {
						return err
					}
					defer secret.Wipe()
				}
				if text, err = keystore.TrustStore(keystore.Format(format), pki.ParseBundle(text).Certs, secret.Bytes()); err != nil {
					return err
				}
			}
			return a.writeOut(out, format, text, 0o644)
		},
	}
	a.configFlags(c)
	c.Flags().StringVar(&out, "out", "", "write to this file, which must not exist")
	c.Flags().StringVar(&consumer, "for", "libvirt", "who reads it: libvirt (issuing CAs) or qemu (with their root)")
	c.Flags().StringVar(&format, "format", "", "pem, pkcs12 or jks; else by the ending of --out")
	c.Flags().StringVar(&password, "password-file", "", "file with the password of a store")
	return c
}
