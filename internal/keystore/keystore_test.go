package keystore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

const password = "not so secret"

func authority(t *testing.T, name string, number int) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.NewAuthority(time.Now(), pki.CAProfile{Name: name, Number: number, Organization: "Example"}, key, big.NewInt(int64(number)))
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

// run runs a tool on a file of those bytes, with the password in another one.
func run(t *testing.T, data []byte, argv ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range map[string][]byte{"store": data, "password": []byte(password)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// keytool reads a store where there is a Java; the libraries' own readers are
// asked everywhere.
func keytool(t *testing.T, data []byte, f Format, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("keytool"); err != nil {
		return ""
	}
	out, err := run(t, data, append([]string{"keytool", "-list", "-keystore", "store", "-storetype", map[Format]string{PKCS12: "PKCS12", JKS: "JKS"}[f]}, args...)...)
	if err != nil {
		t.Errorf("keytool: %v\n%s", err, out)
	}
	return out
}

func TestTrustStore(t *testing.T) {
	a, _ := authority(t, "libvirt", 1)
	b, _ := authority(t, "libvirt", 2)
	twin, _ := authority(t, "libvirt", 2)
	cas := []*x509.Certificate{a, b, twin}
	for _, f := range []Format{PKCS12, JKS} {
		for _, p := range []string{"", password} {
			data, err := TrustStore(f, cas, []byte(p))
			if err != nil {
				t.Fatal(err)
			}
			back, err := ReadTrustStore(f, data, []byte(p))
			if err != nil || len(back) != 3 || !back[0].Equal(a) || !back[1].Equal(b) || !back[2].Equal(twin) {
				t.Errorf("%s with password %q: %d read back, %v", f, p, len(back), err)
			}
			if _, err := ReadTrustStore(f, data, []byte("another one")); p != "" && !errors.Is(err, ErrPassword) {
				t.Errorf("%s with another password: %v", f, err)
			}
			if again, _ := TrustStore(f, cas, []byte(p)); p == "" && !bytes.Equal(data, again) {
				t.Errorf("%s without a password is not the same twice", f)
			}
			args := []string{"-storepass:file", "password"}
			if p == "" {
				args = []string{"-storepass", PublicPassword}
			}
			if out := keytool(t, data, f, args...); out != "" && (strings.Count(out, "trustedCertEntry") != 3 || !strings.Contains(out, "example-libvirt-g2-2")) {
				t.Errorf("keytool reads of %s:\n%s", f, out)
			}
		}
	}
	data, err := TrustStore(PKCS12, cas, []byte(password))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, data, "openssl", "pkcs12", "-in", "store", "-nokeys", "-passin", "file:password"); err != nil || strings.Count(out, "BEGIN CERTIFICATE") != 3 {
		t.Errorf("openssl: %v\n%s", err, out)
	}
	if _, err := TrustStore(JKS, cas, []byte("short")); err == nil {
		t.Error("a password that keytool refuses is taken")
	}
	for _, f := range []Format{PKCS12, JKS} {
		if _, err := ReadTrustStore(f, []byte("garbage"), nil); err == nil {
			t.Errorf("%s reads garbage", f)
		}
	}
}

func TestKeyStore(t *testing.T) {
	ca, caKey := authority(t, "libvirt", 1)
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
	leaf, err := pki.SignLeaf(time.Now(), ca, caKey, csr, pki.Profile{Name: "client", CommonName: "ann.example.com", Usages: []pki.Usage{pki.UsageClient}, Lifetime: time.Hour, KeyAlgorithm: pki.ECDSAP256}, big.NewInt(7))
	if err != nil {
		t.Fatal(err)
	}
	chain := []*x509.Certificate{leaf.Cert, ca}
	for _, f := range []Format{PKCS12, JKS} {
		data, err := KeyStore(f, key, chain, []byte(password))
		if err != nil {
			t.Fatal(err)
		}
		if out := keytool(t, data, f, "-v", "-storepass:file", "password"); out != "" && (!strings.Contains(out, "PrivateKeyEntry") || !strings.Contains(out, "Certificate chain length: 2") || !strings.Contains(out, "CN=ann.example.com")) {
			t.Errorf("keytool reads of %s:\n%s", f, out)
		}
		if _, err := KeyStore(f, key, chain, nil); err == nil {
			t.Errorf("%s takes no password", f)
		}
		if f == JKS {
			s, err := loaded(data, []byte(password))
			if err != nil {
				t.Fatal(err)
			}
			e, err := s.GetPrivateKeyEntry(s.Aliases()[0], []byte(password))
			if err != nil || len(e.CertificateChain) != 2 {
				t.Errorf("read back: %v", err)
			}
			if back, err := x509.ParsePKCS8PrivateKey(e.PrivateKey); err != nil || !key.Equal(back) {
				t.Errorf("another key came back: %v", err)
			}
			continue
		}
		out, err := run(t, data, "openssl", "pkcs12", "-in", "store", "-nodes", "-passin", "file:password")
		if err != nil || strings.Count(out, "BEGIN CERTIFICATE") != 2 || !strings.Contains(out, "BEGIN PRIVATE KEY") {
			t.Errorf("openssl: %v\n%s", err, out)
		}
	}
}

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]Format{"a.p12": PKCS12, "/x/B.PFX": PKCS12, "c.jks": JKS, "d.pem": "", "p12": ""} {
		if f, ok := FormatOf(name); f != want || ok != (want != "") {
			t.Errorf("%s is %q", name, f)
		}
	}
}
