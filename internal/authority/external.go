package authority

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// A driver has a request signed by a CA whose key is elsewhere. It gives the
// chain as it came, leaf first, or ErrPending; External judges it.
type driver interface {
	request(ctx context.Context, r Request) ([]*x509.Certificate, error)
}

// An External is a CA that other people run. Of it this machine has the public
// files alone. It is safe for use by several goroutines.
type External struct {
	name       string
	driver     driver
	generation pki.Generation // the issuing one
	issuer     *x509.Certificate
	ledger     *ledger.Ledger
}

// openExternal opens an authority that is reached through d. Its public files in
// dir say which certificates are accepted from it: those of the issuing
// generation. A generation that the ledger does not know yet is recorded there:
// an external CA needs no ledger that lasts.
func openExternal(ctx context.Context, name, dir, run string, d driver, l *ledger.Ledger) (*External, error) {
	fail := func(err error) (*External, error) { return nil, fmt.Errorf("authority %s: %w", name, err) }
	public, err := Read(name, dir)
	if err != nil {
		return nil, err
	}
	if len(public.Generations) == 0 {
		return fail(fmt.Errorf("%s: %w", dir, ErrNotImported))
	}
	if l == nil {
		return fail(ledger.ErrMissing)
	}
	for _, g := range public.Generations {
		if err := l.AddGeneration(ctx, run, name, g); err != nil {
			return fail(err)
		}
	}
	trust, err := l.Trust(ctx, []pki.Authority{public})
	if err != nil {
		return fail(err)
	}
	g, ok := trust.Authorities[0].Issuing()
	if !ok {
		return fail(errors.New("no generation of it is issuing"))
	}
	issuer, err := g.Certificate()
	if err != nil {
		return fail(err)
	}
	return &External{name: name, driver: d, generation: g, issuer: issuer, ledger: l}, nil
}

// Name is the authority's name in the configuration.
func (a *External) Name() string { return a.name }

// LogValue is the authority's name.
func (a *External) LogValue() slog.Value { return slog.StringValue(a.name) }

// Close does nothing: there is no key here.
func (a *External) Close() error { return nil }

// Sign has a leaf signed and checks what comes back: the key of the request, the
// names and usages of the profile, a signature of the authority's issuing
// certificate. What is not so is not returned. ErrPending means that nobody has
// signed yet. What was signed is recorded in the ledger.
func (a *External) Sign(ctx context.Context, r Request) ([]*x509.Certificate, error) {
	fail := func(err error) ([]*x509.Certificate, error) {
		return nil, fmt.Errorf("authority %s: signing %s for %s: %w", a.name, r.Profile.Name, r.Host, err)
	}
	if r.CSR == nil || r.CSR.Request == nil || r.Host == "" {
		return fail(errors.New("the request lacks a host or a certificate request"))
	}
	if err := r.Profile.Validate(); err != nil {
		return fail(err)
	}
	if err := checkRequest(r); err != nil {
		return fail(err)
	}
	chain, err := a.driver.request(ctx, r)
	if err != nil {
		return fail(err)
	}
	if err := a.judge(chain, r); err != nil {
		return fail(err)
	}
	if err := a.record(context.WithoutCancel(ctx), chain[0], r); err != nil {
		return fail(err)
	}
	// Consumers have the issuing certificate in their CA file.
	return chain[:1], nil
}

// checkRequest refuses a request that asks for other names than policy: an
// external CA may copy what stands in it, and a host made it.
func checkRequest(r Request) error {
	req := r.CSR.Request
	var have, want []string
	have = append(have, req.DNSNames...)
	for _, ip := range req.IPAddresses {
		have = append(have, ip.String())
	}
	want = append(want, r.Profile.DNSNames...)
	for _, ip := range r.Profile.IPs {
		want = append(want, ip.String())
	}
	slices.Sort(have)
	slices.Sort(want)
	if req.Subject.CommonName != r.Profile.CommonName || !slices.Equal(have, want) || len(req.EmailAddresses)+len(req.URIs) > 0 {
		return fmt.Errorf("the host's request asks for %q with the names %q and policy for %q with %q: it was not handed on", req.Subject.CommonName, have, r.Profile.CommonName, want)
	}
	return nil
}

// requestPEM is the request as PEM.
func requestPEM(r Request) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: r.CSR.Request.Raw})
}

// judge says what is wrong with a chain that came from outside.
func (a *External) judge(chain []*x509.Certificate, r Request) error {
	if len(chain) == 0 {
		return errors.New("it gave no certificate")
	}
	leaf := chain[0]
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if !bytes.Equal(leaf.RawSubjectPublicKeyInfo, r.CSR.Request.RawSubjectPublicKeyInfo) {
		bad("its key is not that of the request")
	}
	if leaf.IsCA {
		bad("it is a CA")
	}
	switch err := leaf.CheckSignatureFrom(a.issuer); {
	case err == nil:
	case len(chain) > 1 && leaf.CheckSignatureFrom(chain[1]) == nil:
		bad("it is signed by %q and not by %q: if the authority has a new certificate, bring it in with virtrust ca import", chain[1].Subject.CommonName, a.issuer.Subject.CommonName)
	default:
		bad("it is not signed by %q: %v", a.issuer.Subject.CommonName, err)
	}
	for _, d := range pki.Compare(leaf, r.Profile, []string{a.generation.SubjectKeyID}) {
		// Without the right key identifier the next look would replace it again.
		if d.Field == pki.FieldIssuer && leaf.CheckSignatureFrom(a.issuer) == nil {
			bad("its authority key identifier is %s, that of the authority is %s", d.Have, d.Want)
		} else if d.Field != pki.FieldIssuer {
			bad("%s is %s, wanted %s", d.Field, d.Have, d.Want)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the certificate that came back is refused: %s", strings.Join(wrong, "; "))
	}
	return nil
}

// record writes to the ledger what was signed elsewhere. An authority that
// gives the same certificate again, as a folder of signed ones does, is
// recorded once.
func (a *External) record(ctx context.Context, leaf *x509.Certificate, r Request) error {
	leafDigest := sha256.Sum256(leaf.Raw)
	if _, err := a.ledger.IssuanceByLeaf(ctx, hex.EncodeToString(leafDigest[:])); err == nil {
		return nil
	} else if !errors.Is(err, ledger.ErrNotFound) {
		return err
	}
	digest := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	id, err := a.ledger.BeginIssuance(ctx, ledger.Intent{Run: r.Run, Authority: a.name, Generation: a.generation.Number, Host: r.Host,
		Certificate: r.Profile.Name, Profile: r.Profile, SPKISHA256: hex.EncodeToString(digest[:]), Serial: pki.SerialText(leaf.SerialNumber)})
	if err != nil {
		return err
	}
	return a.ledger.FinishIssuance(ctx, id, leaf.Raw)
}

// parseChain reads a chain in PEM from outside: at most 10 certificates and
// nothing else of note. A private key in it is refused: it must not lie around.
func parseChain(data []byte) ([]*x509.Certificate, error) {
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return nil, errors.New("there is a private key in the answer, and only certificates belong there")
	}
	var chain []*x509.Certificate
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("there is a PEM block of type %q in the answer", b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the answer: %w", len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate in the answer")
	}
	if len(chain) > 10 {
		return nil, fmt.Errorf("there are %d certificates in the answer", len(chain))
	}
	return chain, nil
}
