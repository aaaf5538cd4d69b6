package pkitest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// A Spec describes a certificate with full control over its extensions and
// whether they are critical. Extension strings begin with "c" (critical) or
// "n" (not critical), followed by words; an empty string leaves the extension
// out.
type Spec struct {
	Country, CommonName string
	Names               []string      // DNS names and addresses
	Basic               string        // "c ca", "n ca", "c leaf", "c ca0" for path length 0
	Usage               string        // "c DS KE CS CRL", "c" alone is empty bits
	Purpose             string        // "c server client any email"
	Start, End          time.Duration // offsets from Builder.Now; 0 means 1 minute ago and in a day
	Key                 string        // "ecdsa" (default), "rsa", "ed25519"
	Extra               []pkix.Extension
	Constraint          string // permitted DNS suffix of a CA
	Signer              *Cert  // nil for self-signed
}

// A Cert is a certificate with its key.
type Cert struct {
	X509 *x509.Certificate
	Key  crypto.Signer
}

// PEM is the certificate as PEM.
func (c *Cert) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.X509.Raw})
}

// KeyPEM is the private key as PKCS#8 PEM.
func (c *Cert) KeyPEM() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// A Builder makes certificates around one moment. Keys of leaves are shared
// between certificates of one algorithm, keys of CAs are not.
type Builder struct {
	Now    time.Time
	keys   map[string]crypto.Signer
	serial int64
}

// NewBuilder makes a builder whose certificates are valid around now.
func NewBuilder(now time.Time) *Builder {
	return &Builder{Now: now.UTC().Truncate(time.Second), keys: map[string]crypto.Signer{}}
}

func newKey(kind string) crypto.Signer {
	var key crypto.Signer
	var err error
	switch kind {
	case "", "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("no key kind %q", kind)
	}
	if err != nil {
		panic(err)
	}
	return key
}

// Make builds a certificate. It panics on a spec that makes no sense: specs
// are written by hand in tests.
func (b *Builder) Make(s Spec) *Cert {
	ca := strings.Contains(s.Basic, "ca") || s.Signer == nil
	key := b.keys[s.Key]
	if ca || key == nil {
		key = newKey(s.Key)
	}
	if !ca {
		b.keys[s.Key] = key
	}
	if s.Start == 0 {
		s.Start = -time.Minute
	}
	if s.End == 0 {
		s.End = 24 * time.Hour
	}
	b.serial++
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1000 + b.serial),
		RawSubject:   rawName(s.Country, s.CommonName),
		NotBefore:    b.Now.Add(s.Start), NotAfter: b.Now.Add(s.End),
		SubjectKeyId: []byte{byte(b.serial >> 8), byte(b.serial), 7, 7, 7, 7},
	}
	if !ca {
		t.SubjectKeyId = nil
	}
	for _, n := range s.Names {
		if ip := net.ParseIP(n); ip != nil {
			if v4 := ip.To4(); v4 != nil {
				ip = v4
			}
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	if s.Constraint != "" {
		t.PermittedDNSDomains, t.PermittedDNSDomainsCritical = []string{s.Constraint}, true
	}
	t.ExtraExtensions = append(t.ExtraExtensions, s.Extra...)
	add := func(text string, id asn1.ObjectIdentifier, value any) {
		if text == "" {
			return
		}
		der, ok := value.([]byte)
		if !ok {
			der = must(asn1.Marshal(value))
		}
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: id, Critical: text[0] == 'c', Value: der})
	}
	add(s.Basic, asn1.ObjectIdentifier{2, 5, 29, 19}, basicValue(s.Basic))
	add(s.Usage, asn1.ObjectIdentifier{2, 5, 29, 15}, usageValue(s.Usage))
	add(s.Purpose, asn1.ObjectIdentifier{2, 5, 29, 37}, purposeValue(s.Purpose))
	parent, signer := t, key
	if s.Signer != nil {
		parent, signer = s.Signer.X509, s.Signer.Key
	} else {
		t.AuthorityKeyId = t.SubjectKeyId
	}
	der := must(x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer))
	return &Cert{X509: must(x509.ParseCertificate(der)), Key: key}
}

func basicValue(text string) any {
	switch {
	case strings.Contains(text, "ca0"):
		return struct {
			CA  bool
			Len int
		}{true, 0}
	case strings.Contains(text, "ca"):
		return struct{ CA bool }{true}
	}
	return []byte{0x30, 0x00}
}

func usageValue(text string) asn1.BitString {
	bits := map[string]byte{"DS": 0x80, "KE": 0x20, "CS": 0x04, "CRL": 0x02}
	var b byte
	for _, w := range strings.Fields(text)[min(1, len(strings.Fields(text))):] {
		if bits[w] == 0 {
			panic("no key usage " + w)
		}
		b |= bits[w]
	}
	length := 8
	for length > 0 && b&(1<<(8-length)) == 0 {
		length--
	}
	if length == 0 {
		return asn1.BitString{}
	}
	return asn1.BitString{Bytes: []byte{b}, BitLength: length}
}

func purposeValue(text string) []asn1.ObjectIdentifier {
	oids := map[string]asn1.ObjectIdentifier{
		"server": {1, 3, 6, 1, 5, 5, 7, 3, 1}, "client": {1, 3, 6, 1, 5, 5, 7, 3, 2},
		"email": {1, 3, 6, 1, 5, 5, 7, 3, 4}, "any": {2, 5, 29, 37, 0},
	}
	var out []asn1.ObjectIdentifier
	for i, w := range strings.Fields(text) {
		if i > 0 {
			out = append(out, oids[w])
		}
	}
	return out
}

func rawName(country, cn string) []byte {
	var seq pkix.RDNSequence
	if country != "" {
		seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, 6}, Value: country}})
	}
	if cn != "" {
		seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: cn}})
	}
	return must(asn1.Marshal(seq))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
