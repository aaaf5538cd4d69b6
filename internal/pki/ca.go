package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// DefaultCALifetime is how long a generation of an authority is valid unless
// policy says otherwise: ten years.
const DefaultCALifetime = 3650 * 24 * time.Hour

// A CAProfile says what the certificate of a generation of an authority must be.
type CAProfile struct {
	Organization string
	Name         string        // the authority's name, such as "libvirt"
	Number       int           // of the generation, from 1
	Lifetime     time.Duration // from now to notAfter; 0 means DefaultCALifetime
}

// CommonName is the subject CN, distinct for each generation: GnuTLS matches
// revocation lists to certificates by the issuer's name alone.
func (p CAProfile) CommonName() string {
	name := fmt.Sprintf("%s g%d", p.Name, p.Number)
	if p.Organization != "" {
		name = p.Organization + " " + name
	}
	return name
}

// subject is the DER of the subject of a generation.
func (p CAProfile) subject() ([]byte, error) {
	if err := CheckLabel(p.Name); err != nil {
		return nil, err
	}
	if p.Organization != "" {
		if err := CheckSubjectText(p.Organization); err != nil {
			return nil, fmt.Errorf("organization: %w", err)
		}
	}
	if p.Number < 1 {
		return nil, errors.New("generations count from 1")
	}
	cn := p.CommonName()
	if err := CheckSubjectText(cn); err != nil {
		return nil, fmt.Errorf("common name: %w: shorten the organization or the authority's name", err)
	}
	return subjectDER(p.Organization, "", cn)
}

// NewAuthority makes the self-signed certificate of one generation: a CA with
// path length 0 that may sign certificates and revocation lists. The key
// should be ECDSA P-256.
func NewAuthority(now time.Time, p CAProfile, signer crypto.Signer, serial *big.Int) (*x509.Certificate, error) {
	fail := func(err error) (*x509.Certificate, error) {
		return nil, fmt.Errorf("making generation %d of authority %q: %w", p.Number, p.Name, err)
	}
	if p.Lifetime == 0 {
		p.Lifetime = DefaultCALifetime
	}
	if p.Lifetime < 24*time.Hour {
		return fail(fmt.Errorf("lifetime %s is shorter than a day", p.Lifetime))
	}
	subject, err := p.subject()
	if err != nil {
		return fail(err)
	}
	if err := checkSerial(serial); err != nil {
		return fail(err)
	}
	if err := CheckKey(signer.Public()); err != nil {
		return fail(err)
	}
	keyID, err := KeyID(signer.Public())
	if err != nil {
		return fail(err)
	}
	now = now.UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber:          serial,
		RawSubject:            subject,
		NotBefore:             now.Add(-CABackdate),
		NotAfter:              now.Add(p.Lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          keyID,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return fail(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(err)
	}
	return cert, nil
}

// NewAuthorityRequest makes the request (PKCS#10, DER) for one generation whose
// certificate somebody else signs: a CA with path length 0 that may sign
// certificates and revocation lists. The lifetime is the signer's choice.
func NewAuthorityRequest(p CAProfile, signer crypto.Signer) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("requesting generation %d of authority %q: %w", p.Number, p.Name, err)
	}
	subject, err := p.subject()
	if err != nil {
		return fail(err)
	}
	if err := CheckKey(signer.Public()); err != nil {
		return fail(err)
	}
	keyID, err := KeyID(signer.Public())
	if err != nil {
		return fail(err)
	}
	template := &x509.CertificateRequest{RawSubject: subject}
	for _, e := range []struct {
		id       asn1.ObjectIdentifier
		critical bool
		value    any
	}{
		{asn1.ObjectIdentifier{2, 5, 29, 19}, true, struct {
			CA      bool
			PathLen int
		}{true, 0}},
		{oidExtUsage, true, asn1.BitString{Bytes: []byte{0x06}, BitLength: 7}}, // keyCertSign and cRLSign: bits 5 and 6
		{asn1.ObjectIdentifier{2, 5, 29, 14}, false, keyID},
	} {
		der, err := asn1.Marshal(e.value)
		if err != nil {
			return fail(err)
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: e.id, Critical: e.critical, Value: der})
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, signer)
	if err != nil {
		return fail(err)
	}
	return der, nil
}
