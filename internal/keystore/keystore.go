// Package keystore writes and reads certificates and keys as Java and its like
// want them: trust stores and key stores in PKCS#12 and JKS. It is pure.
package keystore

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// Format is the form of a store.
type Format string

// The forms. PKCS#12 is the one to take; JKS protects keys by a scheme of its own
// that is weak, and is for programs that read nothing else.
const (
	PKCS12 Format = "pkcs12"
	JKS    Format = "jks"
)

// MinPassword is the least length of a store's password, in bytes: keytool takes
// none that is shorter.
const MinPassword = 6

// PublicPassword opens the trust stores in JKS that are made without a password.
// It is the one that Java's own have: such a store holds nothing secret, and the
// password is only part of its checksum.
const PublicPassword = "changeit"

// FormatOf tells the form by a file's name: .p12, .pfx or .jks.
func FormatOf(name string) (Format, bool) {
	switch strings.ToLower(path.Ext(name)) {
	case ".p12", ".pfx":
		return PKCS12, true
	case ".jks":
		return JKS, true
	}
	return "", false
}

// ErrPassword means that a password does not open a store.
var ErrPassword = errors.New("the password does not open it")

func checkPassword(password []byte) error {
	if len(password) < MinPassword {
		return fmt.Errorf("the password of a store has %d characters at least", MinPassword)
	}
	return nil
}

// TrustStore writes CAs as a trust store. Without a password the same
// certificates give the same bytes: PKCS#12 has no checksum then, which Java reads
// from version 8 on, and JKS has that of PublicPassword.
func TrustStore(f Format, cas []*x509.Certificate, password []byte) ([]byte, error) {
	if len(password) > 0 {
		if err := checkPassword(password); err != nil {
			return nil, err
		}
	}
	names := aliases(cas)
	if f == PKCS12 {
		var entries []pkcs12.TrustStoreEntry
		for i, c := range cas {
			entries = append(entries, pkcs12.TrustStoreEntry{Cert: c, FriendlyName: names[i]})
		}
		if len(password) == 0 {
			return pkcs12.Passwordless.EncodeTrustStoreEntries(entries, "")
		}
		return pkcs12.Modern2023.EncodeTrustStoreEntries(entries, string(password))
	}
	if len(password) == 0 {
		password = []byte(PublicPassword)
	}
	s := jks.New(jks.WithOrderedAliases())
	for i, c := range cas {
		// The moment of making is part of the form; the certificate's own keeps
		// the bytes the same.
		if err := s.SetTrustedCertificateEntry(names[i], jks.TrustedCertificateEntry{CreationTime: c.NotBefore, Certificate: entry(c)}); err != nil {
			return nil, err
		}
	}
	return stored(s, password)
}

// ReadTrustStore reads the CAs of a trust store. An empty password opens one that
// TrustStore made without; any other is ErrPassword there.
func ReadTrustStore(f Format, data, password []byte) ([]*x509.Certificate, error) {
	if f == PKCS12 {
		certs, err := pkcs12.DecodeTrustStore(data, string(password))
		if errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption) {
			err = ErrPassword
		}
		return certs, err
	}
	if len(password) == 0 {
		password = []byte(PublicPassword)
	}
	s, err := loaded(data, password)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, a := range s.Aliases() {
		e, err := s.GetTrustedCertificateEntry(a)
		if err != nil {
			return nil, fmt.Errorf("entry %q is no trusted certificate: %w", a, err)
		}
		c, err := x509.ParseCertificate(e.Certificate.Content)
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", a, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// KeyStore writes a key with its chain, the certificate of the key first, as a
// key store. It holds no CA to trust: that is a trust store's.
func KeyStore(f Format, key any, chain []*x509.Certificate, password []byte) ([]byte, error) {
	if err := checkPassword(password); err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("a key store wants the certificate of its key")
	}
	if f == PKCS12 {
		return pkcs12.Modern2023.Encode(key, chain[0], chain[1:], string(password))
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	e := jks.PrivateKeyEntry{CreationTime: time.Now(), PrivateKey: der}
	for _, c := range chain {
		e.CertificateChain = append(e.CertificateChain, entry(c))
	}
	s := jks.New(jks.WithOrderedAliases())
	if err := s.SetPrivateKeyEntry(aliases(chain[:1])[0], e, password); err != nil {
		return nil, err
	}
	return stored(s, password)
}

func entry(c *x509.Certificate) jks.Certificate {
	return jks.Certificate{Type: "X.509", Content: c.Raw}
}

func stored(s jks.KeyStore, password []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := s.Store(&out, password); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func loaded(data, password []byte) (jks.KeyStore, error) {
	s := jks.New(jks.WithOrderedAliases())
	if err := s.Load(bytes.NewReader(data), password); err != nil {
		if strings.Contains(err.Error(), "digest") {
			err = ErrPassword
		}
		return s, err
	}
	return s, nil
}

// aliases names entries by the common names of their certificates, in small
// letters as Java compares them, each once.
func aliases(certs []*x509.Certificate) []string {
	var out []string
	seen := map[string]int{}
	for _, c := range certs {
		name := strings.Trim(strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-':
				return r
			case r >= 'A' && r <= 'Z':
				return r + 'a' - 'A'
			}
			return '-'
		}, c.Subject.CommonName), "-")
		if name == "" {
			name = "ca"
		}
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s-%d", name, seen[name])
		}
		out = append(out, name)
	}
	return out
}
