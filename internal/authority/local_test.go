package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

func TestSign(t *testing.T) {
	p := newPlace(t)
	public := p.init(t, "libvirt")
	a := p.unlocked(t, "libvirt")
	r := p.request(t)
	chain, err := a.Sign(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 1 {
		t.Fatalf("a chain of %d certificates", len(chain))
	}
	leaf := chain[0]
	if d := pki.Compare(leaf, r.Profile, public.KeyIDs()); len(d) != 0 {
		t.Errorf("differences %v", d)
	}
	bundle, err := Export(public, pki.ConsumerLibvirt)
	if err != nil {
		t.Fatal(err)
	}
	for _, consumer := range []pki.Consumer{pki.ConsumerLibvirt, pki.ConsumerQEMU} {
		verdict := pki.Judge(pki.Question{
			Rules: pki.Rules{Consumer: consumer, RequireKeyEncipherment: true, CheckAllCAs: true, ChainToSelfSigned: true},
			Role:  pki.UsageServer, Now: time.Now(), Cert: pki.RenderCerts(leaf), CA: bundle, Key: r.CSR.Key(),
		})
		if !verdict.OK {
			t.Errorf("%s refuses it: %v", consumer, verdict.Problems)
		}
	}
	all, err := p.l.Issuances(t.Context(), ledger.Filter{})
	if err != nil || len(all) != 1 || all[0].State != ledger.StateSigned || all[0].Serial != pki.SerialText(leaf.SerialNumber) || all[0].Host != "kvm1" {
		t.Errorf("issuances %+v, %v", all, err)
	}
	tools(t, public, leaf)
}

// tools asks OpenSSL and GnuTLS where they are installed.
func tools(t *testing.T, public pki.Authority, leaf *x509.Certificate) {
	dir := t.TempDir()
	ca, err := public.Generations[0].Certificate()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"ca.pem": pki.RenderCerts(ca), "leaf.pem": pki.RenderCerts(leaf), "crl.pem": pki.RenderCRLs(public.Generations[0].CRL)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, argv := range [][]string{
		{"openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "kvm1.example.com", "-CAfile", "ca.pem", "-CRLfile", "crl.pem", "-crl_check", "leaf.pem"},
		{"openssl", "verify", "-verify_ip", "2001:db8::1", "-CAfile", "ca.pem", "leaf.pem"},
		{"certtool", "--verify", "--load-ca-certificate", "ca.pem", "--load-crl", "crl.pem", "--verify-hostname", "kvm1.example.com", "--verify-purpose", "1.3.6.1.5.5.7.3.1", "--infile", "leaf.pem"},
	} {
		if _, err := exec.LookPath(argv[0]); err != nil {
			t.Logf("%s is not installed", argv[0])
			continue
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	p := newPlace(t)
	p.init(t, "libvirt")
	a := p.unlocked(t, "libvirt")
	ctx := t.Context()
	for name, change := range map[string]func(*Request){
		"no host":       func(r *Request) { r.Host = "" },
		"no CSR":        func(r *Request) { r.CSR = nil },
		"no run":        func(r *Request) { r.Run = "" },
		"bad profile":   func(r *Request) { r.Profile.DNSNames = []string{"*.example.com"} },
		"no usage":      func(r *Request) { r.Profile.Usages = nil },
		"key algorithm": func(r *Request) { r.Profile.KeyAlgorithm = pki.RSA3072 },
	} {
		r := p.request(t)
		change(&r)
		if chain, err := a.Sign(ctx, r); err == nil || chain != nil || !strings.Contains(err.Error(), "libvirt") {
			t.Errorf("%s: %v, %v", name, chain, err)
		}
	}
	// The one that failed after its intent leaves an orphan, no certificate.
	all, err := p.l.Issuances(ctx, ledger.Filter{})
	if err != nil || len(all) != 1 || all[0].State != ledger.StateOrphan || all[0].Cert != nil {
		t.Errorf("issuances %+v, %v", all, err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := a.Sign(cancelled, p.request(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	a.now = func() time.Time { return time.Now().Add(11 * 365 * 24 * time.Hour) }
	if _, err := a.Sign(ctx, p.request(t)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired CA: %v", err)
	}
	a.now = func() time.Time { return a.cert.NotAfter.Add(-24 * time.Hour) }
	if chain, err := a.Sign(ctx, p.request(t)); err != nil || !chain[0].NotAfter.Equal(a.cert.NotAfter) {
		t.Errorf("a CA about to expire: %v", err)
	}
	a.Close()
	if _, err := a.Sign(ctx, p.request(t)); !errors.Is(err, ErrLocked) {
		t.Errorf("closed: %v", err)
	}
}

func TestSignConcurrently(t *testing.T) {
	p := newPlace(t)
	p.init(t, "libvirt")
	a := p.unlocked(t, "libvirt")
	var group sync.WaitGroup
	var mu sync.Mutex
	serials := map[string]bool{}
	for range 8 {
		group.Go(func() {
			for range 5 {
				chain, err := a.Sign(t.Context(), p.request(t))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				serials[chain[0].SerialNumber.String()] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
	all, err := p.l.Issuances(t.Context(), ledger.Filter{State: ledger.StateSigned})
	if err != nil || len(all) != 40 || len(serials) != 40 {
		t.Errorf("%d recorded, %d serials, %v", len(all), len(serials), err)
	}
	if err := p.l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestUnlock(t *testing.T) {
	p := newPlace(t)
	p.init(t, "libvirt")
	p.init(t, "qemu")
	ctx, params := t.Context(), p.params("libvirt")
	openIt := func() *Local {
		t.Helper()
		a, err := Open(ctx, "libvirt", params.Dir, params.KeyDir, p.l, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := openIt()
	path := filepath.Join(params.KeyDir, "g1.key.age")
	if _, err := a.Sign(ctx, p.request(t)); !errors.Is(err, ErrLocked) {
		t.Errorf("before: %v", err)
	}
	if err := a.Unlock(ctx, passphrase("wrong "+canary)); !errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("wrong passphrase: %v", err)
	}
	if err := a.Unlock(ctx, passphrase("")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("empty passphrase: %v", err)
	}
	refused := errors.New("nobody there")
	if err := a.Unlock(ctx, func(context.Context) (Secret, error) { return Secret{}, refused }); !errors.Is(err, refused) {
		t.Errorf("no passphrase: %v", err)
	}
	given := NewSecret([]byte(canary))
	if err := a.Unlock(ctx, func(context.Context) (Secret, error) { return given, nil }); err != nil {
		t.Fatal(err)
	}
	if !given.Empty() {
		t.Error("the passphrase is not wiped")
	}
	if err := a.Unlock(ctx, func(context.Context) (Secret, error) { t.Error("asked twice"); return Secret{}, nil }); err != nil {
		t.Error(err)
	}
	a.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(p.params("qemu").KeyDir, "g1.key.age"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(strings.Replace(string(good), "\n-----END", "AAAA\n-----END", 1))
	for name, c := range map[string]struct {
		data []byte
		text string
	}{
		"another authority's key": {other, "not the key of the certificate g1.crt"},
		"damaged":                 {flipped, "it is damaged"},
		"not age":                 {[]byte("hello"), "age can open"},
		"empty":                   {nil, "age can open"},
		"cut":                     {good[:len(good)/2], ""},
	} {
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := openIt().Unlock(ctx, passphrase(canary)); err == nil || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	os.Remove(path)
	asked := false
	if err := openIt().Unlock(ctx, func(context.Context) (Secret, error) { asked = true; return given, nil }); !errors.Is(err, os.ErrNotExist) || asked {
		t.Errorf("missing key: %v, asked %v", err, asked)
	}
}

func TestOpenNeedsItsLedger(t *testing.T) {
	p, other := newPlace(t), newPlace(t)
	p.init(t, "libvirt")
	params := p.params("libvirt")
	if _, err := Open(t.Context(), "libvirt", params.Dir, params.KeyDir, nil, nil); !errors.Is(err, ledger.ErrMissing) {
		t.Errorf("no ledger: %v", err)
	}
	if _, err := Open(t.Context(), "libvirt", params.Dir, params.KeyDir, other.l, nil); !errors.Is(err, ledger.ErrForeign) || !strings.Contains(err.Error(), "rebuild") {
		t.Errorf("a ledger that does not know it: %v", err)
	}
	other.init(t, "libvirt")
	if _, err := Open(t.Context(), "libvirt", params.Dir, params.KeyDir, other.l, nil); !errors.Is(err, ledger.ErrForeign) || !strings.Contains(err.Error(), "another fleet") {
		t.Errorf("another fleet's ledger: %v", err)
	}
	if _, err := Open(t.Context(), "qemu", p.dir("qemu"), "", p.l, nil); !errors.Is(err, ErrNotInitialised) {
		t.Errorf("not initialised: %v", err)
	}
	// A ledger rebuilt from the public files serves.
	third := newPlace(t)
	public, err := Read("libvirt", params.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := third.l.AddGeneration(t.Context(), third.run, "libvirt", public.Generations[0]); err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), "libvirt", params.Dir, params.KeyDir, third.l, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Unlock(t.Context(), passphrase(canary)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Sign(t.Context(), third.request(t)); err != nil {
		t.Error(err)
	}
}
