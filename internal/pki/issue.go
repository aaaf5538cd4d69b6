package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"
)

// How far notBefore lies before the moment of signing, so that hosts whose
// clocks are behind accept what is new. A CA is backdated further because one
// CA that is not yet valid stops libvirtd from starting.
const (
	LeafBackdate = time.Hour
	CABackdate   = 24 * time.Hour
)

// NewSerial draws a positive serial of 128 random bits from random
// (crypto/rand.Reader outside tests).
func NewSerial(random io.Reader) (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	n := new(big.Int).SetBytes(b)
	if n.Sign() == 0 {
		return nil, errors.New("drawing a serial number: the random source gave zeros only")
	}
	return n, nil
}

// SerialText is how serials are written in Trust and in the ledger: lower-case
// hex without leading zeros.
func SerialText(n *big.Int) string { return n.Text(16) }

// ParseSerial reads what SerialText writes.
func ParseSerial(s string) (*big.Int, error) {
	n, ok := new(big.Int).SetString(s, 16)
	if !ok || s != strings.ToLower(s) || checkSerial(n) != nil {
		return nil, fmt.Errorf("%q is not a serial number in lower-case hex", s)
	}
	return n, nil
}

func checkSerial(n *big.Int) error {
	// RFC 5280 4.1.2.2: positive, at most 20 octets including the sign.
	if n == nil || n.Sign() <= 0 || n.BitLen() > 159 {
		return errors.New("the serial number is not positive or longer than 20 octets")
	}
	return nil
}

// KeyID is the key identifier of a public key: the first 160 bits of the
// SHA-256 of its bits (RFC 7093, method 1).
func KeyID(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("key identifier: %w", err)
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return nil, fmt.Errorf("key identifier: %w", err)
	}
	sum := sha256.Sum256(spki.Key.Bytes)
	return sum[:20], nil
}

// A Leaf is a certificate just signed.
type Leaf struct {
	Cert   *x509.Certificate
	Capped bool // the issuer ends before the lifetime asked, so the leaf ends with the issuer
}

// SignLeaf signs a leaf of profile p for the key of csr. The issuer must be a
// CA that is valid at now and whose key is signer. The lifetime counts from
// now; it is cut at the issuer's own end, which Leaf.Capped tells.
func SignLeaf(now time.Time, issuer *x509.Certificate, signer crypto.Signer, csr *CSR, p Profile, serial *big.Int) (*Leaf, error) {
	fail := func(err error) (*Leaf, error) {
		return nil, fmt.Errorf("signing certificate %q for %q: %w", p.Name, p.CommonName, err)
	}
	if err := p.Validate(); err != nil {
		return fail(err)
	}
	if err := checkKeyFits(csr.Key(), p); err != nil {
		return fail(err)
	}
	if err := checkIssuer(now, issuer, signer, x509.KeyUsageCertSign); err != nil {
		return fail(err)
	}
	if err := checkSerial(serial); err != nil {
		return fail(err)
	}
	if samePublicKey(csr.Key(), issuer.PublicKey) {
		return fail(errors.New("the request asks for the issuer's own key"))
	}
	subject, err := subjectDER(p.Organization, p.OrganizationalUnit, p.CommonName)
	if err != nil {
		return fail(err)
	}
	purpose, err := purposeExtension(p.Usages)
	if err != nil {
		return fail(err)
	}
	keyID, err := KeyID(csr.Key())
	if err != nil {
		return fail(err)
	}
	now = now.UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber:          serial,
		RawSubject:            subject,
		NotBefore:             later(now.Add(-LeafBackdate), issuer.NotBefore),
		NotAfter:              now.Add(p.Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		SubjectKeyId:          keyID,
		DNSNames:              slices.Clone(p.DNSNames),
		// The library writes extended key usage as not critical, and neither
		// libvirt nor QEMU enforces it then.
		ExtraExtensions: []pkix.Extension{purpose},
	}
	if p.KeyUsage != KeyUsageStrict {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	for _, ip := range p.IPs {
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
	}
	leaf := &Leaf{}
	if template.NotAfter.After(issuer.NotAfter) {
		template.NotAfter, leaf.Capped = issuer.NotAfter, true
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, csr.Key(), signer)
	if err != nil {
		return fail(err)
	}
	if leaf.Cert, err = x509.ParseCertificate(der); err != nil {
		return fail(err)
	}
	return leaf, nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

var (
	oidServerAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidClientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	oidAnyPurpose = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
	oidExtPurpose = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidExtUsage   = asn1.ObjectIdentifier{2, 5, 29, 15}
)

func purposeExtension(usages []Usage) (pkix.Extension, error) {
	var oids []asn1.ObjectIdentifier
	if slices.Contains(usages, UsageServer) {
		oids = append(oids, oidServerAuth)
	}
	if slices.Contains(usages, UsageClient) {
		oids = append(oids, oidClientAuth)
	}
	value, err := asn1.Marshal(oids)
	return pkix.Extension{Id: oidExtPurpose, Critical: true, Value: value}, err
}

func checkIssuer(now time.Time, issuer *x509.Certificate, signer crypto.Signer, usage x509.KeyUsage) error {
	name := quoteDN(issuer.RawSubject)
	switch {
	case !issuer.BasicConstraintsValid || !issuer.IsCA:
		return fmt.Errorf("issuer %s is not a CA", name)
	case issuer.KeyUsage != 0 && issuer.KeyUsage&usage == 0:
		return fmt.Errorf("issuer %s may not sign this by its key usage", name)
	case now.Before(issuer.NotBefore):
		return fmt.Errorf("issuer %s is not valid before %s", name, issuer.NotBefore.Format(time.RFC3339))
	case !now.Before(issuer.NotAfter):
		return fmt.Errorf("issuer %s expired on %s: roll the authority over", name, issuer.NotAfter.Format(time.RFC3339))
	case len(issuer.SubjectKeyId) == 0:
		return fmt.Errorf("issuer %s has no subject key identifier, by which its leaves would name it", name)
	case !samePublicKey(signer.Public(), issuer.PublicKey):
		return fmt.Errorf("the signing key is not that of issuer %s", name)
	}
	return nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	x, errA := x509.MarshalPKIXPublicKey(a)
	y, errB := x509.MarshalPKIXPublicKey(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

// hexID renders a key identifier as Trust has it.
func hexID(id []byte) string { return hex.EncodeToString(id) }
