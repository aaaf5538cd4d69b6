package pki_test

import (
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/pki/pkitest"
)

// The verdicts are those of gnutls_x509_crt_check_hostname of GnuTLS 3.7.9.
func TestMatchHost(t *testing.T) {
	b := pkitest.NewBuilder(time.Now())
	ca := b.Make(pkitest.Spec{CommonName: "CA", Basic: "c ca"})
	for _, c := range []struct {
		cn    string
		names []string
		host  string
		want  bool
	}{
		{"host1", nil, "host1", true},
		{"host1", nil, "HOST1", true},
		{"host1", nil, "host1.", false},
		{"host1", []string{"10.0.0.1"}, "host1", false},
		{"host1", []string{"10.0.0.1"}, "10.0.0.1", true},
		{"host1", []string{"fe80::1"}, "FE80:0::1", true},
		{"host1", []string{"fe80::1"}, "[fe80::1]", false},
		{"host1", []string{"other"}, "host1", false},
		{"10.0.0.1", nil, "10.0.0.1", false},
		{"zz", []string{"*.example.org"}, "foo.example.org", true},
		{"zz", []string{"*.example.org"}, "example.org", false},
		{"zz", []string{"*.example.org"}, "a.b.example.org", false},
		{"zz", []string{"*.org"}, "x.org", false},
		{"zz", []string{"*oo.example.org"}, "foo.example.org", true},
		{"zz", []string{"h*.example.org"}, "host1.example.org", false},
		{"*.example.org", nil, "foo.example.org", true},
		{"*", nil, "host1", false},
	} {
		cert := b.Make(pkitest.Spec{CommonName: c.cn, Names: c.names, Basic: "c leaf", Signer: ca})
		if got := pki.MatchHost(cert.X509, c.host); got != c.want {
			t.Errorf("CN %q, names %q, host %q: %v", c.cn, c.names, c.host, got)
		}
	}
}
