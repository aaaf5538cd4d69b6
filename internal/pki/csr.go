package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
)

// MaxCSR is the size in bytes above which a certificate request is not read.
const MaxCSR = 16 << 10

// A CSR is a certificate request whose own signature was verified, which
// proves possession of the key. Only the key is of use: policy owns every
// other field.
type CSR struct {
	Request *x509.CertificateRequest
}

// ParseCSR reads one PKCS#10 request, PEM or DER, and verifies its signature.
// Text before the PEM block is allowed, a second block is not.
func ParseCSR(data []byte) (*CSR, error) {
	if len(data) > MaxCSR {
		return nil, fmt.Errorf("certificate request of %d bytes, at most %d are read", len(data), MaxCSR)
	}
	der := data
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("certificate request: the PEM block is damaged")
		}
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, fmt.Errorf("certificate request: found a PEM block of type %q", block.Type)
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, fmt.Errorf("certificate request: something follows its PEM block")
		}
		der = block.Bytes
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := CheckKey(req.PublicKey); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: its signature does not prove possession of the key: %w", err)
	}
	return &CSR{Request: req}, nil
}

// Key is the public key that the request asks to certify.
func (c *CSR) Key() crypto.PublicKey { return c.Request.PublicKey }

// KeyDigest is the SHA-256 of the key's SubjectPublicKeyInfo.
func (c *CSR) KeyDigest() [sha256.Size]byte {
	return sha256.Sum256(c.Request.RawSubjectPublicKeyInfo)
}

// AlgorithmOf names the algorithm and size of a key, also those that are not
// offered, such as "rsa-1024", "ecdsa-p384" or "ed25519"; "unknown" otherwise.
func AlgorithmOf(key crypto.PublicKey) KeyAlgorithm {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P224():
			return "ecdsa-p224"
		case elliptic.P256():
			return ECDSAP256
		case elliptic.P384():
			return "ecdsa-p384"
		case elliptic.P521():
			return "ecdsa-p521"
		}
	case *rsa.PublicKey:
		return KeyAlgorithm(fmt.Sprintf("rsa-%d", k.N.BitLen()))
	case ed25519.PublicKey:
		return "ed25519"
	}
	return "unknown"
}

// Product of the odd primes below 100.
var smallPrimes, _ = new(big.Int).SetString("1152783981972759212376551073665878035", 10)

// CheckKey refuses keys that no leaf should have: unknown kinds, curves below
// P-256, RSA below 2048 or above 8192 bits, an RSA exponent other than 65537
// or a larger odd one, and a modulus with a small factor.
func CheckKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P224() {
			return fmt.Errorf("key %s is too weak: use %s", AlgorithmOf(key), ECDSAP256)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return fmt.Errorf("RSA key of %d bits: use %s or %s", n, RSA3072, RSA2048)
		}
		if k.E < 65537 || k.E%2 == 0 {
			return fmt.Errorf("RSA key with the exponent %d: make a new key with 65537", k.E)
		}
		if k.N.Bit(0) == 0 || new(big.Int).GCD(nil, nil, k.N, smallPrimes).Cmp(big.NewInt(1)) != 0 {
			return fmt.Errorf("RSA key whose modulus has a small factor: make a new key")
		}
		return nil
	}
	return fmt.Errorf("key of unknown kind %T: use %s", key, ECDSAP256)
}

func checkKeyFits(key crypto.PublicKey, p Profile) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if got := AlgorithmOf(key); got != p.Algorithm() {
		return fmt.Errorf("the request has a key %s where the policy wants %s", got, p.Algorithm())
	}
	return nil
}
