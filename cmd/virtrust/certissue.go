package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/keystore"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/report"
)

// issueFlags are what cert issue is asked for.
type issueFlags struct {
	authority, csr, cn, usage, lifetime, out string
	format, password                         string
	dns, ips                                 []string
	yes, newKey                              bool
}

// asked is a certificate to be signed.
type asked struct {
	profile pki.Profile
	csr     *pki.CSR
	key     *ecdsa.PrivateKey // made here; nil where only the request came
	format  string
}

func (a *app) certIssueCmd() *cobra.Command {
	var o issueFlags
	c := &cobra.Command{
		Use:   "issue --authority NAME (--csr FILE | --new-key) --cn NAME",
		Short: "Sign a certificate for a person or a program outside the fleet",
		Long: `Signs a certificate for the key of a request (PKCS#10), for a person's workstation or
a program that connects to the hosts. Of the request only its key is used: the names
are those given here. Whoever has the key of it can do what the authority stands for:
a client certificate of the authority for logins makes its owner root on every host
that trusts it, unless the hosts' settings name who may log in.

With --new-key the key is made here, ECDSA P-256, for programs that want key and
certificate in one file: a key store in PKCS#12 or JKS, by the ending of --out (.p12,
.pfx, .jks) or by --format, with a password. Nothing else of the key is kept. Prefer a
request where its owner can make one.

It is recorded as issued to cert:NAME, ca revoke withdraws it, and nothing renews it.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			q, err := o.wish()
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
			var secret authority.Secret
			if q.key != nil {
				// Before anything is signed: without it there is nowhere to put the key.
				if secret, err = a.storePassword(c.Context(), o.password, o.out); err != nil {
					return err
				}
				defer secret.Wipe()
			}
			leaf, err := f.issue(c.Context(), o, q.profile, q.csr)
			if err != nil {
				return err
			}
			data, mode := pki.RenderCerts(leaf), os.FileMode(0o644)
			if q.key != nil {
				mode = 0o600
				data, err = f.store(o.authority, q, leaf, secret)
			}
			if err == nil && o.out != "" {
				err = a.writeOut(o.out, q.format, data, mode)
			}
			if err != nil {
				if q.key != nil {
					return &hinted{fmt.Errorf("the certificate was signed and not written, and its key is gone: %w", err), "virtrust ca revoke --serial " + pki.SerialText(leaf.SerialNumber)}
				}
				return &hinted{fmt.Errorf("the certificate was signed and not written: %w", err), "virtrust cert show --pem " + pki.SerialText(leaf.SerialNumber) + " prints it"}
			}
			made := certificate{Authority: o.authority, Host: ledger.OutsideHost(q.profile.CommonName), Certificate: q.profile.Name, State: string(ledger.StateSigned)}
			if g, ok := f.issuing(o.authority); ok {
				made.Generation = g.Number
			}
			made.decode(leaf)
			switch {
			case a.json:
				return report.JSON(a.out, made)
			case o.out == "":
				_, err = a.out.Write(data)
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
	c.Flags().BoolVar(&o.newKey, "new-key", false, "make the key here, for a key store")
	c.Flags().StringVar(&o.format, "format", "", "with --new-key: pkcs12 or jks; else by the ending of --out")
	c.Flags().StringVar(&o.password, "password-file", "", "with --new-key: file with the store's password; else it is asked for")
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

// wish is the certificate asked for.
func (o issueFlags) wish() (asked, error) {
	var q asked
	fail := func(err error) (asked, error) { return asked{}, err }
	for _, f := range [][2]string{{"authority", o.authority}, {"cn", o.cn}} {
		if f[1] == "" {
			return fail(&hinted{fmt.Errorf("--%s is missing", f[0]), "see virtrust cert issue --help"})
		}
	}
	if (o.csr == "") != o.newKey {
		return fail(&hinted{errors.New("give either --csr FILE or --new-key"), "--csr for a key that its owner made; --new-key for a key store, made here"})
	}
	var err error
	if q.format, err = formatFor(o.format, o.out); err != nil {
		return fail(err)
	}
	switch {
	case o.newKey && (q.format == formatPEM || o.out == ""):
		return fail(&hinted{errors.New("a key that is made here goes into a key store"), "give --out FILE.p12 (or .jks)"})
	case !o.newKey && (q.format != formatPEM || o.password != ""):
		return fail(&hinted{errors.New("a key store wants the key, and of a request only the public half is here"), "write PEM, and let its owner put both together: openssl pkcs12 -export -inkey KEY -in CERT"})
	}
	if o.usage != string(pki.UsageClient) && o.usage != string(pki.UsageServer) {
		return fail(fmt.Errorf("--usage is client or server, not %q", o.usage))
	}
	life, err := lifetimeOf(o.lifetime)
	if err != nil {
		return fail(err)
	}
	if o.newKey {
		q.key, q.csr, err = newRequest()
	} else {
		q.csr, err = readRequest(o.csr)
	}
	if err != nil {
		return fail(err)
	}
	p := pki.Profile{Name: o.usage, CommonName: o.cn, DNSNames: o.dns, Usages: []pki.Usage{pki.Usage(o.usage)}, Lifetime: life, KeyAlgorithm: pki.AlgorithmOf(q.csr.Key())}
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
	q.profile = p
	return q, nil
}

func readRequest(path string) (*pki.CSR, error) {
	data, err := readChain(path)
	if err != nil {
		return nil, err
	}
	csr, err := pki.ParseCSR(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return csr, nil
}

// newRequest makes a key and a request for it.
func newRequest() (*ecdsa.PrivateKey, *pki.CSR, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, err
	}
	csr, err := pki.ParseCSR(der)
	return key, csr, err
}

// store is the key store of a certificate whose key was made here, with the
// certificates above it.
func (f *fleet) store(name string, q asked, leaf *x509.Certificate, password authority.Secret) ([]byte, error) {
	chain := []*x509.Certificate{leaf}
	if g, ok := f.issuing(name); ok {
		for _, der := range slices.Concat([][]byte{g.Cert}, g.Parents) {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, err
			}
			chain = append(chain, c)
		}
	}
	return keystore.KeyStore(keystore.Format(q.format), q.key, chain, password.Bytes())
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

// issuing is the generation of an authority that signs.
func (f *fleet) issuing(name string) (pki.Generation, bool) {
	a, ok := f.trust.Authority(name)
	if !ok {
		return pki.Generation{}, false
	}
	return a.Issuing()
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
