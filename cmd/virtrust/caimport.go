package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
)

// importing is one `ca import`.
type importing struct {
	*app
	inv   *inventory.Fleet
	decl  *inventory.Authority
	chain []byte
	had   int // generations before

	key, password, list string
}

func (a *app) caImportCmd() *cobra.Command {
	i := &importing{app: a}
	c := &cobra.Command{
		Use:   "import NAME CHAIN.pem...",
		Short: "Bring in the certificate of a CA, or a whole CA with its key",
		Long: `Brings in the certificate that signs, followed by its issuers up to a self-signed
root, as PEM, from one file or several. libvirt's bundles get the first of them,
QEMU's get all. It is

  of a request that virtrust ca csr made, whose key is here already; or
  of a CA with its key, by --key: it goes on issuing from here, and what it signed
  before stays trusted. --crl takes over what it has revoked; or
  of a CA that other people run and whose key stays with them.

An authority that has a generation already gets it as its next: see virtrust ca
rotate. Of a CA that was renewed with its key the certificate takes the place of the
one before, and nothing is made anew. Check the fingerprint that is printed against
one that you got another way.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if i.inv, err = a.load(false); err != nil {
				return err
			}
			if i.decl, err = declared(i.inv, args[0]); err != nil {
				return err
			}
			for _, path := range args[1:] {
				data, err := readChain(path)
				if err != nil {
					return err
				}
				i.chain = slices.Concat(i.chain, data, []byte("\n"))
			}
			before, err := authority.Read(i.decl.Name, i.decl.Directory)
			if err != nil {
				return err
			}
			i.had = len(before.Generations)
			made, err := i.do(c.Context())
			if err != nil {
				return err
			}
			return i.print(made)
		},
	}
	a.configFlags(c)
	c.Flags().StringVar(&i.key, "key", "", "the CA's key, PEM: PKCS#8, PKCS#1 or SEC 1, encrypted or not")
	c.Flags().StringVar(&i.password, "key-password-file", "", "file with the password of --key; else it is asked for on the terminal")
	c.Flags().StringVar(&i.list, "crl", "", "with --key: the newest revocation list of that CA, PEM or DER")
	c.Flags().BoolVar(&a.exec, "allow-exec", false, "let the configuration run commands for passphrases")
	return c
}

// do imports in one of the three ways.
func (i *importing) do(ctx context.Context) (pki.Authority, error) {
	d := i.decl
	p := authority.ImportParams{Name: d.Name, Dir: d.Directory, KeyDir: d.KeyDirectory, Chain: i.chain, Now: i.now()}
	w, waits, err := authority.Waits(d.Directory)
	if err != nil {
		return pki.Authority{}, err
	}
	have, err := authority.Read(d.Name, d.Directory)
	if err != nil {
		return have, err
	}
	switch {
	case i.key == "" && (i.password != "" || i.list != ""):
		return have, &hinted{errors.New("--key-password-file and --crl belong to --key"), "see virtrust ca import --help"}
	case i.key != "":
		return i.withKey(ctx, p)
	case waits && !d.External() && !i.renews(have, w.Number):
		return i.signed(ctx, p)
	case !d.External() && len(have.Generations) == 0:
		return have, &hinted{fmt.Errorf("authority %q is local and has no key yet", d.Name),
			"virtrust ca init " + d.Name + " makes one; virtrust ca csr " + d.Name + " one for an offline root to sign; --key brings one in; for a CA that other people run, set kind to exec, offline, step or vault"}
	}
	return i.record(ctx, func(l *ledger.Ledger, id string) (pki.Authority, error) {
		p.Run = id
		return authority.Import(ctx, p, l)
	})
}

// renews tells whether the certificate is a later one for the key of a generation
// that is there. One of the generation that waits is not: an import of it was
// interrupted.
func (i *importing) renews(have pki.Authority, waiting int) bool {
	first, err := parseFirst(i.chain)
	return err == nil && slices.ContainsFunc(have.Generations, func(g pki.Generation) bool {
		c, err := g.Certificate()
		return err == nil && g.Number != waiting && bytes.Equal(c.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo)
	})
}

// signed brings in the answer to a request.
func (i *importing) signed(ctx context.Context, p authority.ImportParams) (pki.Authority, error) {
	secret, err := authority.Resolve(ctx, i.decl.PassphraseFrom, i.secretOptions(i.inv, i.decl.Name, false))
	if err != nil {
		return pki.Authority{}, err
	}
	defer secret.Wipe()
	p.Passphrase = secret
	return i.record(ctx, func(l *ledger.Ledger, id string) (pki.Authority, error) {
		p.Run = id
		return authority.ImportSigned(ctx, p, l)
	})
}

// withKey brings in a CA that exists, with its key.
func (i *importing) withKey(ctx context.Context, p authority.ImportParams) (pki.Authority, error) {
	var none pki.Authority
	d := i.decl
	if d.External() {
		return none, &hinted{fmt.Errorf("authority %q is of kind %s: its key is elsewhere", d.Name, d.Kind), "remove kind from its block, or set it to local, to issue from here"}
	}
	key, err := authority.ReadKey(ctx, i.key, i.keyPassword)
	if err != nil {
		return none, err
	}
	var list []byte
	if i.list != "" {
		if list, err = readChain(i.list); err != nil {
			return none, err
		}
	}
	secret, err := authority.Resolve(ctx, d.PassphraseFrom, i.secretOptions(i.inv, d.Name, true))
	if err != nil {
		return none, err
	}
	defer secret.Wipe()
	p.Passphrase = secret
	return i.record(ctx, func(l *ledger.Ledger, id string) (pki.Authority, error) {
		p.Run = id
		return authority.ImportKey(ctx, p, key, list, l)
	})
}

// keyPassword is that of the file of --key.
func (i *importing) keyPassword(ctx context.Context) (authority.Secret, error) {
	if i.password != "" {
		return authority.Resolve(ctx, "file:"+i.password, authority.Options{Dir: "."})
	}
	if !i.inTerm {
		return authority.Secret{}, &hinted{fmt.Errorf("%s is encrypted: there is no terminal to ask on", i.key), "give --key-password-file FILE"}
	}
	return i.prompt(ctx, "Password of "+i.key, false)
}

// record imports as a run of its own.
func (i *importing) record(ctx context.Context, do func(l *ledger.Ledger, id string) (pki.Authority, error)) (pki.Authority, error) {
	var made pki.Authority
	err := i.inRun(ctx, i.inv, func(id string, l *ledger.Ledger) (err error) {
		made, err = do(l, id)
		return err
	})
	return made, err
}

// inRun does something as a run of the ledger, which it makes if there is none.
func (a *app) inRun(ctx context.Context, inv *inventory.Fleet, do func(id string, l *ledger.Ledger) error) error {
	l, err := ledger.Open(ctx, inv.LedgerPath, ledger.Create, ledger.WithClock(a.now))
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	id, err := l.StartRun(ctx, ledger.Run{ID: ledger.NewRunID(a.now()), Command: commandLine(), Operator: owner(), Version: versionText()})
	if err != nil {
		return err
	}
	err = do(id, l)
	result := "complete"
	if err != nil {
		result = "failed"
	}
	if ended := l.EndRun(context.WithoutCancel(ctx), id, result); err == nil {
		err = ended
	}
	return err
}

func (i *importing) print(made pki.Authority) error {
	if i.json {
		return report.JSON(i.out, made)
	}
	d := i.decl
	first, err := parseFirst(i.chain)
	if err != nil {
		return err
	}
	for _, g := range made.Generations {
		if !bytes.Equal(g.Cert, first.Raw) {
			continue
		}
		fmt.Fprintf(i.out, "Authority %s: %s\n", d.Name, report.Safe(describe(g)))
		fmt.Fprintf(i.out, "  SHA-256 %s\n", fingerprint(g.Cert))
		if i.had == len(made.Generations) {
			i.note("  it was renewed with its key: `virtrust apply` brings it to the bundles, the\n  certificates of the hosts stay as they are")
		}
		if g.Phase == pki.PhasePrepared {
			i.note("  prepared beside the one that issues: `virtrust apply` brings it to the hosts, then\n  `virtrust ca rotate %s` changes over to it", d.Name)
		}
	}
	if i.key != "" {
		i.note("  to commit: what is in %s\n  to keep safe, with its passphrase: the sealed key in %s", near(d.Directory), near(d.KeyDirectory))
		i.note("  %s is not touched: as long as it is there, others can sign with it", i.key)
		switch {
		case !pki.MayRevoke(first):
			i.note("  By its key usage it may not sign revocation lists: nothing that it signed can be\n  revoked. `virtrust ca rotate %s` makes a generation that may.", d.Name)
		case i.list == "":
			i.note("  It begins with an empty revocation list: what it revoked before is not on it (--crl).")
		}
		return nil
	}
	i.note("  to commit: what is in %s", near(d.Directory))
	return nil
}

func parseFirst(chain []byte) (*x509.Certificate, error) {
	b := pki.ParseBundle(chain)
	if len(b.Certs) == 0 {
		return nil, errors.New("there is no certificate in the file")
	}
	return b.Certs[0], nil
}

// maxChain bounds a file of certificates, in bytes.
const maxChain = 1 << 20

func readChain(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxChain {
		return nil, fmt.Errorf("%s is not a file of certificates", path)
	}
	return os.ReadFile(path)
}

// fingerprint is the SHA-256 of a certificate as openssl prints it.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}
