package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
)

func (a *app) certCmd() *cobra.Command {
	c := &cobra.Command{Use: "cert", Short: "List, show and issue certificates", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.certListCmd(), a.certShowCmd(), a.certIssueCmd())
	return c
}

// certificate is a certificate as the ledger and its DER say it.
type certificate struct {
	Authority    string    `json:"authority,omitempty"` // empty: signed by none of ours
	Generation   int       `json:"generation,omitempty"`
	Serial       string    `json:"serial"`
	Host         string    `json:"host,omitempty"` // or who it was issued to, see ledger.OutsideHost
	Certificate  string    `json:"certificate,omitempty"`
	State        string    `json:"state"`             // as the ledger has it; "unrecorded" where it has none
	Issued       time.Time `json:"issued,omitzero"`   // when it was asked for
	Run          string    `json:"run,omitempty"`     // that asked for it
	Revoked      time.Time `json:"revoked,omitzero"`  // when
	Reason       string    `json:"reason,omitempty"`  // of the revocation
	Subject      string    `json:"subject,omitempty"` // RFC 4514
	Issuer       string    `json:"issuer,omitempty"`
	NotBefore    time.Time `json:"not_before,omitzero"`
	NotAfter     time.Time `json:"not_after,omitzero"`
	DNSNames     []string  `json:"dns_names,omitempty"`
	IPs          []string  `json:"ips,omitempty"`
	Usages       []string  `json:"usages,omitempty"`
	Key          string    `json:"key,omitempty"` // algorithm and size
	SubjectKeyID string    `json:"subject_key_id,omitempty"`
	IssuerKeyID  string    `json:"issuer_key_id,omitempty"`
	SHA256       string    `json:"sha256,omitempty"` // of the DER
	PEM          string    `json:"pem,omitempty"`
}

func certificateOf(i ledger.Issuance) (certificate, error) {
	c := certificate{Authority: i.Authority, Generation: i.Generation, Serial: i.Serial, Host: i.Host, Certificate: i.Certificate,
		State: string(i.State), Issued: i.Begun, Run: i.Run}
	if len(i.Cert) == 0 {
		return c, nil
	}
	leaf, err := x509.ParseCertificate(i.Cert)
	if err != nil {
		return c, fmt.Errorf("the ledger's certificate %s of %s: %w", i.Serial, i.Host, err)
	}
	c.decode(leaf)
	return c, nil
}

func (c *certificate) decode(leaf *x509.Certificate) {
	dn := func(raw []byte, otherwise string) string {
		if s, err := pki.DNString(raw); err == nil {
			return s
		}
		return otherwise
	}
	sum := sha256.Sum256(leaf.Raw)
	c.Serial, c.SHA256 = pki.SerialText(leaf.SerialNumber), hex.EncodeToString(sum[:])
	c.Subject, c.Issuer = dn(leaf.RawSubject, leaf.Subject.String()), dn(leaf.RawIssuer, leaf.Issuer.String())
	c.NotBefore, c.NotAfter, c.DNSNames = leaf.NotBefore.UTC(), leaf.NotAfter.UTC(), leaf.DNSNames
	for _, ip := range leaf.IPAddresses {
		c.IPs = append(c.IPs, ip.String())
	}
	for _, u := range leaf.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageServerAuth:
			c.Usages = append(c.Usages, string(pki.UsageServer))
		case x509.ExtKeyUsageClientAuth:
			c.Usages = append(c.Usages, string(pki.UsageClient))
		default:
			c.Usages = append(c.Usages, "another")
		}
	}
	c.Key = string(pki.AlgorithmOf(leaf.PublicKey))
	c.SubjectKeyID, c.IssuerKeyID = hex.EncodeToString(leaf.SubjectKeyId), hex.EncodeToString(leaf.AuthorityKeyId)
	c.PEM = string(pki.RenderCerts(leaf))
}

// standing is the state in words, with what the clock adds to it.
func (c certificate) standing(now time.Time) string {
	switch {
	case c.State == string(ledger.StateRevoked) || c.NotAfter.IsZero() || now.Before(c.NotAfter):
		return c.State
	default:
		return c.State + ", expired"
	}
}

func (a *app) certListCmd() *cobra.Command {
	var filter ledger.Filter
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the certificates that were issued",
		Long: `Lists what the ledger has as issued: by host, with its end. No host is contacted;
what hosts have at this moment is in virtrust status. Without --all only what is in
use is listed, not what was superseded, revoked or never handed out.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			inv, err := a.load(false)
			if err != nil {
				return err
			}
			if _, ok := inv.Authority(filter.Authority); filter.Authority != "" && !ok {
				return fmt.Errorf("authority %q is not in the configuration", filter.Authority)
			}
			l, err := a.readLedger(c.Context(), inv)
			if err != nil {
				return err
			}
			defer func() { _ = l.Close() }()
			found, err := l.Issuances(c.Context(), filter)
			if err != nil {
				return err
			}
			rows := []certificate{}
			for _, i := range found {
				if !all && i.State != ledger.StateSigned && i.State != ledger.StateInstalled {
					continue
				}
				row, err := certificateOf(i)
				if err != nil {
					return err
				}
				rows = append(rows, row)
			}
			if a.json {
				return report.JSON(a.out, rows)
			}
			return a.certTable(rows, all)
		},
	}
	a.configFlags(c)
	c.Flags().StringVar(&filter.Host, "host", "", "only those of this host")
	c.Flags().StringVar(&filter.Authority, "authority", "", "only those of this authority")
	c.Flags().StringVar(&filter.Certificate, "certificate", "", "only those of this name, e.g. libvirt-client")
	c.Flags().BoolVar(&all, "all", false, "also what was superseded, revoked or never handed out")
	return c
}

func (a *app) certTable(rows []certificate, all bool) error {
	if len(rows) == 0 {
		what := "No certificate is in use; --all lists those of the past."
		if all {
			what = "The ledger has no such certificate."
		}
		a.note("%s", what)
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tCERTIFICATE\tAUTHORITY\tUNTIL\tSTATE\tSERIAL")
	for _, r := range rows {
		until := "-"
		if !r.NotAfter.IsZero() {
			until = r.NotAfter.Format("2006-01-02 15:04")
		}
		fmt.Fprintf(w, "%s\t%s\t%s g%d\t%s\t%s\t%s\n", report.Safe(r.Host), report.Safe(r.Certificate), report.Safe(r.Authority), r.Generation, until, r.standing(a.now()), r.Serial)
	}
	return w.Flush()
}

// readLedger opens the ledger for reading; one of an earlier schema is brought
// up to date.
func (a *app) readLedger(ctx context.Context, inv *inventory.Fleet) (*ledger.Ledger, error) {
	l, err := ledger.Open(ctx, inv.LedgerPath, ledger.ReadOnly, ledger.WithClock(a.now))
	if errors.Is(err, ledger.ErrOlder) {
		l, err = ledger.Open(ctx, inv.LedgerPath, ledger.Existing, ledger.WithClock(a.now))
	}
	if errors.Is(err, ledger.ErrMissing) {
		return nil, noLedger(err, "what was issued is recorded in the ledger of these authorities", inv.LedgerPath)
	}
	return l, err
}

func (a *app) certShowCmd() *cobra.Command {
	var asPEM bool
	c := &cobra.Command{
		Use:   "show (SERIAL | HOST CERTIFICATE | FILE)",
		Short: "Show one certificate in full",
		Long: `Shows a certificate that was issued, by its serial or as what a host has under a
name such as libvirt-client, or the first one of a PEM file, with what the ledger
knows of it. No host is contacted, and nothing of a key is shown.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			inv, err := a.load(false)
			if err != nil {
				return err
			}
			l, err := a.readLedger(c.Context(), inv)
			if errors.Is(err, ledger.ErrMissing) && len(args) == 1 {
				l = nil // a file can be shown without it
			} else if err != nil {
				return err
			} else {
				defer func() { _ = l.Close() }()
			}
			found, err := findCertificate(c.Context(), inv, l, args)
			if err != nil {
				return err
			}
			switch {
			case a.json:
				return report.JSON(a.out, found)
			case asPEM && found.PEM == "":
				return fmt.Errorf("serial %s was never signed", found.Serial)
			case asPEM:
				_, err = fmt.Fprint(a.out, found.PEM)
				return err
			}
			a.printCertificate(found)
			return nil
		},
	}
	a.configFlags(c)
	c.Flags().BoolVar(&asPEM, "pem", false, "print the certificate itself, as PEM")
	return c
}

func findCertificate(ctx context.Context, inv *inventory.Fleet, l *ledger.Ledger, args []string) (certificate, error) {
	if len(args) == 2 {
		all, err := l.Issuances(ctx, ledger.Filter{Host: args[0], Certificate: args[1]})
		if err != nil {
			return certificate{}, err
		}
		if len(all) == 0 {
			return certificate{}, &hinted{fmt.Errorf("the ledger has no certificate %q of %q", args[1], args[0]), "virtrust cert list --all names those that there are"}
		}
		best := all[0]
		for _, i := range all {
			if i.State == ledger.StateInstalled {
				best = i
				break
			}
		}
		return recorded(ctx, l, best)
	}
	if l != nil {
		text := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(args[0], "0x"), ":", ""))
		if n, err := pki.ParseSerial(strings.TrimLeft(text, "0")); err == nil {
			for _, d := range inv.Authorities {
				i, err := l.IssuanceBySerial(ctx, d.Name, pki.SerialText(n))
				if errors.Is(err, ledger.ErrNotFound) {
					continue
				} else if err != nil {
					return certificate{}, err
				}
				return recorded(ctx, l, i)
			}
		}
	}
	data, err := readChain(args[0])
	if errors.Is(err, fs.ErrNotExist) {
		return certificate{}, &hinted{fmt.Errorf("%q is neither a serial in the ledger nor a file", args[0]), "virtrust cert list --all names the serials"}
	} else if err != nil {
		return certificate{}, err
	}
	b := pki.ParseBundle(data)
	if len(b.Certs) == 0 {
		return certificate{}, fmt.Errorf("%s holds no certificate", args[0])
	}
	c := certificate{State: "unrecorded"}
	c.decode(b.Certs[0])
	if l != nil {
		i, err := l.IssuanceByLeaf(ctx, c.SHA256)
		if err == nil {
			return recorded(ctx, l, i)
		} else if !errors.Is(err, ledger.ErrNotFound) {
			return c, err
		}
	}
	return c, nil
}

// recorded adds the revocation, if there is one, to what was issued.
func recorded(ctx context.Context, l *ledger.Ledger, i ledger.Issuance) (certificate, error) {
	c, err := certificateOf(i)
	if err != nil {
		return c, err
	}
	done, err := l.Revocations(ctx, i.Authority, i.Generation)
	for _, r := range done {
		if r.Serial == i.Serial {
			c.Revoked, c.Reason = r.At, r.Reason
		}
	}
	return c, err
}

func (a *app) printCertificate(c certificate) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(a.out, "%-12s %s\n", name, report.SafeN(value, 0))
		}
	}
	at := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }
	if c.Host != "" {
		line("host", c.Host)
		line("certificate", c.Certificate)
	}
	if c.Authority != "" {
		line("authority", fmt.Sprintf("%s, generation %d", c.Authority, c.Generation))
	}
	line("state", c.standing(a.now()))
	if !c.Revoked.IsZero() {
		line("revoked", strings.TrimSuffix(at(c.Revoked)+", "+c.Reason, ", "))
	}
	line("serial", c.Serial)
	line("subject", c.Subject)
	line("issuer", c.Issuer)
	if !c.NotAfter.IsZero() {
		line("valid", at(c.NotBefore)+" to "+at(c.NotAfter))
	}
	line("names", strings.Join(append(append([]string{}, c.DNSNames...), c.IPs...), ", "))
	line("usages", strings.Join(c.Usages, ", "))
	line("key", c.Key)
	line("key id", c.SubjectKeyID)
	line("issuer key", c.IssuerKeyID)
	line("SHA-256", c.SHA256)
	if !c.Issued.IsZero() {
		line("issued", at(c.Issued)+" by run "+c.Run)
	}
}
