package authority

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// A Local is a CA whose key is a file of this machine. It is safe for use by
// several goroutines.
type Local struct {
	name       string
	dir        string // of the public files
	keyPath    string
	generation pki.Generation // the issuing one
	cert       *x509.Certificate
	ledger     *ledger.Ledger
	now        func() time.Time

	mu  sync.RWMutex
	key crypto.Signer // nil while locked
}

// Open opens a local authority, with its public files in dir and its encrypted
// key in keyDir, which may be empty for dir. The key stays closed until Unlock.
// now is the clock, nil the system's. A nil ledger is ledger.ErrMissing, one of
// another fleet ledger.ErrForeign, no files ErrNotInitialised.
func Open(ctx context.Context, name, dir, keyDir string, l *ledger.Ledger, now func() time.Time) (*Local, error) {
	return open(ctx, name, 0, dir, keyDir, l, now)
}

// open opens a generation; number 0 is the issuing one.
func open(ctx context.Context, name string, number int, dir, keyDir string, l *ledger.Ledger, now func() time.Time) (*Local, error) {
	fail := func(err error) (*Local, error) { return nil, fmt.Errorf("authority %s: %w", name, err) }
	public, err := Read(name, dir)
	if err != nil {
		return nil, err
	}
	if len(public.Generations) == 0 {
		return fail(fmt.Errorf("%s: %w", dir, ErrNotInitialised))
	}
	if l == nil {
		return fail(ledger.ErrMissing)
	}
	trust, err := l.Trust(ctx, []pki.Authority{public})
	if err != nil {
		return fail(err)
	}
	g, ok := trust.Authorities[0].Issuing()
	if !ok && number == 0 {
		return fail(errors.New("no generation of it is issuing"))
	}
	if number > 0 {
		i := slices.IndexFunc(trust.Authorities[0].Generations, func(g pki.Generation) bool { return g.Number == number })
		if i < 0 {
			return fail(fmt.Errorf("it has no generation %d", number))
		}
		g = trust.Authorities[0].Generations[i]
	}
	cert, err := g.Certificate()
	if err != nil {
		return fail(err)
	}
	if keyDir == "" {
		keyDir = dir
	}
	if now == nil {
		now = time.Now
	}
	return &Local{name: name, dir: dir, keyPath: filepath.Join(keyDir, keyName(g.Number)), generation: g, cert: cert, ledger: l, now: now}, nil
}

// Name is the authority's name in the configuration.
func (a *Local) Name() string { return a.name }

// String names the authority; it shows nothing of its key.
func (a *Local) String() string { return "authority " + a.name }

// LogValue is the authority's name.
func (a *Local) LogValue() slog.Value { return slog.StringValue(a.name) }

// Unlock opens the key, once: while it is open, further calls do nothing and do
// not ask for the passphrase, which Unlock wipes. Opening takes about a second
// and 256 MiB of memory. The key is held in memory alone, until Close. A wrong
// passphrase is ErrPassphrase.
func (a *Local) Unlock(ctx context.Context, passphrase func(context.Context) (Secret, error)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.key != nil {
		return nil
	}
	fail := func(err error) error { return fmt.Errorf("authority %s: key %s: %w", a.name, a.keyPath, err) }
	// Read first, so that nobody is asked for the passphrase of a missing file.
	sealed, err := readRegular(a.keyPath, maxKeyFile)
	if err != nil {
		return fail(err)
	}
	secret, err := passphrase(ctx)
	if err != nil {
		return fmt.Errorf("authority %s: passphrase: %w", a.name, err)
	}
	defer secret.Wipe()
	if secret.Empty() {
		return fail(fmt.Errorf("%w: it is empty", ErrPassphrase))
	}
	key, err := openKey(ctx, sealed, secret)
	if err != nil {
		return fail(err)
	}
	if mine, ok := a.cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !mine.Equal(key.Public()) {
		wipeKey(key)
		return fail(fmt.Errorf("it is not the key of the certificate %s", certName(a.generation.Number)))
	}
	a.key = key
	return nil
}

// Close overwrites the key in memory and locks the authority again. It waits
// for signatures under way.
func (a *Local) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	wipeKey(a.key)
	a.key = nil
	return nil
}

// Sign signs a leaf. The intent is in the ledger before the key is used, and the
// certificate is in the ledger before it is returned; one that is not what the
// profile asks for is not returned. Where the CA ends before the profile's
// lifetime, the leaf ends with the CA.
func (a *Local) Sign(ctx context.Context, r Request) ([]*x509.Certificate, error) {
	fail := func(err error) ([]*x509.Certificate, error) {
		return nil, fmt.Errorf("authority %s: signing %s for %s: %w", a.name, r.Profile.Name, r.Host, err)
	}
	if r.CSR == nil || r.CSR.Request == nil || r.Host == "" {
		return fail(errors.New("the request lacks a host or a certificate request"))
	}
	if err := r.Profile.Validate(); err != nil {
		return fail(err)
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.key == nil {
		return fail(ErrLocked)
	}
	digest := sha256.Sum256(r.CSR.Request.RawSubjectPublicKeyInfo)
	intent := ledger.Intent{Run: r.Run, Authority: a.name, Generation: a.generation.Number, Host: r.Host,
		Certificate: r.Profile.Name, Profile: r.Profile, SPKISHA256: hex.EncodeToString(digest[:])}
	serial, err := pki.NewSerial(rand.Reader)
	if err != nil {
		return fail(err)
	}
	intent.Serial = pki.SerialText(serial)
	id, err := a.ledger.BeginIssuance(ctx, intent)
	if err != nil {
		return fail(err)
	}
	// From here the ledger must learn the outcome, even of a cancelled run.
	done := context.WithoutCancel(ctx)
	leaf, err := pki.SignLeaf(a.now(), a.cert, a.key, r.CSR, r.Profile, serial)
	if err == nil {
		err = a.judge(leaf.Cert, r)
	}
	if err != nil {
		return fail(errors.Join(err, a.ledger.AbandonIssuance(done, id, err.Error())))
	}
	if err := a.ledger.FinishIssuance(done, id, leaf.Cert.Raw); err != nil {
		return fail(err)
	}
	return []*x509.Certificate{leaf.Cert}, nil
}

// judge compares a leaf just made with what was asked for, by the same rules
// that judge a live certificate: what it would replace at the next look must
// not leave this machine.
func (a *Local) judge(leaf *x509.Certificate, r Request) error {
	var wrong []string
	for _, d := range pki.Compare(leaf, r.Profile, []string{a.generation.SubjectKeyID}) {
		wrong = append(wrong, fmt.Sprintf("%s is %s instead of %s", d.Field, d.Have, d.Want))
	}
	if !bytes.Equal(leaf.RawSubjectPublicKeyInfo, r.CSR.Request.RawSubjectPublicKeyInfo) {
		wrong = append(wrong, "its key is not that of the request")
	}
	if err := leaf.CheckSignatureFrom(a.cert); err != nil {
		wrong = append(wrong, err.Error())
	}
	if leaf.NotAfter.After(a.cert.NotAfter) || leaf.IsCA {
		wrong = append(wrong, "it is a CA or outlives its issuer")
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the certificate made is not the one asked for: %s; this is a bug of virtrust", strings.Join(wrong, "; "))
	}
	return nil
}
