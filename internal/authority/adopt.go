package authority

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// ImportSigned brings in the certificate of the generation that waits for it,
// see RequestCertificate: the chain begins with a certificate for the key of the
// request. An empty revocation list is signed with that key, whose passphrase p
// holds. As an authority's first generation it issues, else it is prepared.
func ImportSigned(ctx context.Context, p ImportParams, l *ledger.Ledger) (pki.Authority, error) {
	p = p.defaults()
	fail := p.fail
	w, ok, err := Waits(p.Dir)
	if err != nil {
		return fail(err)
	}
	if !ok {
		return fail(errors.New("no generation of it waits for a certificate; virtrust ca csr makes a request"))
	}
	certs, err := parseChain(p.Chain)
	if err != nil {
		return fail(err)
	}
	if err := answers(certs[0], w); err != nil {
		return fail(err)
	}
	chain, err := checkImport(p.Chain, p.Now)
	if err != nil {
		return fail(err)
	}
	if l == nil {
		return fail(ledger.ErrMissing)
	}
	known, err := l.Generations(ctx, p.Name)
	if err != nil {
		return fail(err)
	}
	if slices.ContainsFunc(known, func(g ledger.Generation) bool { return bytes.Equal(g.Cert, chain[0].Raw) }) {
		// An import was interrupted at its very end.
		a, err := Read(p.Name, p.Dir)
		return a, errors.Join(err, os.Remove(w.Path))
	}
	keyPath := filepath.Join(p.KeyDir, keyName(w.Number))
	sealed, err := readRegular(keyPath, maxKeyFile)
	if err != nil {
		return fail(err)
	}
	key, err := openKey(ctx, sealed, p.Passphrase)
	if err != nil {
		return fail(fmt.Errorf("key %s: %w", keyPath, err))
	}
	defer wipeKey(key)
	a, err := p.adopt(ctx, w.Number, chain, key, nil, l)
	if err != nil {
		return a, err
	}
	return a, os.Remove(w.Path)
}

// answers says why a certificate is not the answer to a request.
func answers(c *x509.Certificate, w Waiting) error {
	name := c.Subject.CommonName
	switch {
	case !bytes.Equal(c.RawSubjectPublicKeyInfo, w.CSR.Request.RawSubjectPublicKeyInfo):
		return fmt.Errorf("%q, the first certificate, is not for the key of the request %s: sign that one, and write its certificate before those of its issuers", name, w.Path)
	case !c.BasicConstraintsValid || !c.IsCA:
		return fmt.Errorf("%q was signed as a leaf, not as a CA: sign the request again with the extensions that it asks for (openssl x509 -req -copy_extensions copyall)", name)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 || !pki.MayRevoke(c):
		return fmt.Errorf("%q may not sign certificates and revocation lists by its key usage: sign the request again with keyCertSign and cRLSign", name)
	}
	return nil
}

// ImportKey brings in a CA that exists, with its key, so that it goes on issuing
// from here: what it signed before stays trusted. The key is encrypted with the
// passphrase of p. A revocation list that it signed goes on with its number and
// its entries; without one an empty list is signed, if the CA may sign any, see
// pki.MayRevoke. As an authority's first generation it issues, else it is
// prepared.
func ImportKey(ctx context.Context, p ImportParams, key crypto.Signer, list []byte, l *ledger.Ledger) (pki.Authority, error) {
	p = p.defaults()
	fail := p.fail
	chain, err := checkImport(p.Chain, p.Now)
	if err != nil {
		return fail(err)
	}
	if public, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Public()) {
		return fail(fmt.Errorf("the key is not that of %q, the first certificate", chain[0].Subject.CommonName))
	}
	if p.Passphrase.Empty() {
		return fail(errors.New("the passphrase is empty"))
	}
	have, err := Read(p.Name, p.Dir)
	if err != nil {
		return fail(err)
	}
	number := 0
	for _, g := range have.Generations {
		if bytes.Equal(g.Cert, chain[0].Raw) {
			number = g.Number // of an import that was interrupted
		}
	}
	if number == 0 {
		if err := stillWaits(p.Dir); err != nil {
			return fail(err)
		}
		if number, err = nextNumber(ctx, p.Name, p.Dir, l); err != nil {
			return fail(err)
		}
	}
	var before *x509.RevocationList
	if len(list) > 0 {
		if before, err = readList(list, chain[0]); err != nil {
			return fail(err)
		}
	}
	return p.adopt(ctx, number, chain, key, before, l)
}

// readList reads the one list of a file, PEM or DER, and holds it against its
// issuer.
func readList(data []byte, issuer *x509.Certificate) (*x509.RevocationList, error) {
	lists, err := pki.ParseCRLs(data)
	if one, derErr := x509.ParseRevocationList(data); derErr == nil {
		lists, err = []*x509.RevocationList{one}, nil
	}
	if err != nil {
		return nil, err
	}
	lists = slices.DeleteFunc(lists, func(l *x509.RevocationList) bool { return !bytes.Equal(l.RawIssuer, issuer.RawSubject) })
	if len(lists) != 1 {
		return nil, fmt.Errorf("it holds %d revocation lists of %q, expected one", len(lists), issuer.Subject.CommonName)
	}
	if lists[0].Number == nil {
		return nil, errors.New("the revocation list has no number, so it is not known which is newer: sign one with a number (cRLNumber) and give that")
	}
	if err := pki.CheckCRL(lists[0], issuer, 1); err != nil {
		return nil, err
	}
	if !lists[0].Number.IsInt64() {
		return nil, errors.New("the revocation list's number is out of range")
	}
	return lists[0], nil
}

func (p ImportParams) defaults() ImportParams {
	if p.KeyDir == "" {
		p.KeyDir = p.Dir
	}
	if p.Now.IsZero() {
		p.Now = time.Now()
	}
	return p
}

func (p ImportParams) fail(err error) (pki.Authority, error) {
	return pki.Authority{}, fmt.Errorf("importing authority %s: %w", p.Name, err)
}

// adopt writes the files of a generation whose key is open and records it. What
// an interrupted import left is taken up; a file that says something else is
// ErrExists.
func (p ImportParams) adopt(ctx context.Context, number int, chain []*x509.Certificate, key crypto.Signer, list *x509.RevocationList, l *ledger.Ledger) (pki.Authority, error) {
	fail := p.fail
	if l == nil {
		return fail(ledger.ErrMissing)
	}
	known, err := l.Generations(ctx, p.Name)
	if err != nil {
		return fail(err)
	}
	phase := pki.PhaseIssuing
	for _, g := range known {
		if bytes.Equal(g.Cert, chain[0].Raw) {
			return fail(fmt.Errorf("%w: it is generation %d", ErrExists, g.Number))
		}
		phase = pki.PhasePrepared
	}
	if len(chain[0].SubjectKeyId) == 0 {
		return fail(fmt.Errorf("%q has no subject key identifier, by which certificates name their issuer", chain[0].Subject.CommonName))
	}
	if list == nil && pki.MayRevoke(chain[0]) {
		if list, err = pki.NewCRL(p.Now, chain[0], key, 1, nil, crlValidity); err != nil {
			return fail(err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	written, err := p.write(ctx, number, chain, key, list)
	if err != nil {
		return fail(errors.Join(err, removeAll(written)))
	}
	a, err := Read(p.Name, p.Dir)
	if err != nil {
		return fail(errors.Join(err, removeAll(written)))
	}
	i := slices.IndexFunc(a.Generations, func(g pki.Generation) bool { return g.Number == number })
	a.Generations[i].Phase = phase
	if err := record(ctx, p.Run, p.Name, a.Generations[i], written, l); err != nil {
		return fail(err)
	}
	return a, WritePhases(ctx, p.Name, p.Dir, l)
}

// write writes those files of a generation that are not there yet, the key
// first, and gives their paths.
func (p ImportParams) write(ctx context.Context, number int, chain []*x509.Certificate, key crypto.Signer, list *x509.RevocationList) (written []string, err error) {
	if err := makeDirs(Params{Dir: p.Dir, KeyDir: p.KeyDir}); err != nil {
		return nil, err
	}
	keyPath, certPath, listPath := filepath.Join(p.KeyDir, keyName(number)), filepath.Join(p.Dir, certName(number)), filepath.Join(p.Dir, crlName(number))
	if sealed, err := readRegular(keyPath, maxKeyFile); err == nil {
		have, err := openKey(ctx, sealed, p.Passphrase)
		if err != nil {
			return nil, fmt.Errorf("key %s, which is there: %w", keyPath, err)
		}
		defer wipeKey(have)
		if mine, ok := have.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !mine.Equal(key.Public()) {
			return nil, fmt.Errorf("%w: %s holds another key", ErrExists, keyPath)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else {
		sealed, err := sealKey(key, p.Passphrase, p.workFactor)
		if err != nil {
			return nil, fmt.Errorf("encrypting its key: %w", err)
		}
		if err := writeNew(keyPath, sealed, 0o600); err != nil {
			return nil, err
		}
		written = append(written, keyPath)
	}
	text := pki.RenderCerts(chain...)
	if have, err := readRegular(certPath, maxCertFile); err == nil && !bytes.Equal(have, text) {
		return written, fmt.Errorf("%w: %s holds another certificate", ErrExists, certPath)
	} else if err != nil {
		if err := writeNew(certPath, text, 0o644); err != nil {
			return written, err
		}
		written = append(written, certPath)
	}
	if _, err := os.Lstat(listPath); list == nil || err == nil {
		return written, nil
	}
	if err := writeNew(listPath, pki.RenderCRLs(list.Raw), 0o644); err != nil {
		return written, err
	}
	return append(written, listPath), nil
}
