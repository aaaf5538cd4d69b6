package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// CRLBackdate is how far thisUpdate lies before the moment of signing.
const CRLBackdate = time.Hour

// A Revocation is one entry of a revocation list.
type Revocation struct {
	Serial *big.Int
	At     time.Time
}

// NewCRL signs the full revocation list of one CA. number must grow with each
// list of that CA, from 1; validity is from now to nextUpdate. libvirt and
// QEMU go on using a list after nextUpdate.
func NewCRL(now time.Time, issuer *x509.Certificate, signer crypto.Signer, number uint64, revoked []Revocation, validity time.Duration) (*x509.RevocationList, error) {
	fail := func(err error) (*x509.RevocationList, error) {
		return nil, fmt.Errorf("signing revocation list %d of %s: %w", number, quoteDN(issuer.RawSubject), err)
	}
	if err := checkIssuer(now, issuer, signer, x509.KeyUsageCRLSign); err != nil {
		return fail(err)
	}
	if issuer.KeyUsage == 0 {
		// Without the extension everything is allowed (RFC 5280, 4.2.1.3); the
		// library wants to see the bit.
		free := *issuer
		free.KeyUsage = x509.KeyUsageCRLSign
		issuer = &free
	}
	if number == 0 {
		return fail(fmt.Errorf("revocation lists count from 1"))
	}
	if validity <= 0 {
		return fail(fmt.Errorf("validity %s is not positive", validity))
	}
	now = now.UTC().Truncate(time.Second)
	template := &x509.RevocationList{
		Number:     new(big.Int).SetUint64(number),
		ThisUpdate: now.Add(-CRLBackdate),
		NextUpdate: now.Add(validity),
	}
	seen := map[string]bool{}
	for _, r := range revoked {
		if err := checkSerial(r.Serial); err != nil {
			return fail(err)
		}
		if s := SerialText(r.Serial); !seen[s] {
			seen[s] = true
			template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
				x509.RevocationListEntry{SerialNumber: r.Serial, RevocationTime: r.At.UTC().Truncate(time.Second)})
		}
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, issuer, signer)
	if err != nil {
		return fail(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return fail(err)
	}
	return list, nil
}

// MayRevoke reports whether a CA may sign revocation lists by its key usage. One
// made after libvirt's own guide may not: its template names cert_signing_key
// alone.
func MayRevoke(issuer *x509.Certificate) bool {
	return issuer.KeyUsage == 0 || issuer.KeyUsage&x509.KeyUsageCRLSign != 0
}

// ParseCRLs reads all revocation lists of a PEM file, at most 1 MiB. Nothing
// is verified: GnuTLS does not verify the signature of a list either, so check
// it with CheckCRL before a list is given to a host.
func ParseCRLs(data []byte) ([]*x509.RevocationList, error) {
	blocks, err := readPEM(data, "X509 CRL")
	if err != nil {
		return nil, fmt.Errorf("revocation list: %w", err)
	}
	var lists []*x509.RevocationList
	for i, b := range blocks {
		if b.err != nil {
			return nil, fmt.Errorf("revocation list %d: %w", i+1, b.err)
		}
		list, err := x509.ParseRevocationList(b.der)
		if err != nil {
			return nil, fmt.Errorf("revocation list %d: %w", i+1, err)
		}
		lists = append(lists, list)
	}
	return lists, nil
}

// CheckCRL reports whether a list may be given to hosts: it is signed by
// issuer, names it, and its number is at least deployed.
func CheckCRL(list *x509.RevocationList, issuer *x509.Certificate, deployed uint64) error {
	name := quoteDN(issuer.RawSubject)
	if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
		return fmt.Errorf("revocation list of %s: it names another issuer, %s", name, quoteDN(list.RawIssuer))
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("revocation list of %s: %w", name, err)
	}
	if list.Number == nil || list.Number.Cmp(new(big.Int).SetUint64(deployed)) < 0 {
		return fmt.Errorf("revocation list of %s: its number %v is older than %d, which hosts have already", name, list.Number, deployed)
	}
	return nil
}

// RenderCRLs writes the lists as one PEM file in the given order.
func RenderCRLs(ders ...[]byte) []byte {
	var b bytes.Buffer
	for _, der := range ders {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	}
	return b.Bytes()
}
