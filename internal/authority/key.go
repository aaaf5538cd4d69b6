package authority

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/virtrust/virtrust/internal/pki"
)

// newKey makes the key of a CA.
func newKey(algorithm pki.KeyAlgorithm) (crypto.Signer, error) {
	switch algorithm {
	case "", pki.ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case pki.RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, fmt.Errorf("key algorithm %q is not offered for an authority; use %s or %s", algorithm, pki.ECDSAP256, pki.RSA3072)
}

// sealKey encrypts a key, PKCS#8 in PEM, with a passphrase, as armored age.
// Deriving the key takes about a second and 256 MiB of memory at age's default
// work factor of 18, which a workFactor of 0 means.
func sealKey(key crypto.Signer, passphrase Secret, workFactor int) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	// age takes a string, which cannot be cleared afterwards.
	recipient, err := age.NewScryptRecipient(string(passphrase.Bytes()))
	if err != nil {
		return nil, err
	}
	if workFactor > 0 {
		recipient.SetWorkFactor(workFactor)
	}
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	sealed, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := sealed.Write(text); err != nil {
		return nil, err
	}
	if err := errors.Join(sealed.Close(), armored.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// openKey decrypts what sealKey made, or the same without armor. A wrong
// passphrase is ErrPassphrase.
func openKey(ctx context.Context, data []byte, passphrase Secret) (crypto.Signer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	identity, err := age.NewScryptIdentity(string(passphrase.Bytes()))
	if err != nil {
		return nil, err
	}
	var source io.Reader = bytes.NewReader(data)
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte(armor.Header)) {
		source = armor.NewReader(source)
	}
	opened, err := age.Decrypt(source, identity)
	var mismatch *age.NoIdentityMatchError
	if errors.As(err, &mismatch) {
		if len(mismatch.StanzaTypes) != 1 || mismatch.StanzaTypes[0] != "scrypt" {
			return nil, errors.New("it is not encrypted with a passphrase")
		}
		return nil, ErrPassphrase
	} else if err != nil {
		return nil, fmt.Errorf("it is not a file that age can open: %w", err)
	}
	text := make([]byte, maxKeyFile)
	defer clear(text)
	n, err := io.ReadFull(opened, text)
	if err == nil {
		return nil, fmt.Errorf("what it holds is larger than %d bytes", maxKeyFile)
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	block, _ := pem.Decode(text[:n])
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("it does not hold a private key in PEM")
	}
	defer clear(block.Bytes)
	// What these two fail with may quote the key, so it is left out.
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key in it cannot be parsed")
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key in it cannot sign")
	}
	return key, ctx.Err()
}

// wipeKey overwrites the private numbers of a key. Copies that the runtime or
// the cryptographic library made are out of reach.
func wipeKey(key crypto.Signer) {
	wipe := func(n *big.Int) {
		if n != nil {
			clear(n.Bits())
		}
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		wipe(k.D) //nolint:staticcheck // SA1019: there is no other way to overwrite it
	case *rsa.PrivateKey:
		wipe(k.D)
		for _, p := range k.Primes {
			wipe(p)
		}
		wipe(k.Precomputed.Dp)
		wipe(k.Precomputed.Dq)
		wipe(k.Precomputed.Qinv)
	}
}
