package authority

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"filippo.io/age/armor"
	"github.com/youmark/pkcs8"

	"github.com/virtrust/virtrust/internal/pki"
)

// ReadKey reads the key of a CA from a file: PEM with PKCS#8, PKCS#1 or SEC 1,
// encrypted (PKCS#8 with PBES2, or the older form with DEK-Info) or not, or what
// age encrypted with a passphrase, as ours are. password is asked only where it
// is encrypted; what it gives is wiped. A wrong one is ErrPassphrase. A key that
// is not encrypted is read only from a file that nobody else may read.
func ReadKey(ctx context.Context, path string, password func(context.Context) (Secret, error)) (crypto.Signer, error) {
	fail := func(err error) (crypto.Signer, error) { return nil, fmt.Errorf("key %s: %w", path, err) }
	data, err := readRegular(path, maxKeyFile)
	if err != nil {
		return fail(err)
	}
	defer clear(data)
	ask := func() (Secret, error) {
		s, err := password(ctx)
		if err == nil && s.Empty() {
			err = fmt.Errorf("%w: it is empty", ErrPassphrase)
		}
		return s, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte(armor.Header)) || bytes.HasPrefix(data, []byte("age-encryption.org/")) {
		secret, err := ask()
		if err != nil {
			return fail(err)
		}
		defer secret.Wipe()
		key, err := openKey(ctx, data, secret)
		if err != nil {
			return fail(err)
		}
		return key, nil
	}
	block := keyBlock(data)
	if block == nil {
		return fail(errors.New("it holds no private key in PEM; openssl pkey -in FILE -out NEW.pem converts other forms"))
	}
	defer clear(block.Bytes)
	parsed, err := parseKeyBlock(path, block, ask)
	if err != nil {
		return fail(err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return fail(errors.New("the private key in it cannot sign"))
	}
	if err := pki.CheckKey(key.Public()); err != nil {
		wipeKey(key)
		return fail(err)
	}
	return key, nil
}

// keyBlock is the first private key of a PEM file; others, such as parameters of
// a curve or certificates, may stand before it.
func keyBlock(data []byte) *pem.Block {
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return nil
		}
		switch b.Type {
		case "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			return b
		}
		clear(b.Bytes)
	}
}

func parseKeyBlock(path string, block *pem.Block, ask func() (Secret, error)) (any, error) {
	der, kind := block.Bytes, block.Type
	old := x509.IsEncryptedPEMBlock(block) //nolint:staticcheck // SA1019: many CAs of long ago have their key in this form
	if old || kind == "ENCRYPTED PRIVATE KEY" {
		secret, err := ask()
		if err != nil {
			return nil, err
		}
		defer secret.Wipe()
		if !old {
			parsed, err := pkcs8.ParsePKCS8PrivateKey(der, secret.Bytes())
			if err != nil && err.Error() == "pkcs8: incorrect password" {
				err = ErrPassphrase
			}
			return parsed, err
		}
		if der, err = x509.DecryptPEMBlock(block, secret.Bytes()); err != nil { //nolint:staticcheck // SA1019: as above
			if errors.Is(err, x509.IncorrectPasswordError) {
				err = ErrPassphrase
			}
			return nil, err
		}
		defer clear(der)
	} else if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("it is not encrypted and has mode %04o, others than its owner may use it; run chmod 600 %s", mode, path)
	}
	// What these fail with may quote the key, so it is left out.
	var parsed any
	var err error
	switch kind {
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(der)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(der)
	default:
		parsed, err = x509.ParsePKCS8PrivateKey(der)
	}
	if err != nil {
		if old {
			// The old form has no check of its own: one time in 256 a wrong
			// password is not noticed before.
			return nil, ErrPassphrase
		}
		return nil, errors.New("the private key in it cannot be parsed")
	}
	return parsed, nil
}
