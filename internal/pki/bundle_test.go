package pki_test

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

func TestParseBundle(t *testing.T) {
	all := certs(t, generations(t, "a", pki.PhaseIssuing, pki.PhaseTrusting))
	clean := pki.RenderCerts(all...)
	b := pki.ParseBundle(clean)
	if len(b.Certs) != 2 || len(b.Problems)+len(b.Warnings) != 0 || !bytes.Equal(b.Render(), clean) {
		t.Fatalf("%d certificates, %v %v", len(b.Certs), b.Problems, b.Warnings)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(clean)), "\n") {
		if len(line) > 64 {
			t.Errorf("line of %d characters", len(line))
		}
	}
	dirty := []byte("# our CAs\r\nsubject=x\r\n" + strings.ReplaceAll(string(pki.RenderCerts(all[1], all[0])), "\n", "\r\n") + "end")
	if d := pki.ParseBundle(dirty); !d.Equal(b) || !b.Equal(d) || len(d.Problems) != 0 {
		t.Errorf("text, CRLF and order make a difference: %v", d.Problems)
	}
	wide := strings.ReplaceAll(string(clean), "\n", "\x01")
	wide = strings.ReplaceAll(wide, "-----\x01", "-----\n")
	wide = strings.ReplaceAll(strings.ReplaceAll(wide, "\x01-----END", "\n-----END"), "\x01", "")
	if d := pki.ParseBundle([]byte(wide)); !d.Equal(b) || len(d.Problems) != 0 {
		t.Errorf("line width makes a difference: %v", d.Problems)
	}
	for name, c := range map[string]struct {
		data  []byte
		code  string
		certs int
	}{
		"empty":     {nil, "ca-missing", 0},
		"text only": {[]byte("hello"), "ca-missing", 0},
		"damaged":   {bytes.Replace(clean, []byte("MII"), []byte("M*I"), 1), "ca-unreadable", 1},
		"no end":    {clean[:len(clean)-26], "ca-unreadable", 1},
		"not DER":   {append([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), clean...), "ca-unreadable", 2},
		"NUL":       {append(bytes.Clone(pki.RenderCerts(all[0])), append([]byte{0}, clean...)...), "ca-unreadable", 1},
		"large":     {append(bytes.Repeat([]byte{'#'}, pki.MaxBundleBytes), clean...), "ca-too-large", 2},
		"huge":      {bytes.Repeat([]byte{'#'}, 2<<20), "ca-unreadable", 0},
	} {
		d := pki.ParseBundle(c.data)
		if !slices.ContainsFunc(d.Problems, func(p pki.Problem) bool { return p.Code == c.code }) || len(d.Certs) != c.certs {
			t.Errorf("%s: %d certificates, %v", name, len(d.Certs), d.Problems)
		}
	}
}

func TestBundleCheck(t *testing.T) {
	_, ca, key := newCA(t)
	if v := (&pki.Bundle{Certs: []*x509.Certificate{ca}}).Check(testNow); !v.OK {
		t.Errorf("%v", v.Problems)
	}
	many := generations(t, "a", slices.Repeat([]pki.Phase{pki.PhaseIssuing}, 17)...)
	leaf := sign(t, ca, key, leafProfile()).Cert
	for code, b := range map[string]struct {
		certs []*x509.Certificate
		at    time.Time
	}{
		"ca-expired":       {[]*x509.Certificate{ca}, ca.NotAfter.Add(time.Second)},
		"ca-not-yet-valid": {[]*x509.Certificate{ca}, ca.NotBefore.Add(-time.Second)},
		"ca-not-a-ca":      {[]*x509.Certificate{ca, leaf}, testNow},
		"ca-too-many":      {certs(t, many), testNow},
	} {
		if v := (&pki.Bundle{Certs: b.certs}).Check(b.at); !v.Has(code) {
			t.Errorf("%s: %v", code, v.Problems)
		}
	}
}

func TestMerge(t *testing.T) {
	ours := generations(t, "a", pki.PhaseRetired, pki.PhaseIssuing)
	theirs := certs(t, generations(t, "foreign", pki.PhaseIssuing, pki.PhaseIssuing))
	all := certs(t, ours)
	want, err := ours.Bundle(pki.ConsumerLibvirt)
	if err != nil {
		t.Fatal(err)
	}
	seen := &pki.Bundle{Certs: []*x509.Certificate{theirs[1], all[0], theirs[0], theirs[1]}}
	got, foreign := pki.Merge(seen, want.Certs, all)
	if len(foreign) != 2 || len(got.Certs) != 3 || !got.Certs[0].Equal(all[1]) || got.Contains(all[0]) {
		t.Errorf("%d foreign, %d in all", len(foreign), len(got.Certs))
	}
	slices.Reverse(seen.Certs)
	again, _ := pki.Merge(seen, want.Certs, all)
	if !bytes.Equal(again.Render(), got.Render()) {
		t.Error("the order of the old file shows in the new one")
	}
	twice, _ := pki.Merge(got, want.Certs, all)
	if !bytes.Equal(twice.Render(), got.Render()) {
		t.Error("merging again changes the file")
	}
}

func FuzzParseBundle(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE"))
	f.Add([]byte("-----BEGIN X509 CERTIFICATE----------END"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := pki.ParseBundle(data)
		if len(b.Certs) == 0 && len(b.Problems) == 0 {
			t.Error("nothing found and no problem")
		}
		back := pki.ParseBundle(b.Render())
		if !back.Equal(b) {
			t.Error("what was rendered does not come back")
		}
		b.Check(testNow)
	})
}

func FuzzParseCSR(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"))
	f.Add([]byte{0x30, 0x82})
	f.Fuzz(func(t *testing.T, data []byte) {
		csr, err := pki.ParseCSR(data)
		if (csr == nil) == (err == nil) {
			t.Errorf("%v and %v", csr, err)
		}
		if csr != nil && csr.Request.CheckSignature() != nil {
			t.Error("a request without a valid signature")
		}
	})
}
