package authority

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// Step is a step-ca with a JWK provisioner. Its template decides key usages and
// extended key usages: libvirt before 11.6 demands keyEncipherment, which the
// default template gives to RSA keys only, and gives both roles to every leaf. The
// roles that policy asks for are .Insecure.User.extKeyUsage in a template.
type Step struct {
	Address     string // https://…
	Roots       string // file of the server's root, PEM; empty means the system's
	Provisioner string // name of the JWK provisioner
	Password    Secret // of the provisioner's key; stays the caller's to wipe
	Now         func() time.Time
}

// OpenStep opens an authority in step-ca. Nothing is asked of the server before
// the first Sign.
func OpenStep(ctx context.Context, name, dir, run string, s Step, l *ledger.Ledger) (*External, error) {
	fail := func(err error) (*External, error) { return nil, fmt.Errorf("authority %s: %w", name, err) }
	if err := checkURL(s.Address); err != nil {
		return fail(err)
	}
	if s.Password.Empty() {
		return fail(errors.New("the provisioner's password is empty"))
	}
	client, err := webClient(s.Roots)
	if err != nil {
		return fail(err)
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	return openExternal(ctx, name, dir, run, &stepDriver{Step: s, client: client}, l)
}

type stepDriver struct {
	Step
	client *http.Client

	mu  sync.Mutex
	key *jose.JSONWebKey // of the provisioner, once it is open
}

func (s *stepDriver) request(ctx context.Context, r Request) ([]*x509.Certificate, error) {
	key, err := s.provisionerKey(ctx)
	if err != nil {
		return nil, err
	}
	base := strings.TrimRight(s.Address, "/")
	token, err := s.token(key, base+"/1.0/sign", r.Profile)
	if err != nil {
		return nil, fmt.Errorf("making a token: %w", err)
	}
	roles := make([]string, len(r.Profile.Usages))
	for i, u := range r.Profile.Usages {
		roles[i] = string(u) + "Auth"
	}
	in := map[string]any{
		"csr": string(requestPEM(r)), "ott": token, "notAfter": s.Now().Add(r.Profile.Lifetime).UTC().Format(time.RFC3339),
		"templateData": map[string]any{"extKeyUsage": roles},
	}
	var out struct {
		Cert   string   `json:"crt"`
		Issuer string   `json:"ca"`
		Chain  []string `json:"certChain"`
	}
	if err := call(ctx, s.client, http.MethodPost, base+"/1.0/sign", nil, in, &out); err != nil {
		return nil, err
	}
	return joinChain(append([]string{out.Cert, out.Issuer}, out.Chain...)...)
}

// provisionerKey fetches the provisioner's encrypted key from the server and
// opens it with the password, once.
func (s *stepDriver) provisionerKey(ctx context.Context) (*jose.JSONWebKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key != nil {
		return s.key, nil
	}
	sealed, err := s.encryptedKey(ctx)
	if err != nil {
		return nil, err
	}
	// As `step` seals them: PBES2 with AES key wrap.
	object, err := jose.ParseEncryptedCompact(sealed, []jose.KeyAlgorithm{jose.PBES2_HS256_A128KW, jose.PBES2_HS384_A192KW, jose.PBES2_HS512_A256KW},
		[]jose.ContentEncryption{jose.A128GCM, jose.A192GCM, jose.A256GCM, jose.A128CBC_HS256, jose.A256CBC_HS512})
	if err != nil {
		return nil, fmt.Errorf("key of provisioner %q: %w", s.Provisioner, err)
	}
	text, err := object.Decrypt(s.Password.Bytes())
	if err != nil {
		return nil, fmt.Errorf("key of provisioner %q: %w", s.Provisioner, ErrPassphrase)
	}
	defer clear(text)
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("key of provisioner %q: %w", s.Provisioner, err)
	}
	s.key = &key
	return s.key, nil
}

// maxPages bounds the pages of provisioners that are read.
const maxPages = 50

func (s *stepDriver) encryptedKey(ctx context.Context) (string, error) {
	base := strings.TrimRight(s.Address, "/") + "/1.0/provisioners?limit=100"
	cursor := ""
	for range maxPages {
		address := base
		if cursor != "" {
			address += "&cursor=" + url.QueryEscape(cursor)
		}
		var page struct {
			Provisioners []struct {
				Type, Name   string
				EncryptedKey string `json:"encryptedKey"`
			} `json:"provisioners"`
			Next string `json:"nextCursor"`
		}
		if err := call(ctx, s.client, http.MethodGet, address, nil, nil, &page); err != nil {
			return "", err
		}
		for _, p := range page.Provisioners {
			if p.Name != s.Provisioner {
				continue
			}
			if p.Type != "JWK" {
				return "", fmt.Errorf("provisioner %q is of type %q, not JWK", s.Provisioner, p.Type)
			}
			if p.EncryptedKey == "" {
				return "", fmt.Errorf("the server does not hand out the key of provisioner %q", s.Provisioner)
			}
			return p.EncryptedKey, nil
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	return "", fmt.Errorf("the server has no provisioner %q", s.Provisioner)
}

// tokenLife is how long a token for one signature is valid; step-ca allows five
// minutes.
const tokenLife = 5 * time.Minute

// token authorises one signature, for exactly the names of the profile.
func (s *stepDriver) token(key *jose.JSONWebKey, audience string, p pki.Profile) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key.Key},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", key.KeyID))
	if err != nil {
		return "", err
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	names := append([]string{}, p.DNSNames...)
	for _, ip := range p.IPs {
		names = append(names, ip.String())
	}
	now := s.Now()
	return jwt.Signed(signer).Claims(jwt.Claims{
		ID: hex.EncodeToString(id[:]), Issuer: s.Provisioner, Subject: p.CommonName, Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-time.Minute)), Expiry: jwt.NewNumericDate(now.Add(tokenLife)),
	}).Claims(map[string]any{"sans": names}).Serialize()
}
