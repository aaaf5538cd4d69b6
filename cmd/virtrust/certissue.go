package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/report"
)

// issueFlags are what cert issue is asked for.
type issueFlags struct {
	authority, csr, cn, usage, lifetime, out string
	dns, ips                                 []string
	yes                                      bool
}

func (a *app) certIssueCmd() *cobra.Command {
	var o issueFlags
	c := &cobra.Command{
		Use:   "issue --authority NAME --csr FILE --cn NAME --usage client|server",
		Short: "Sign a certificate for a person or a program outside the fleet",
		Long: `Signs a certificate for the key of a request (PKCS#10), for a person's workstation or
a program that connects to the hosts. Of the request only its key is used: the names
are those given here. Whoever has the key of it can do what the authority stands for:
a client certificate of the authority for logins makes its owner root on every host
that trusts it, unless the hosts' settings name who may log in.

It is recorded as issued to cert:NAME, ca revoke withdraws it, and nothing renews it.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, csr, err := o.profile()
			if err != nil {
				return err
			}
			if o.out != "" {
				if _, err := os.Lstat(o.out); err == nil {
					return &hinted{&fs.PathError{Op: "create", Path: o.out, Err: fs.ErrExist}, "nothing is ever overwritten: give the name of a file that is not there"}
				}
			}
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			leaf, err := f.issue(c.Context(), o, p, csr)
			if err != nil {
				return err
			}
			text := pki.RenderCerts(leaf)
			if o.out != "" {
				if err := writeCertificate(o.out, text); err != nil {
					return &hinted{fmt.Errorf("the certificate was signed and not written: %w", err), "virtrust cert show --pem " + pki.SerialText(leaf.SerialNumber) + " prints it"}
				}
			}
			made := certificate{Authority: o.authority, Host: ledger.OutsideHost(p.CommonName), Certificate: p.Name, State: string(ledger.StateSigned)}
			if g, ok := f.issuing(o.authority); ok {
				made.Generation = g
			}
			made.decode(leaf)
			switch {
			case a.json:
				return report.JSON(a.out, made)
			case o.out == "":
				_, err = a.out.Write(text)
				return err
			}
			fmt.Fprintf(a.out, "%s: serial %s, until %s, in %s\n", report.Safe(made.Host), made.Serial, made.NotAfter.Format("2006-01-02"), o.out)
			a.note("Its owner also needs the CA: virtrust ca export %s", o.authority)
			return nil
		},
	}
	a.configFlags(c)
	c.Flags().StringVar(&o.authority, "authority", "", "the authority that signs; a local one")
	c.Flags().StringVar(&o.csr, "csr", "", "the request, PKCS#10 as PEM or DER")
	c.Flags().StringVar(&o.cn, "cn", "", "who it is for: the subject's common name")
	c.Flags().StringSliceVar(&o.dns, "dns", nil, "DNS name (repeatable)")
	c.Flags().StringSliceVar(&o.ips, "ip", nil, "address (repeatable)")
	c.Flags().StringVar(&o.usage, "usage", "client", "client or server")
	c.Flags().StringVar(&o.lifetime, "lifetime", "90d", "how long it lasts, such as 90d or 12h")
	c.Flags().StringVar(&o.out, "out", "", "write to this file, which must not exist; else standard output")
	c.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&a.exec, "allow-exec", false, "let the configuration run commands for passphrases")
	return c
}

// profile is the certificate asked for.
func (o issueFlags) profile() (pki.Profile, *pki.CSR, error) {
	fail := func(err error) (pki.Profile, *pki.CSR, error) { return pki.Profile{}, nil, err }
	for _, f := range [][2]string{{"authority", o.authority}, {"csr", o.csr}, {"cn", o.cn}} {
		if f[1] == "" {
			return fail(&hinted{fmt.Errorf("--%s is missing", f[0]), "see virtrust cert issue --help"})
		}
	}
	if o.usage != string(pki.UsageClient) && o.usage != string(pki.UsageServer) {
		return fail(fmt.Errorf("--usage is client or server, not %q", o.usage))
	}
	life, err := lifetimeOf(o.lifetime)
	if err != nil {
		return fail(err)
	}
	data, err := readChain(o.csr)
	if err != nil {
		return fail(err)
	}
	csr, err := pki.ParseCSR(data)
	if err != nil {
		return fail(fmt.Errorf("%s: %w", o.csr, err))
	}
	p := pki.Profile{Name: o.usage, CommonName: o.cn, DNSNames: o.dns, Usages: []pki.Usage{pki.Usage(o.usage)}, Lifetime: life, KeyAlgorithm: pki.AlgorithmOf(csr.Key())}
	for _, s := range o.ips {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return fail(fmt.Errorf("--ip: %w", err))
		}
		p.IPs = append(p.IPs, ip)
	}
	if err := p.Validate(); err != nil {
		return fail(err)
	}
	return p, csr, nil
}

// lifetimeOf reads a duration as the language has it.
func lifetimeOf(s string) (time.Duration, error) {
	unit := map[string]time.Duration{"d": 24 * time.Hour, "h": time.Hour}
	if len(s) > 1 {
		n, err := strconv.Atoi(s[:len(s)-1])
		if u := unit[s[len(s)-1:]]; err == nil && u > 0 && n > 0 && n < 100*365*24 && !strings.HasPrefix(s, "+") {
			return time.Duration(n) * u, nil
		}
	}
	return 0, fmt.Errorf(`--lifetime %q: give whole days or hours, such as "90d" or "12h"`, s)
}

// issuing is the number of the generation of an authority that signs.
func (f *fleet) issuing(name string) (int, bool) {
	a, ok := f.trust.Authority(name)
	if !ok {
		return 0, false
	}
	g, ok := a.Issuing()
	return g.Number, ok
}

// issue signs a certificate outside the fleet, in a run of its own.
func (f *fleet) issue(ctx context.Context, o issueFlags, p pki.Profile, csr *pki.CSR) (leaf *x509.Certificate, err error) {
	d, err := declared(f.Fleet, o.authority)
	if err != nil {
		return nil, err
	}
	if d.External() {
		return nil, &hinted{fmt.Errorf("authority %q is of kind %s: its certificates are signed elsewhere", d.Name, d.Kind), "ask the people who run it to sign the request"}
	}
	r, err := f.revoker(ctx)
	if err != nil {
		return nil, err
	}
	defer r.close()
	k, err := authority.Open(ctx, d.Name, d.Directory, d.KeyDirectory, r.ledger, f.app.now)
	if errors.Is(err, ledger.ErrForeign) {
		return nil, &exitCode{exitRefused, err}
	} else if err != nil {
		return nil, err
	}
	defer func() { _ = k.Close() }()
	if !o.yes {
		names := strings.Join(append(append([]string{}, o.dns...), o.ips...), ", ")
		if names != "" {
			names = " (" + names + ")"
		}
		if err := f.app.approve(ctx, fmt.Sprintf("Sign a %s certificate of authority %s for %q%s, for %s?", o.usage, d.Name, p.CommonName, names, o.lifetime)); err != nil {
			return nil, err
		}
	}
	secrets := f.app.secretOptions(f.Fleet, d.Name, false)
	if err := k.Unlock(ctx, func(ctx context.Context) (authority.Secret, error) {
		return authority.Resolve(ctx, d.SecretFrom(), secrets)
	}); err != nil {
		return nil, err
	}
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	chain, err := k.Sign(ctx, authority.Request{Run: r.id, Host: ledger.OutsideHost(p.CommonName), CSR: csr, Profile: p})
	r.end(err)
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

// writeCertificate makes a file that must not exist.
func writeCertificate(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // G302: a public certificate
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
