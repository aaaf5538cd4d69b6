package pki

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
)

// Limits of a CA file. libvirt and QEMU before 10.2 ignore certificates after
// the sixteenth in silence, and libvirt refuses a larger file.
const (
	MaxBundleCAs   = 16
	MaxBundleBytes = 64 << 10
)

// A Bundle is a CA file: the certificates that a consumer trusts.
type Bundle struct {
	Certs    []*x509.Certificate // in file order; those that can be read
	Problems []Problem           // for which a consumer refuses the file
	Warnings []Problem
}

// ParseBundle reads a CA file as GnuTLS does. It does not fail: what is wrong
// stands in the bundle's Problems, and what can be read in its Certs, so that
// a broken file on a host can still be shown and mended.
func ParseBundle(data []byte) *Bundle {
	b := &Bundle{}
	if len(data) > MaxBundleBytes {
		b.Problems = append(b.Problems, problem("ca-too-large",
			"the CA file has %d bytes and libvirt reads %d: remove CAs that are no longer used", len(data), MaxBundleBytes))
	}
	blocks, err := readPEM(data, "CERTIFICATE", "X509 CERTIFICATE")
	if err != nil {
		b.Problems = append(b.Problems, problem("ca-unreadable", "the CA file: %v", err))
		return b
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		b.Problems = append(b.Problems, problem("ca-unreadable", "the CA file has a NUL byte at offset %d, where consumers stop reading: write the file again", i))
	}
	seen := map[string]bool{}
	for i, block := range blocks {
		if block.err != nil {
			b.Problems = append(b.Problems, problem("ca-unreadable", "certificate %d of the CA file is damaged (%v): remove or replace it", i+1, block.err))
			continue
		}
		cert, err := x509.ParseCertificate(block.der)
		if err != nil {
			b.Problems = append(b.Problems, problem("ca-unreadable", "certificate %d of the CA file cannot be read (%v): remove or replace it", i+1, err))
			continue
		}
		if seen[string(cert.Raw)] {
			b.Warnings = append(b.Warnings, problem("ca-duplicate", "CA %s is in the CA file twice", quoteDN(cert.RawSubject)))
		}
		seen[string(cert.Raw)] = true
		b.Certs = append(b.Certs, cert)
	}
	if len(blocks) == 0 {
		b.Problems = append(b.Problems, problem("ca-missing", "the CA file holds no certificate"))
	}
	if len(blocks) > MaxBundleCAs {
		b.Warnings = append(b.Warnings, problem("ca-ignored",
			"the CA file has %d certificates; libvirt and QEMU before 10.2 ignore those after number %d: remove CAs that are no longer used", len(blocks), MaxBundleCAs))
	}
	return b
}

// Check reports whether the bundle may be given to any host: within the
// limits, and every certificate of it a CA that is valid at now.
func (b *Bundle) Check(now time.Time) Verdict {
	v := verdict{problems: slices.Clone(b.Problems), warnings: slices.Clone(b.Warnings)}
	if len(b.Certs) > MaxBundleCAs {
		v.fail("ca-too-many", "%d CAs in one file, at most %d are read everywhere: remove CAs that are no longer used", len(b.Certs), MaxBundleCAs)
	}
	if size := len(b.Render()); size > MaxBundleBytes {
		v.fail("ca-too-large", "the CA file would have %d bytes and libvirt reads %d: remove CAs that are no longer used", size, MaxBundleBytes)
	}
	for _, c := range b.Certs {
		v.checkCA(c, now)
		if k := c.KeyUsage; hasExtension(c, oidExtUsage) && k&x509.KeyUsageCertSign == 0 {
			v.fail("ca-key-usage", "CA %s may not sign certificates by its key usage: replace it", quoteDN(c.RawSubject))
		}
	}
	return v.done()
}

// Contains reports whether the bundle holds exactly this certificate.
func (b *Bundle) Contains(c *x509.Certificate) bool {
	return slices.ContainsFunc(b.Certs, c.Equal)
}

// Equal reports whether both bundles hold the same set of certificates,
// whatever their order, repetitions, line width or comments.
func (b *Bundle) Equal(other *Bundle) bool {
	return !slices.ContainsFunc(b.Certs, func(c *x509.Certificate) bool { return !other.Contains(c) }) &&
		!slices.ContainsFunc(other.Certs, func(c *x509.Certificate) bool { return !b.Contains(c) })
}

// Merge gives the bundle that should stand where seen stands: want in its
// order, then the certificates of seen that are foreign, which are those that
// are neither wanted nor among ours. Pass as ours every generation that the
// authorities ever had, so that a retired CA leaves the file. A certificate with
// the name and the key of one of ours is ours: it was renewed with its key. The
// second result is the foreign ones.
func Merge(seen *Bundle, want, ours []*x509.Certificate) (*Bundle, []*x509.Certificate) {
	out := &Bundle{}
	for _, c := range want {
		if !out.Contains(c) {
			out.Certs = append(out.Certs, c)
		}
	}
	var foreign []*x509.Certificate
	for _, c := range seen.Certs {
		if !out.Contains(c) && !slices.ContainsFunc(ours, func(o *x509.Certificate) bool { return SameCA(o, c) }) && !slices.ContainsFunc(foreign, c.Equal) {
			foreign = append(foreign, c)
		}
	}
	slices.SortFunc(foreign, func(a, b *x509.Certificate) int {
		return cmp.Or(bytes.Compare(a.RawSubject, b.RawSubject), bytes.Compare(a.Raw, b.Raw))
	})
	out.Certs = append(out.Certs, foreign...)
	return out, foreign
}

// SameCA reports whether two certificates are of one CA: of one name and one
// key, so that what it signed is accepted with either of them.
func SameCA(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

// Render writes the certificates as PEM, 64 columns, line feeds, nothing else.
func (b *Bundle) Render() []byte { return RenderCerts(b.Certs...) }

// RenderCerts writes certificates as PEM, 64 columns, line feeds, nothing else.
func RenderCerts(certs ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certs {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.Bytes()
}

func problem(code, format string, args ...any) Problem {
	return Problem{Code: code, Text: fmt.Sprintf(format, args...)}
}
