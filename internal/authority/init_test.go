package authority

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

func TestInitFiles(t *testing.T) {
	p := newPlace(t)
	a := p.init(t, "libvirt")
	params := p.params("libvirt")
	for path, want := range map[string]os.FileMode{
		filepath.Join(params.Dir, "g1.crt"):        0o644,
		filepath.Join(params.Dir, "g1.crl"):        0o644,
		filepath.Join(params.KeyDir, "g1.key.age"): 0o600,
		params.KeyDir: 0o700,
	} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
	for dir, want := range map[string]int{params.Dir: 2, params.KeyDir: 1} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != want {
			t.Errorf("%s holds %v, %v", dir, entries, err)
		}
	}
	g := a.Generations[0]
	cert, err := g.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "Example libvirt g1" || g.Phase != pki.PhaseIssuing || g.CRLNumber != 1 || len(g.Revoked) != 0 {
		t.Errorf("generation %+v of %s", g, cert.Subject)
	}
	if got := cert.NotAfter.Sub(cert.NotBefore); got != pki.DefaultCALifetime+pki.CABackdate {
		t.Errorf("lifetime %s", got)
	}
	known, err := p.l.Generations(t.Context(), "libvirt")
	if err != nil || len(known) != 1 || known[0].SubjectKeyID != g.SubjectKeyID {
		t.Errorf("the ledger knows %v, %v", known, err)
	}
	if n, err := p.l.BeginCRL(t.Context(), p.run, "libvirt", 1); err != nil || n != 2 {
		t.Errorf("the next revocation list has number %d, %v", n, err)
	}
	if bundle, err := Export(a, pki.ConsumerLibvirt); err != nil || !bytes.Equal(bundle, pki.RenderCerts(cert)) {
		t.Errorf("exported %s, %v", bundle, err)
	}
	if _, err := Export(pki.Authority{Name: "none"}, pki.ConsumerLibvirt); !errors.Is(err, ErrNotInitialised) {
		t.Errorf("exporting nothing: %v", err)
	}
}

// The key file is plain age with a passphrase, with the default work factor,
// and holds the key of the certificate.
func TestInitKeyIsAge(t *testing.T) {
	p := newPlace(t)
	params := p.params("libvirt")
	params.workFactor = 0
	a, err := Init(t.Context(), params, p.l)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(params.KeyDir, "g1.key.age"))
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.NewScryptIdentity(canary)
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(data)), identity)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(r); err != nil || !strings.HasPrefix(text.String(), "-----BEGIN PRIVATE KEY-----\n") {
		t.Errorf("decrypted to %.30q, %v", text.String(), err)
	}
	if openssl, err := exec.LookPath("openssl"); err == nil {
		cert, _ := a.Generations[0].Certificate()
		cmd := exec.Command(openssl, "pkey", "-pubout", "-outform", "DER")
		cmd.Stdin = &text
		if out, err := cmd.Output(); err != nil || !bytes.Equal(out, cert.RawSubjectPublicKeyInfo) {
			t.Errorf("openssl sees another public key: %v", err)
		}
	}
}

func TestInitRefuses(t *testing.T) {
	p := newPlace(t)
	p.init(t, "libvirt")
	for name, c := range map[string]struct {
		change func(*Params)
		is     error
		text   string
	}{
		"there already":        {func(*Params) {}, ErrExists, ""},
		"empty passphrase":     {func(q *Params) { q.Passphrase = Secret{} }, nil, "passphrase is empty"},
		"unfit name":           {func(q *Params) { q.Name = "../x" }, nil, "../x"},
		"key algorithm":        {func(q *Params) { q.Name, q.Dir, q.KeyDir, q.KeyAlgorithm = "a", p.dir("a"), "", "ed25519" }, nil, "ed25519"},
		"lifetime":             {func(q *Params) { q.Name, q.Dir, q.KeyDir, q.Lifetime = "a", p.dir("a"), "", time.Minute }, nil, "lifetime"},
		"directory is a file":  {func(q *Params) { q.Name, q.Dir, q.KeyDir = "a", filepath.Join(p.dir("libvirt"), "g1.crt"), "" }, nil, "g1.crt"},
		"another one's files":  {func(q *Params) { q.Name = "qemu" }, ErrExists, "does not know"},
		"moved away elsewhere": {func(q *Params) { q.Dir, q.KeyDir = p.dir("moved"), p.dir("moved") }, ErrExists, "bring back"},
	} {
		t.Run(name, func(t *testing.T) {
			params := p.params("libvirt")
			c.change(&params)
			_, err := Init(t.Context(), params, p.l)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := Init(t.Context(), p.params("other"), nil); !errors.Is(err, ledger.ErrMissing) {
		t.Errorf("without a ledger: %v", err)
	}
	if _, err := os.Stat(p.dir("other")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused init made a directory")
	}
	if _, err := os.Stat(p.dir("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a refused init made a directory")
	}
}

// A crash can leave the first one, two or three files and no ledger entry.
func TestInitHalfMade(t *testing.T) {
	done := newPlace(t)
	done.init(t, "libvirt")
	from := done.params("libvirt")
	for _, c := range []struct {
		name  string
		files []string
		is    error
		text  string
	}{
		{"key", []string{"g1.key.age"}, ErrHalfMade, "interrupted"},
		{"key and certificate", []string{"g1.key.age", "g1.crt"}, ErrHalfMade, "interrupted"},
		{"all but the ledger", []string{"g1.key.age", "g1.crt", "g1.crl"}, ErrExists, "interrupted"},
		{"certificate without key", []string{"g1.crt", "g1.crl"}, ErrHalfMade, "bring the key back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			params := p.params("libvirt")
			var paths []string
			for _, f := range c.files {
				source, target := filepath.Join(from.Dir, f), filepath.Join(params.Dir, f)
				if f == "g1.key.age" {
					source, target = filepath.Join(from.KeyDir, f), filepath.Join(params.KeyDir, f)
				}
				data, err := os.ReadFile(source)
				if err != nil {
					t.Fatal(err)
				}
				os.MkdirAll(filepath.Dir(target), 0o700)
				if err := os.WriteFile(target, data, 0o600); err != nil {
					t.Fatal(err)
				}
				paths = append(paths, target)
			}
			_, err := Init(t.Context(), params, p.l)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("error %v", err)
			}
			for _, path := range paths {
				if !strings.Contains(err.Error(), path) {
					t.Errorf("the error does not name %s: %v", path, err)
				}
				// What the message says is enough to go on.
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			p.init(t, "libvirt")
		})
	}
}

// An init that fails leaves nothing, so that it can simply be run again.
func TestInitFailureLeavesNothing(t *testing.T) {
	p := newPlace(t)
	params := p.params("libvirt")
	readOnly, err := ledger.Open(t.Context(), p.l.Path(), ledger.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	if _, err := Init(t.Context(), params, readOnly); !errors.Is(err, ledger.ErrReadOnly) {
		t.Fatalf("error %v", err)
	}
	for _, dir := range []string{params.Dir, params.KeyDir} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%s holds %v, %v", dir, entries, err)
		}
	}
	p.init(t, "libvirt")
}

func TestInitTwiceAtOnce(t *testing.T) {
	p := newPlace(t)
	errs := make(chan error)
	for range 4 {
		go func() {
			_, err := Init(t.Context(), p.params("libvirt"), p.l)
			errs <- err
		}()
	}
	made := 0
	for range 4 {
		if err := <-errs; err == nil {
			made++
		} else if !errors.Is(err, ErrExists) && !errors.Is(err, ErrHalfMade) && !errors.Is(err, fs.ErrExist) {
			t.Errorf("error %v", err)
		}
	}
	if made != 1 {
		t.Errorf("%d were made", made)
	}
	p.unlocked(t, "libvirt")
}

func TestReadRefuses(t *testing.T) {
	p := newPlace(t)
	p.init(t, "libvirt")
	p.init(t, "qemu")
	file := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(p.root, "authorities", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	crt, crl := file("libvirt/g1.crt"), file("libvirt/g1.crl")
	for _, c := range []struct {
		name  string
		files map[string][]byte
		link  string
		text  string
	}{
		{"renamed", map[string][]byte{"g2.crt": crt}, "", "misplaced or renamed"},
		{"another authority's", map[string][]byte{"g1.crt": file("qemu/g1.crt")}, "", "misplaced or renamed"},
		{"two certificates", map[string][]byte{"g1.crt": append(bytes.Clone(crt), file("qemu/g1.crt")...)}, "", "not signed by the next"},
		{"empty", map[string][]byte{"g1.crt": nil}, "", "certificate"},
		{"garbage", map[string][]byte{"g1.crt": []byte("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")}, "", "g1.crt"},
		{"too large", map[string][]byte{"g1.crt": bytes.Repeat([]byte("x"), maxCertFile+1)}, "", "larger"},
		{"list without certificate", map[string][]byte{"g1.crl": crl}, "", "no certificate"},
		{"another's list", map[string][]byte{"g1.crt": crt, "g1.crl": file("qemu/g1.crl")}, "", "another issuer"},
		{"two lists", map[string][]byte{"g1.crt": crt, "g1.crl": append(bytes.Clone(crl), crl...)}, "", "expected one"},
		{"link", nil, filepath.Join(p.dir("libvirt"), "g1.crt"), "symbolic link"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if c.link != "" {
				if err := os.Symlink(c.link, filepath.Join(dir, "g1.crt")); err != nil {
					t.Fatal(err)
				}
			}
			if a, err := Read("libvirt", dir); err == nil || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), dir) || len(a.Generations) != 0 {
				t.Errorf("error %v, %v", err, a)
			}
		})
	}
	bare := t.TempDir()
	os.WriteFile(filepath.Join(bare, "README"), []byte("x"), 0o644)
	os.WriteFile(filepath.Join(bare, "g1.key.age"), []byte("x"), 0o644)
	for _, dir := range []string{bare, filepath.Join(bare, "none")} {
		if a, err := Read("libvirt", dir); err != nil || len(a.Generations) != 0 || a.Name != "libvirt" {
			t.Errorf("%s: %v, %v", dir, a, err)
		}
	}
	os.WriteFile(filepath.Join(bare, "g1.crt"), crt, 0o644)
	if a, err := Read("libvirt", bare); err != nil || len(a.Generations) != 1 || a.Generations[0].CRLNumber != 0 {
		t.Errorf("without a list: %v, %v", a, err)
	}
}
