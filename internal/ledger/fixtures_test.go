package ledger

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// fleet is a ledger with one authority and one open run.
type fleet struct {
	*Ledger
	path string
	key  *ecdsa.PrivateKey
	ca   *x509.Certificate
	run  string
}

var profile = pki.Profile{Name: "libvirt-server", CommonName: "kvm1.example.com", DNSNames: []string{"kvm1.example.com"},
	Usages: []pki.Usage{pki.UsageServer}, Lifetime: 90 * 24 * time.Hour}

func newCA(t testing.TB, number int) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewAuthority(time.Now(), pki.CAProfile{Organization: "Example", Name: "libvirt", Number: number}, key, serial(t))
	if err != nil {
		t.Fatal(err)
	}
	return key, ca
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{path: filepath.Join(t.TempDir(), ".virtrust", "ledger.db")}
	f.key, f.ca = newCA(t, 1)
	f.Ledger = open(t, f.path, Create)
	if err := f.AddGeneration(t.Context(), "", "libvirt", f.generation()); err != nil {
		t.Fatal(err)
	}
	f.run = startRun(t, f.Ledger)
	return f
}

func (f *fleet) generation() pki.Generation {
	return pki.Generation{Number: 1, Phase: pki.PhaseIssuing, Cert: f.ca.Raw}
}

func open(t testing.TB, path string, mode Mode, options ...Option) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), path, mode, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func startRun(t testing.TB, l *Ledger) string {
	t.Helper()
	run, err := l.StartRun(t.Context(), Run{Command: "apply", Operator: "ann@desk", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := pki.NewSerial(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newCSR(t testing.TB) *pki.CSR {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func (f *fleet) intent(csr *pki.CSR, serial string) Intent {
	return Intent{Run: f.run, Authority: "libvirt", Generation: 1, Serial: serial, Host: "kvm1", Certificate: "libvirt-server",
		Profile: profile, SPKISHA256: digest(csr.Request.RawSubjectPublicKeyInfo)}
}

// issue records one whole issuance and returns its leaf's digest.
func (f *fleet) issue(t testing.TB) (id int64, leaf string) {
	t.Helper()
	csr, n := newCSR(t), serial(t)
	id, err := f.BeginIssuance(t.Context(), f.intent(csr, pki.SerialText(n)))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := pki.SignLeaf(time.Now(), f.ca, f.key, csr, profile, n)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.FinishIssuance(t.Context(), id, signed.Cert.Raw); err != nil {
		t.Fatal(err)
	}
	return id, digest(signed.Cert.Raw)
}

func (f *fleet) state(t testing.TB, id int64) State {
	t.Helper()
	i, err := issuance(t.Context(), f.db, "id = ?", id)
	if err != nil {
		t.Fatal(err)
	}
	return i.State
}
