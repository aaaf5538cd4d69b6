package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/report"
)

func (a *app) caImportCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "import NAME CHAIN.pem",
		Short: "Bring in the certificate of a CA that other people run",
		Long: `Brings in the certificate of a CA whose key is elsewhere: the certificate that
signs, followed by its issuers up to a self-signed root, as PEM. libvirt's bundles
get the first of them, QEMU's get all. An authority that has a generation already,
a local one too, gets it as its next: see virtrust ca rotate. Check the fingerprint
that is printed against one that you got another way.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			inv, err := a.load(false)
			if err != nil {
				return err
			}
			d, ok := inv.Authority(args[0])
			if !ok {
				return &hinted{fmt.Errorf("authority %q is not in the configuration", args[0]), "declare it: authority \"" + args[0] + "\" { … }"}
			}
			have, err := authority.Read(d.Name, d.Directory)
			if err != nil {
				return err
			}
			if !d.External() && len(have.Generations) == 0 {
				return &hinted{fmt.Errorf("authority %q is local: its certificate is made here", d.Name), "run `virtrust ca init " + d.Name + "`, or set kind to exec, offline, step or vault"}
			}
			chain, err := readChain(args[1])
			if err != nil {
				return err
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
			made, err := authority.Import(c.Context(), authority.ImportParams{Name: d.Name, Dir: d.Directory, Chain: chain, Run: id, Now: a.now()}, l)
			result := "complete"
			if err != nil {
				result = "failed"
			}
			if ended := l.EndRun(c.Context(), id, result); err == nil {
				err = ended
			}
			if err != nil {
				return err
			}
			if a.json {
				return report.JSON(a.out, made)
			}
			g := made.Generations[len(made.Generations)-1]
			fmt.Fprintf(a.out, "Authority %s: %s\n", d.Name, report.Safe(describe(g)))
			fmt.Fprintf(a.out, "  SHA-256 %s\n", fingerprint(g.Cert))
			a.note("  certificate in %s (commit it)", d.Directory)
			return nil
		},
	}
	a.configFlags(c)
	return c
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
