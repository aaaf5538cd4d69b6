package authority

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/authority/authoritytest"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

func (p *place) imports(name string, chain []byte) ImportParams {
	params := p.params(name)
	return ImportParams{Name: name, Dir: params.Dir, KeyDir: params.KeyDir, Chain: chain, Run: p.run, Passphrase: params.Passphrase, workFactor: 10}
}

// request makes or repeats the request of an authority and lays it beside the
// company's root.
func (p *place) requested(t testing.TB, c *authoritytest.Company, name string) Waiting {
	t.Helper()
	w, err := RequestCertificate(t.Context(), p.params(name), p.l)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "ours.csr"), w.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// bySigning has the root sign the request that lies beside it.
func bySigning(t testing.TB, c *authoritytest.Company, how string) []byte {
	t.Helper()
	c.Run(t, "openssl x509 -req -in ours.csr -CA root.crt -CAkey root.key -CAcreateserial -days 900 "+how+" -out ours.crt; cat ours.crt root.crt >ours.pem")
	return c.Read(t, "ours.pem")
}

// A root that is kept offline signs the request; what the authority issues then
// is accepted by every libvirt and QEMU with the bundles that they get.
func TestOfflineRoot(t *testing.T) {
	c, p := authoritytest.NewCompany(t), newPlace(t)
	w := p.requested(t, c, "libvirt")
	if w.Number != 1 {
		t.Errorf("generation %d waits", w.Number)
	}
	again, err := RequestCertificate(t.Context(), Params{Name: "libvirt", Dir: p.dir("libvirt")}, p.l)
	if err != nil || !bytes.Equal(again.PEM(), w.PEM()) {
		t.Errorf("asked again: %v", err)
	}
	for name, err := range map[string]error{
		"init": func() error { _, err := Init(t.Context(), p.params("libvirt"), p.l); return err }(),
		"import": func() error {
			_, err := Import(t.Context(), p.imports("libvirt", c.Read(t, "chain.pem")), p.l)
			return err
		}(),
	} {
		if !errors.Is(err, ErrWaiting) {
			t.Errorf("%s while it waits: %v", name, err)
		}
	}
	chain := bySigning(t, c, "-copy_extensions copyall")
	for _, bad := range []struct {
		name, text string
		params     ImportParams
	}{
		{"another key", "not for the key of the request", p.imports("libvirt", c.Read(t, "chain.pem"))},
		{"signed as a leaf", "copy_extensions", p.imports("libvirt", bySigning(t, c, ""))},
		{"without its root", "is not in the file", p.imports("libvirt", c.Read(t, "ours.crt"))},
		{"another passphrase", "passphrase", func() ImportParams {
			q := p.imports("libvirt", chain)
			q.Passphrase = NewSecret([]byte("another"))
			return q
		}()},
	} {
		if bad.name == "without its root" {
			c.Run(t, "openssl x509 -req -in ours.csr -CA root.crt -CAkey root.key -CAcreateserial -days 900 -copy_extensions copyall -out ours.crt")
			bad.params.Chain = c.Read(t, "ours.crt")
		}
		if _, err := ImportSigned(t.Context(), bad.params, p.l); err == nil || !strings.Contains(err.Error(), bad.text) {
			t.Errorf("%s: %v", bad.name, err)
		}
	}
	a, err := ImportSigned(t.Context(), p.imports("libvirt", chain), p.l)
	if err != nil {
		t.Fatal(err)
	}
	g := a.Generations[0]
	if g.Number != 1 || g.Phase != pki.PhaseIssuing || len(g.Parents) != 1 || g.CRLNumber != 1 {
		t.Errorf("imported as %+v", g)
	}
	if _, ok, err := Waits(p.dir("libvirt")); ok || err != nil {
		t.Errorf("it still waits: %v", err)
	}
	leaf := signedBy(t, p, "libvirt")
	for _, rules := range pki.PortableRules() {
		consumer := pki.ConsumerLibvirt
		if rules.ChainToSelfSigned {
			consumer = pki.ConsumerQEMU
		}
		bundle, err := a.Bundle(consumer)
		if err != nil {
			t.Fatal(err)
		}
		if v := pki.Judge(pki.Question{Rules: rules, Role: pki.UsageServer, Now: time.Now(), Cert: pki.RenderCerts(leaf), CA: bundle.Render()}); !v.OK {
			t.Errorf("%+v: %v", rules, v.Problems)
		}
	}
	// The root signs the same request for longer: the generation stays.
	a, err = Import(t.Context(), p.imports("libvirt", bySigning(t, c, "-copy_extensions copyall -days 2000")), p.l)
	if err != nil || len(a.Generations) != 1 || !a.Generations[0].NotAfter.After(g.NotAfter) {
		t.Fatalf("renewed with its key: %+v, %v", a.Generations, err)
	}
	if leaf := signedBy(t, p, "libvirt"); leaf.CheckSignatureFrom(mustParse(t, a.Generations[0])) != nil {
		t.Error("what it signs now is not of the renewed CA")
	}
	// The next one is prepared, beside the first.
	if w = p.requested(t, c, "libvirt"); w.Number != 2 {
		t.Fatalf("generation %d waits", w.Number)
	}
	if _, err := Next(t.Context(), p.params("libvirt"), pki.PhasePrepared, p.l); !errors.Is(err, ErrWaiting) {
		t.Errorf("another generation while one waits: %v", err)
	}
	a, err = ImportSigned(t.Context(), p.imports("libvirt", bySigning(t, c, "-copy_extensions copyall")), p.l)
	if err != nil || len(a.Generations) != 2 || a.Generations[1].Phase != pki.PhasePrepared || a.Generations[0].Phase != pki.PhaseIssuing {
		t.Errorf("the second: %+v, %v", a.Generations, err)
	}
}

// An import that was interrupted at whatever moment is finished by the next.
func TestOfflineRootInterrupted(t *testing.T) {
	for _, left := range [][]string{{"g1.crt"}, {"g1.crt", "g1.crl"}} {
		c, p := authoritytest.NewCompany(t), newPlace(t)
		p.requested(t, c, "libvirt")
		chain := bySigning(t, c, "-copy_extensions copyall")
		readOnly, err := ledger.Open(t.Context(), p.l.Path(), ledger.ReadOnly)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ImportSigned(t.Context(), p.imports("libvirt", chain), readOnly); !errors.Is(err, ledger.ErrReadOnly) {
			t.Fatal(err)
		}
		if _, ok, _ := Waits(p.dir("libvirt")); !ok {
			t.Fatal("a failed import took the request away")
		}
		// As a crash before the ledger leaves it.
		certs, _ := parseChain(chain)
		if err := writeNew(filepath.Join(p.dir("libvirt"), "g1.crt"), pki.RenderCerts(certs...), 0o644); err != nil {
			t.Fatal(err)
		}
		if len(left) > 1 {
			key, err := openKey(t.Context(), mustRead(t, filepath.Join(p.params("libvirt").KeyDir, "g1.key.age")), NewSecret([]byte(canary)))
			if err != nil {
				t.Fatal(err)
			}
			list, err := pki.NewCRL(time.Now(), certs[0], key, 1, nil, crlValidity)
			if err != nil {
				t.Fatal(err)
			}
			if err := writeNew(filepath.Join(p.dir("libvirt"), "g1.crl"), pki.RenderCRLs(list.Raw), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ImportSigned(t.Context(), p.imports("libvirt", chain), p.l); err != nil {
			t.Fatal(err)
		}
		signedBy(t, p, "libvirt")
	}
}

func mustParse(t testing.TB, g pki.Generation) *x509.Certificate {
	t.Helper()
	c, err := g.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// signedBy has an authority sign a certificate for its request.
func signedBy(t testing.TB, p *place, name string) *x509.Certificate {
	t.Helper()
	chain, err := p.unlocked(t, name).Sign(t.Context(), p.request(t))
	if err != nil {
		t.Fatal(err)
	}
	return chain[0]
}

// Keys of CAs as the usual tools write them.
func TestReadKey(t *testing.T) {
	c := authoritytest.NewCompany(t)
	c.Run(t, `
umask 077
openssl pkcs8 -topk8 -in sub.key -nocrypt -out pkcs8.pem
openssl pkcs8 -topk8 -in sub.key -passout pass:secret -out pbes2.pem
openssl pkcs8 -topk8 -in sub.key -passout pass:secret -scrypt -out scrypt.pem
openssl pkcs8 -topk8 -in sub.key -passout pass:secret -v2 des3 -out des3.pem
openssl ec -in sub.key -aes128 -passout pass:secret -out dek.pem
openssl ecparam -name prime256v1 -out params.pem; cat params.pem sub.key >params-first.pem
cp sub.key sec1.pem; chmod 600 sec1.pem
openssl genrsa -traditional -out rsa.pem 2048
openssl rsa -in rsa.pem -des3 -traditional -passout pass:secret -out rsa-dek.pem
openssl genrsa -traditional -out weak.pem 1024
cp pkcs8.pem open.pem; chmod 644 open.pem
`)
	password := func(text string) func(context.Context) (Secret, error) {
		return func(context.Context) (Secret, error) { return NewSecret([]byte(text)), nil }
	}
	never := func(context.Context) (Secret, error) { return Secret{}, errors.New("asked for a password") }
	for _, name := range []string{"pkcs8", "sec1", "params-first", "rsa"} {
		if _, err := ReadKey(t.Context(), filepath.Join(c.Dir, name+".pem"), never); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"pbes2", "scrypt", "des3", "dek", "rsa-dek"} {
		path := filepath.Join(c.Dir, name+".pem")
		if _, err := ReadKey(t.Context(), path, password("secret")); err != nil {
			t.Error(err)
		}
		for _, wrong := range []string{"wrong", ""} {
			if _, err := ReadKey(t.Context(), path, password(wrong)); !errors.Is(err, ErrPassphrase) {
				t.Errorf("%s with password %q: %v", name, wrong, err)
			}
		}
	}
	for name, text := range map[string]string{"open.pem": "chmod 600", "weak.pem": "1024", "root.crt": "no private key", "none.pem": "no such file"} {
		if _, err := ReadKey(t.Context(), filepath.Join(c.Dir, name), never); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A company goes on with its CA: the number and the entries of its list, and its
// certificates, which stay valid.
func TestImportKey(t *testing.T) {
	c, p := authoritytest.NewCompany(t), newPlace(t)
	c.Run(t, `
chmod 600 sub.key; : >index.txt; echo 2A >crlnumber
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=30\n' >ca.cnf
echo 'R	300101000000Z	260101000000Z	0B	unknown	/CN=lost' >index.txt
openssl ca -config ca.cnf -gencrl -cert sub.crt -keyfile sub.key -out sub.crl
openssl req -new -x509 -key root.key -subj /CN=Else -days 30 -out else.crt`)
	key, err := ReadKey(t.Context(), filepath.Join(c.Dir, "sub.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	params := p.imports("libvirt", c.Read(t, "chain.pem"))
	other := params
	other.Chain = c.Read(t, "else.crt")
	if _, err := ImportKey(t.Context(), other, key, nil, p.l); err == nil || !strings.Contains(err.Error(), "not that of") {
		t.Errorf("the key of another CA: %v", err)
	}
	a, err := ImportKey(t.Context(), params, key, c.Read(t, "sub.crl"), p.l)
	if err != nil {
		t.Fatal(err)
	}
	if g := a.Generations[0]; g.CRLNumber != 0x2a || g.Phase != pki.PhaseIssuing || !g.IsRevoked("b") {
		t.Errorf("imported as %+v", g)
	}
	if _, err := ImportKey(t.Context(), params, key, nil, p.l); !errors.Is(err, ErrExists) {
		t.Errorf("imported twice: %v", err)
	}
	open := p.unlocked(t, "libvirt")
	list, err := open.SignList(t.Context(), p.run)
	if err != nil {
		t.Fatal(err)
	}
	if list.Number.Int64() != 0x2b || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("list %d with %d entries", list.Number, len(list.RevokedCertificateEntries))
	}
	if leaf := signedBy(t, p, "libvirt"); leaf.Issuer.CommonName != "Company Issuing 1" {
		t.Errorf("signed by %s", leaf.Issuer)
	}
	// The CA goes over to one of ours as any other does.
	next, err := Next(t.Context(), p.params("libvirt"), pki.PhasePrepared, p.l)
	if err != nil || next.Number != 2 {
		t.Errorf("the next generation: %+v, %v", next, err)
	}
}

// A CA made after libvirt's guide (certtool with ca and cert_signing_key) may
// sign certificates and no list.
func TestImportKeyThatMayNotRevoke(t *testing.T) {
	c, p := authoritytest.NewCompany(t), newPlace(t)
	c.Run(t, `
openssl req -x509 -new -key root.key -subj "/CN=Guide" -days 3650 -out guide.crt -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign
openssl req -x509 -new -key sub.key -subj "/CN=Free" -days 3650 -out free.crt -addext basicConstraints=critical,CA:true
chmod 600 root.key sub.key`)
	for name, file := range map[string]string{"guide": "root.key", "free": "sub.key"} {
		key, err := ReadKey(t.Context(), filepath.Join(c.Dir, file), nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := ImportKey(t.Context(), p.imports(name, c.Read(t, name+".crt")), key, nil, p.l)
		if err != nil {
			t.Fatal(err)
		}
		signedBy(t, p, name)
		_, err = p.unlocked(t, name).SignList(t.Context(), p.run)
		if name == "guide" && (a.Generations[0].CRLNumber != 0 || err == nil || !strings.Contains(err.Error(), "key usage")) {
			t.Errorf("a list of a CA that may sign none: %v", err)
		}
		if name == "free" && (a.Generations[0].CRLNumber != 1 || err != nil) {
			t.Errorf("a CA without key usage: %v", err)
		}
	}
}
