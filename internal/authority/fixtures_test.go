package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

const canary = "correct horse battery CANARY"

// A place is a configuration's directory with a ledger and one open run.
type place struct {
	root string
	l    *ledger.Ledger
	run  string
}

func newPlace(t testing.TB) *place {
	t.Helper()
	p := &place{root: t.TempDir()}
	var err error
	if p.l, err = ledger.Open(t.Context(), filepath.Join(p.root, ".virtrust", "ledger.db"), ledger.Create); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.l.Close() })
	if p.run, err = p.l.StartRun(t.Context(), ledger.Run{Command: "ca init", Operator: "ann@desk"}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) dir(name string) string { return filepath.Join(p.root, "authorities", name) }

func (p *place) params(name string) Params {
	return Params{Name: name, Organization: "Example", Dir: p.dir(name), KeyDir: filepath.Join(p.root, "keys", name),
		Passphrase: NewSecret([]byte(canary)), Run: p.run, workFactor: 10}
}

func (p *place) init(t testing.TB, name string) pki.Authority {
	t.Helper()
	a, err := Init(t.Context(), p.params(name), p.l)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func passphrase(text string) func(context.Context) (Secret, error) {
	return func(context.Context) (Secret, error) { return NewSecret([]byte(text)), nil }
}

// unlocked is an authority ready to sign.
func (p *place) unlocked(t testing.TB, name string) *Local {
	t.Helper()
	params := p.params(name)
	a, err := Open(t.Context(), name, params.Dir, params.KeyDir, p.l, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if err := a.Unlock(t.Context(), passphrase(canary)); err != nil {
		t.Fatal(err)
	}
	return a
}

func newCSR(t testing.TB) *pki.CSR {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// What the request asks for beside its key must not matter.
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"evil.example.com"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func (p *place) request(t testing.TB) Request {
	t.Helper()
	return Request{Run: p.run, Host: "kvm1", CSR: newCSR(t), Profile: pki.Profile{
		Name: "libvirt-server", CommonName: "kvm1.example.com", Organization: "Example",
		DNSNames: []string{"kvm1.example.com"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")},
		Usages: []pki.Usage{pki.UsageServer}, Lifetime: 90 * 24 * time.Hour,
	}}
}
