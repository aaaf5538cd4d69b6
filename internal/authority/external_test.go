package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/authority/authoritytest"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// imported is a place with the company's chain imported as authority corp.
func imported(t testing.TB, c *authoritytest.Company) *place {
	t.Helper()
	p := newPlace(t)
	a, err := Import(t.Context(), ImportParams{Name: "corp", Dir: p.dir("corp"), Chain: c.Read(t, "chain.pem"), Run: p.run}, p.l)
	if err != nil {
		t.Fatal(err)
	}
	if g := a.Generations[0]; g.Number != 1 || g.Phase != pki.PhaseIssuing || len(g.Parents) != 1 {
		t.Fatalf("imported as %+v", g)
	}
	return p
}

// foreign is a request as a host makes it for somebody else's CA.
func (p *place) foreign(t testing.TB, mend func(*x509.CertificateRequest)) Request {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	req := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "kvm1"}, DNSNames: []string{"kvm1", "kvm1.example.org"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.1").To4(), net.ParseIP("2001:db8::1")}}
	if mend != nil {
		mend(req)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, req, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Run: p.run, Host: "kvm1", CSR: csr, Profile: pki.Profile{
		Name: "libvirt-server", CommonName: "kvm1", DNSNames: []string{"kvm1", "kvm1.example.org"},
		IPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, Usages: []pki.Usage{pki.UsageServer}, Lifetime: 90 * 24 * time.Hour, Foreign: true,
	}}
}

func (p *place) command(t testing.TB, argv ...string) *External {
	t.Helper()
	a, err := OpenCommand(t.Context(), "corp", p.dir("corp"), p.run, Command{Argv: argv, Dir: p.root, Allowed: true}, p.l)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCommandSigns(t *testing.T) {
	c := authoritytest.NewCompany(t)
	p := imported(t, c)
	r := p.foreign(t, nil)
	chain, err := p.command(t, filepath.Join(c.Dir, "sign.sh")).Sign(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 1 || chain[0].Issuer.CommonName != "Company Issuing 1" {
		t.Errorf("a chain of %d, issued by %q", len(chain), chain[0].Issuer.CommonName)
	}
	if d := pki.Compare(chain[0], r.Profile, []string{p.issuer(t)}); len(d) > 0 {
		t.Errorf("the next look would replace it: %+v", d)
	}
	all, err := p.l.Issuances(t.Context(), ledger.Filter{Authority: "corp"})
	if err != nil || len(all) != 1 || all[0].State != ledger.StateSigned || !bytes.Equal(all[0].Cert, chain[0].Raw) {
		t.Errorf("the ledger has %+v, %v", all, err)
	}
}

func (p *place) issuer(t testing.TB) string {
	t.Helper()
	a, err := Read("corp", p.dir("corp"))
	if err != nil {
		t.Fatal(err)
	}
	return a.Generations[0].SubjectKeyID
}

// What comes back is not believed.
func TestCommandRefused(t *testing.T) {
	c := authoritytest.NewCompany(t)
	p := imported(t, c)
	sign := filepath.Join(c.Dir, "sign.sh")
	c.Run(t, `
openssl ecparam -name prime256v1 -genkey -noout -out other.key
openssl req -new -key other.key -subj /CN=kvm1 -addext "subjectAltName=DNS:kvm1,DNS:kvm1.example.org,IP:192.0.2.1,IP:2001:db8::1" -out other.csr
openssl req -x509 -key other.key -subj "/CN=Another CA" -days 10 -out another.crt
sed 's/sub\.crt/another.crt/g; s/sub\.key/other.key/g' sign.sh >another.sh
sed 's/^{$/VIRTRUST_USAGES=client; eku=,clientAuth; {/' sign.sh >client.sh
sed 's/^cat >.*/cat >\/dev\/null; cp other.csr "$t\/csr"/' sign.sh >otherkey.sh
sed 's/^\topenssl req .*/\techo subjectAltName=DNS:everything.example.org/' sign.sh >names.sh
chmod +x *.sh
`)
	at := func(name string) string { return filepath.Join(c.Dir, name) }
	for name, tc := range map[string]struct {
		argv []string
		want string
	}{
		"another authority": {[]string{at("another.sh")}, `signed by "Another CA" and not by "Company Issuing 1"`},
		"another key":       {[]string{at("otherkey.sh")}, "its key is not that of the request"},
		"other names":       {[]string{at("names.sh")}, "names is everything.example.org"},
		"another usage":     {[]string{at("client.sh")}, "usages is client, wanted server"},
		"nothing":           {[]string{"true"}, "there is no certificate in the answer"},
		"a text":            {[]string{"echo", "signed, have a nice day"}, "no certificate"},
		"a private key":     {[]string{"cat", at("sub.key")}, "private key"},
		"it fails":          {[]string{"sh", "-c", "echo quota exceeded >&2; exit 3"}, `exit status 3: "quota exceeded"`},
		"it is not there":   {[]string{at("missing")}, "no such file"},
		"it prints on":      {[]string{"sh", "-c", "head -c 2000000 /dev/zero"}, "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.command(t, tc.argv...).Sign(t.Context(), p.foreign(t, nil))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if errors.Is(err, ErrPending) {
				t.Error("a refusal is no waiting")
			}
		})
	}
	t.Run("it waits", func(t *testing.T) {
		_, err := p.command(t, "sh", "-c", "exit 75").Sign(t.Context(), p.foreign(t, nil))
		if !errors.Is(err, ErrPending) {
			t.Errorf("%v, want ErrPending", err)
		}
	})
	// A host that asks for more than policy gives does not reach the signer.
	for name, mend := range map[string]func(*x509.CertificateRequest){
		"a name more":  func(r *x509.CertificateRequest) { r.DNSNames = append(r.DNSNames, "bank.example.org") },
		"another CN":   func(r *x509.CertificateRequest) { r.Subject.CommonName = "kvm2" },
		"an address":   func(r *x509.CertificateRequest) { r.IPAddresses = append(r.IPAddresses, net.IPv4(192, 0, 2, 9)) },
		"a mail":       func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"root@example.org"} },
		"a name fewer": func(r *x509.CertificateRequest) { r.DNSNames = r.DNSNames[:1] },
	} {
		t.Run("the host asks for "+name, func(t *testing.T) {
			_, err := p.command(t, sign).Sign(t.Context(), p.foreign(t, mend))
			if err == nil || !strings.Contains(err.Error(), "was not handed on") {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("not allowed", func(t *testing.T) {
		_, err := OpenCommand(t.Context(), "corp", p.dir("corp"), p.run, Command{Argv: []string{sign}}, p.l)
		if !errors.Is(err, ErrExec) {
			t.Errorf("%v, want ErrExec", err)
		}
	})
}

func TestFolder(t *testing.T) {
	c := authoritytest.NewCompany(t)
	p := imported(t, c)
	f := Folder{Dir: filepath.Join(p.root, "requests", "corp")}
	a, err := OpenFolder(t.Context(), "corp", p.dir("corp"), p.run, f, p.l)
	if err != nil {
		t.Fatal(err)
	}
	r := p.foreign(t, nil)
	for range 2 { // asking again changes nothing
		if _, err := a.Sign(t.Context(), r); !errors.Is(err, ErrPending) || !strings.Contains(err.Error(), f.Stem(r)+".csr") {
			t.Fatalf("%v, want ErrPending and the file's name", err)
		}
	}
	waiting, err := f.Waiting()
	if err != nil || len(waiting) != 1 {
		t.Fatalf("waiting: %q, %v", waiting, err)
	}
	// The separate computer sees the file alone.
	request, err := os.ReadFile(waiting[0])
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := pem.Decode(request); b == nil || !bytes.Equal(b.Bytes, r.CSR.Request.Raw) {
		t.Fatal("the file is not the request")
	}
	c.Run(t, "VIRTRUST_USAGES=server VIRTRUST_DAYS=90 ./sign.sh <'"+waiting[0]+"' >'"+strings.TrimSuffix(waiting[0], "csr")+"crt'")
	for range 2 { // an apply that failed after the signature asks again
		chain, err := a.Sign(t.Context(), r)
		if err != nil || chain[0].Subject.CommonName != "kvm1" {
			t.Fatalf("%v", err)
		}
	}
	if waiting, _ = f.Waiting(); len(waiting) > 0 {
		t.Errorf("still waiting: %q", waiting)
	}
	if all, _ := p.l.Issuances(t.Context(), ledger.Filter{Authority: "corp"}); len(all) != 1 {
		t.Errorf("one certificate, %d issuances", len(all))
	}
	// Another key is another request.
	if _, err := a.Sign(t.Context(), p.foreign(t, nil)); !errors.Is(err, ErrPending) {
		t.Errorf("%v, want ErrPending", err)
	}
}

func TestImportRefuses(t *testing.T) {
	c := authoritytest.NewCompany(t)
	c.Run(t, `
openssl req -x509 -key root.key -subj "/CN=Old" -not_before 20200101000000Z -not_after 20210101000000Z -out old.crt 2>/dev/null ||
	openssl req -new -key root.key -subj "/CN=Old" | openssl x509 -req -signkey root.key -days -1 -extfile sub.ext -out old.crt
VIRTRUST_USAGES=server VIRTRUST_DAYS=90 ./sign.sh <sub.csr >leaf.pem
cat sub.key sub.crt root.crt >withkey.pem
`)
	for name, tc := range map[string]struct{ file, want string }{
		"without its root": {"sub.crt", `the issuer of "Company Issuing 1", "Company Root", is not in the file`},
		"a leaf":           {"leaf.pem", "is no CA"},
		"with a key":       {"withkey.pem", "private key"},
		"not a chain":      {"sign.sh", "no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			_, err := Import(t.Context(), ImportParams{Name: "corp", Dir: p.dir("corp"), Chain: c.Read(t, tc.file), Run: p.run}, p.l)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if _, err := os.Stat(filepath.Join(p.dir("corp"), "g1.crt")); err == nil {
				t.Error("a file was left")
			}
		})
	}
	p := imported(t, c)
	_, err := Import(t.Context(), ImportParams{Name: "corp", Dir: p.dir("corp"), Chain: c.Read(t, "chain.pem"), Run: p.run}, p.l)
	if !errors.Is(err, ErrExists) {
		t.Errorf("a second import: %v, want ErrExists", err)
	}
	a, err := Import(t.Context(), ImportParams{Name: "corp", Dir: p.dir("corp"), Chain: c.Read(t, "root.crt"), Run: p.run}, p.l)
	if err != nil || len(a.Generations) != 2 || a.Generations[0].Phase != pki.PhaseIssuing || a.Generations[1].Phase != pki.PhasePrepared {
		t.Errorf("another certificate is the next generation: %+v, %v", a.Generations, err)
	}
	expired := ImportParams{Name: "late", Dir: p.dir("late"), Chain: c.Read(t, "chain.pem"), Run: p.run, Now: time.Now().AddDate(20, 0, 0)}
	if _, err := Import(t.Context(), expired, p.l); err == nil || !strings.Contains(err.Error(), "keeps libvirtd from starting") {
		t.Errorf("an expired chain: %v", err)
	}
}
