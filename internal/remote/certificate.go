package remote

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/crypto/ssh"
)

// errOtherKey is the answer for a certificate that belongs to another key.
var errOtherKey = errors.New("the certificate is for another key")

// readCertificates reads certificates of users, as CertificateFile names them.
func readCertificates(files []string) (out []*ssh.Certificate, notes []error) {
	for _, f := range files {
		c, err := readCertificate(f)
		if err != nil {
			notes = append(notes, err)
			continue
		}
		out = append(out, c)
	}
	return out, notes
}

func readCertificate(file string) (*ssh.Certificate, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", file, err)
	}
	c, ok := key.(*ssh.Certificate)
	if !ok || c.CertType != ssh.UserCert {
		return nil, fmt.Errorf("certificate %s: it is not the certificate of a user", file)
	}
	return c, nil
}

// certified is a key that shows a certificate.
func certified(k ssh.Signer, c *ssh.Certificate) (ssh.Signer, error) {
	if !bytes.Equal(k.PublicKey().Marshal(), c.Key.Marshal()) {
		return nil, errOtherKey
	}
	if err := validNow(c); err != nil {
		return nil, err
	}
	s, err := ssh.NewCertSigner(c, k)
	if err != nil {
		return nil, fmt.Errorf("certificate %q: %w", clean(c.KeyId, 60), err)
	}
	return s, nil
}

// validNow says why a user's certificate cannot be used at this time: a host
// would refuse it, and count that against us.
func validNow(c *ssh.Certificate) error {
	now := uint64(time.Now().Unix())
	switch {
	case now < c.ValidAfter:
		return fmt.Errorf("certificate %q is valid from %s only", clean(c.KeyId, 60), time.Unix(int64(c.ValidAfter), 0).Format(time.DateTime))
	case c.ValidBefore != ssh.CertTimeInfinity && now >= c.ValidBefore:
		return fmt.Errorf("certificate %q ended at %s: get a new one", clean(c.KeyId, 60), time.Unix(int64(c.ValidBefore), 0).Format(time.DateTime))
	}
	return nil
}
