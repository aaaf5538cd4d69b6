package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/plan"
)

func (a *app) caRevokeCmd() *cobra.Command {
	var serial, host, certificate, file, reason string
	var inUse, yes bool
	c := &cobra.Command{
		Use:   "revoke [AUTHORITY]",
		Short: "Revoke certificates and sign a new revocation list",
		Long: `Revokes one certificate by its serial or its file, or all that a host still has, or
had, and that have not ended. The revocation is recorded in the ledger and a new list
is signed; the next apply or renew brings it to the hosts. From then on libvirtd and
QEMU refuse the certificate, and what is connected already stays connected.

A certificate that a host of the inventory uses is revoked only with --in-use: until
an apply has made it a new one, that host cannot reach the others.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if b := func(s string) int { return min(len(s), 1) }; b(serial)+b(host)+b(file) != 1 {
				return &hinted{errors.New("say what to revoke"), "--serial HEX, --host NAME (with --certificate NAME for one of its certificates) or --file CERT.pem"}
			}
			if certificate != "" && host == "" {
				return &hinted{errors.New("--certificate is one of a host's certificates"), "give --host, too, or --file for a file"}
			}
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			r, err := f.revoker(c.Context())
			if err != nil {
				return err
			}
			defer r.close()
			name := ""
			if len(args) == 1 {
				name = args[0]
				d, err := declared(f.Fleet, name)
				if err != nil {
					return err
				}
				if _, ok := f.trust.Authority(name); !ok {
					return &hinted{fmt.Errorf("authority %q has no certificate yet", name), "run `virtrust " + makes(d) + "`"}
				}
			}
			var todo []plan.Revocation
			switch {
			case host != "":
				todo, err = r.ofHost(c.Context(), name, host, certificate)
			case file != "":
				todo, err = r.ofFile(c.Context(), name, file)
			default:
				todo, err = r.ofSerial(c.Context(), name, serial)
			}
			if err != nil {
				return err
			}
			if len(todo) == 0 {
				a.note("Nothing to revoke: everything of it has ended or is revoked already.")
				return nil
			}
			for i := range todo {
				t := &todo[i]
				t.Reason = reason
				if _, here := f.Host(t.Host); here && t.InUse && !inUse {
					return &exitCode{exitRefused, &hinted{fmt.Errorf("%s of %s (serial %s) is in use", t.Certificate, t.Host, t.Serial),
						"add --in-use if it is meant, and apply soon; or make a new one first: virtrust apply --limit " + t.Host + " --replace certificate." + t.Certificate}}
				}
				a.note("%s: serial %s, %s", t.Authority, t.Serial, t.What())
			}
			if !yes {
				if err := a.approve(c.Context(), fmt.Sprintf("Revoke %s for good?", count(len(todo), "certificate"))); err != nil {
					return err
				}
			}
			return r.printed(c.Context(), func() ([]signedList, error) { return r.revoke(c.Context(), todo) })
		},
	}
	a.configFlags(c)
	c.Flags().StringVar(&serial, "serial", "", "the certificate with this serial, hexadecimal")
	c.Flags().StringVar(&host, "host", "", "what this host has and had; it need not be in the inventory")
	c.Flags().StringVar(&certificate, "certificate", "", "of the host only the certificates of this name, e.g. libvirt-client")
	c.Flags().StringVar(&file, "file", "", "the certificate in this file, PEM")
	c.Flags().StringVar(&reason, "reason", "", "why, for the ledger")
	c.Flags().BoolVar(&inUse, "in-use", false, "also what a host of the inventory uses")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&a.exec, "allow-exec", false, "let the configuration run commands for passphrases")
	return c
}

func (a *app) caCRLCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "crl [AUTHORITY...]",
		Short: "Sign new revocation lists",
		Long: `Signs a new revocation list of each trusted generation of the authorities, or of
those named, whether something was revoked or not. renew does this by itself before a
list ends; the next apply or renew brings it to the hosts.`,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			r, err := f.revoker(c.Context())
			if err != nil {
				return err
			}
			defer r.close()
			named := map[string]bool{}
			for _, n := range args {
				own := f.AuthoritiesOf(n)
				if len(own) == 0 {
					_, err := declared(f.Fleet, n)
					return err
				}
				for _, name := range own {
					if _, ok := f.trust.Authority(name); !ok {
						return fmt.Errorf("authority %q has no certificate yet", name)
					}
					named[name] = true
				}
			}
			var todo []signing
			for _, au := range f.trust.Authorities {
				if d, ok := f.Fleet.Authority(au.Name); len(args) > 0 && !named[au.Name] || ok && d.External() {
					continue
				}
				for _, g := range au.Trusted() {
					if err := r.mayRevoke(au.Name, g.Number); err != nil {
						if len(args) > 0 {
							return err
						}
						a.note("%v", err)
						continue
					}
					todo = append(todo, signing{au.Name, g.Number})
				}
			}
			if len(todo) == 0 {
				return errors.New("there is no local authority with a certificate: an external one signs its own lists")
			}
			return r.printed(c.Context(), func() ([]signedList, error) { return r.sign(c.Context(), todo) })
		},
	}
	a.configFlags(c)
	c.Flags().BoolVar(&a.exec, "allow-exec", false, "let the configuration run commands for passphrases")
	return c
}

// revoker revokes certificates and signs lists, in a run of the ledger.
type revoker struct {
	*fleet
	ledger *ledger.Ledger
	id     string // of the run; empty before start
}

// signing is a generation whose list is to be signed.
type signing struct {
	authority  string
	generation int
}

// signedList is a list that was signed.
type signedList struct {
	Authority  string    `json:"authority"`
	Generation int       `json:"generation"`
	Number     uint64    `json:"number"`
	Revoked    int       `json:"revoked"` // entries
	NextUpdate time.Time `json:"next_update"`
}

func (f *fleet) revoker(ctx context.Context) (*revoker, error) {
	l, err := ledger.Open(ctx, f.LedgerPath, ledger.Existing, ledger.WithClock(f.app.now))
	if errors.Is(err, ledger.ErrMissing) {
		return nil, noLedger(err, "revocations are recorded in the ledger of these authorities", f.LedgerPath)
	} else if err != nil {
		return nil, err
	}
	return &revoker{fleet: f, ledger: l}, nil
}

func (r *revoker) close() { _ = r.ledger.Close() }

func (r *revoker) start(ctx context.Context) (err error) {
	r.id, err = r.ledger.StartRun(ctx, ledger.Run{ID: ledger.NewRunID(r.app.now()), Command: commandLine(), Operator: owner(), Version: versionText()})
	return err
}

func (r *revoker) end(err error) {
	result := "complete"
	if err != nil {
		result = "failed"
	}
	if err := r.ledger.EndRun(context.Background(), r.id, result); err != nil {
		r.log.Warn("the run could not be closed in the ledger", "error", err)
	}
}

// ofHost is all that a host has and had, as far as it has not ended.
func (r *revoker) ofHost(ctx context.Context, name, host, certificate string) ([]plan.Revocation, error) {
	leaves, err := r.ledger.Leaves(ctx, func(h string) bool { return h == host }, true, r.app.now())
	if err != nil {
		return nil, err
	}
	var out []plan.Revocation
	for _, l := range leaves {
		if name != "" && l.Authority != name || certificate != "" && l.Certificate != certificate {
			continue
		}
		out = append(out, revocationOf(l))
	}
	if len(leaves) == 0 {
		all, err := r.ledger.Issuances(ctx, ledger.Filter{Host: host, Limit: 1})
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("the ledger has nothing that was issued to host %q", host)
		}
		return nil, err
	}
	return out, nil
}

func revocationOf(l ledger.Leaf) plan.Revocation {
	return plan.Revocation{Authority: l.Authority, Generation: l.Generation, Serial: l.Serial, Host: l.Host, Certificate: l.Certificate,
		NotAfter: l.NotAfter, InUse: l.State != ledger.StateSuperseded}
}

func (r *revoker) ofSerial(ctx context.Context, name, text string) ([]plan.Revocation, error) {
	text = strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(text, "0x"), ":", ""))
	n, err := pki.ParseSerial(text)
	if err != nil {
		return nil, err
	}
	text = pki.SerialText(n)
	for _, a := range r.trust.Authorities {
		if name != "" && a.Name != name {
			continue
		}
		i, err := r.ledger.IssuanceBySerial(ctx, a.Name, text)
		if errors.Is(err, ledger.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		return r.unless(ctx, plan.Revocation{Authority: a.Name, Generation: i.Generation, Serial: text, Host: i.Host, Certificate: i.Certificate,
			InUse: i.State == ledger.StateInstalled || i.State == ledger.StateSigned})
	}
	if name == "" {
		return nil, &hinted{fmt.Errorf("the ledger has no certificate with serial %s", text), "name the authority that signed it: virtrust ca revoke AUTHORITY --serial …"}
	}
	a, _ := r.trust.Authority(name)
	g, ok := a.Issuing()
	if !ok || len(a.Generations) > 1 {
		return nil, &hinted{fmt.Errorf("the ledger has no certificate with serial %s, and authority %q has several generations", text, name), "give the certificate itself: --file"}
	}
	return r.unless(ctx, plan.Revocation{Authority: name, Generation: g.Number, Serial: text})
}

func (r *revoker) ofFile(ctx context.Context, name, file string) ([]plan.Revocation, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	b := pki.ParseBundle(data)
	if len(b.Certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	leaf := b.Certs[0]
	for _, a := range r.trust.Authorities {
		for _, g := range a.Generations {
			cert, err := g.Certificate()
			if err != nil || leaf.CheckSignatureFrom(cert) != nil || name != "" && a.Name != name {
				continue
			}
			v := plan.Revocation{Authority: a.Name, Generation: g.Number, Serial: pki.SerialText(leaf.SerialNumber), NotAfter: leaf.NotAfter}
			i, err := r.ledger.IssuanceBySerial(ctx, a.Name, v.Serial)
			if err == nil {
				v.Host, v.Certificate, v.InUse = i.Host, i.Certificate, i.State == ledger.StateInstalled || i.State == ledger.StateSigned
			} else if !errors.Is(err, ledger.ErrNotFound) {
				return nil, err
			}
			return r.unless(ctx, v)
		}
	}
	return nil, fmt.Errorf("%s was not signed by an authority of this configuration", file)
}

// unless leaves out what is revoked already.
func (r *revoker) unless(ctx context.Context, v plan.Revocation) ([]plan.Revocation, error) {
	done, err := r.ledger.Revocations(ctx, v.Authority, v.Generation)
	if err != nil || slices.ContainsFunc(done, func(x ledger.Revocation) bool { return x.Serial == v.Serial }) {
		return nil, err
	}
	return []plan.Revocation{v}, nil
}

// revoke records revocations and signs the lists that have them.
func (r *revoker) revoke(ctx context.Context, todo []plan.Revocation) ([]signedList, error) {
	var gens []signing
	for _, t := range todo {
		if d, ok := r.Fleet.Authority(t.Authority); ok && d.External() {
			return nil, &hinted{fmt.Errorf("authority %q is not ours to revoke for", t.Authority), "revoke there, and put its list into " + d.Directory}
		}
		if err := r.mayRevoke(t.Authority, t.Generation); err != nil {
			return nil, err
		}
		if s := (signing{t.Authority, t.Generation}); !slices.Contains(gens, s) {
			gens = append(gens, s)
		}
	}
	// The keys first: what is recorded as revoked and on no list only alarms.
	keys, err := r.unlock(ctx, gens)
	defer func() {
		for _, k := range keys {
			_ = k.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	for _, t := range todo {
		if err := r.ledger.Revoke(ctx, r.id, ledger.Revocation{Authority: t.Authority, Generation: t.Generation, Serial: t.Serial, Reason: t.Reason}); err != nil {
			return nil, err
		}
	}
	return r.lists(ctx, gens, keys)
}

// mayRevoke refuses a generation whose certificate does not let it sign lists:
// one that was brought in with its key may be so.
func (r *revoker) mayRevoke(authority string, generation int) error {
	a, _ := r.trust.Authority(authority)
	for _, g := range a.Generations {
		if g.Number != generation {
			continue
		}
		if c, err := g.Certificate(); err != nil {
			return err
		} else if !pki.MayRevoke(c) {
			return &exitCode{exitRefused, &hinted{fmt.Errorf("generation %d of authority %q may not sign revocation lists by its key usage", generation, authority),
				"change to a generation that may: `virtrust ca rotate " + authority + "`; what the old one signed is refused when it has left the bundles"}}
		}
	}
	return nil
}

// sign signs lists whether something was revoked or not.
func (r *revoker) sign(ctx context.Context, gens []signing) ([]signedList, error) {
	keys, err := r.unlock(ctx, gens)
	defer func() {
		for _, k := range keys {
			_ = k.Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	return r.lists(ctx, gens, keys)
}

func (r *revoker) unlock(ctx context.Context, gens []signing) ([]*authority.Local, error) {
	var keys []*authority.Local
	for _, s := range gens {
		d, ok := r.Fleet.Authority(s.authority)
		if !ok {
			return keys, fmt.Errorf("authority %q is not in the configuration", s.authority)
		}
		k, err := authority.OpenGeneration(ctx, s.authority, s.generation, d.Directory, d.KeyDirectory, r.ledger, r.app.now)
		if err != nil {
			return keys, err
		}
		keys = append(keys, k)
		o := r.app.secretOptions(r.Fleet, s.authority, false)
		if err := k.Unlock(ctx, func(ctx context.Context) (authority.Secret, error) { return authority.Resolve(ctx, d.SecretFrom(), o) }); err != nil {
			return keys, err
		}
	}
	return keys, nil
}

func (r *revoker) lists(ctx context.Context, gens []signing, keys []*authority.Local) ([]signedList, error) {
	var out []signedList
	for i, s := range gens {
		l, err := keys[i].SignList(ctx, r.id)
		if err != nil {
			return out, err
		}
		out = append(out, listOf(s, l))
	}
	return out, nil
}

func listOf(s signing, l *x509.RevocationList) signedList {
	return signedList{Authority: s.authority, Generation: s.generation, Number: l.Number.Uint64(), Revoked: len(l.RevokedCertificateEntries), NextUpdate: l.NextUpdate}
}

func (l signedList) text() string {
	return fmt.Sprintf("list %d of generation %d, %s, until %s", l.Number, l.Generation, count(l.Revoked, "revoked certificate"), l.NextUpdate.UTC().Format("2006-01-02"))
}

// printed carries out in a run of the ledger what signs lists, and prints them.
func (r *revoker) printed(ctx context.Context, do func() ([]signedList, error)) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	lists, err := do()
	r.end(err)
	if err != nil {
		return err
	}
	return r.print(lists)
}

func (r *revoker) print(lists []signedList) error {
	if r.app.json {
		return report.JSON(r.app.out, lists)
	}
	for _, l := range lists {
		d, _ := r.Fleet.Authority(l.Authority)
		fmt.Fprintf(r.app.out, "Authority %s: %s\n", l.Authority, l.text())
		r.app.note("  in %s: commit it. The next apply or renew brings it to the hosts.", d.Directory)
	}
	return nil
}
