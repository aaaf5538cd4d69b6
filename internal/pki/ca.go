package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
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

// NewAuthority makes the self-signed certificate of one generation: a CA with
// path length 0 that may sign certificates and revocation lists. The key
// should be ECDSA P-256.
func NewAuthority(now time.Time, p CAProfile, signer crypto.Signer, serial *big.Int) (*x509.Certificate, error) {
	fail := func(err error) (*x509.Certificate, error) {
		return nil, fmt.Errorf("making generation %d of authority %q: %w", p.Number, p.Name, err)
	}
	if err := CheckLabel(p.Name); err != nil {
		return fail(err)
	}
	if p.Organization != "" {
		if err := CheckSubjectText(p.Organization); err != nil {
			return fail(fmt.Errorf("organization: %w", err))
		}
	}
	if p.Number < 1 {
		return fail(errors.New("generations count from 1"))
	}
	if p.Lifetime == 0 {
		p.Lifetime = DefaultCALifetime
	}
	if p.Lifetime < 24*time.Hour {
		return fail(fmt.Errorf("lifetime %s is shorter than a day", p.Lifetime))
	}
	cn := p.CommonName()
	if err := CheckSubjectText(cn); err != nil {
		return fail(fmt.Errorf("common name: %w: shorten the organization or the authority's name", err))
	}
	if err := checkSerial(serial); err != nil {
		return fail(err)
	}
	if err := CheckKey(signer.Public()); err != nil {
		return fail(err)
	}
	subject, err := subjectDER(p.Organization, "", cn)
	if err != nil {
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
