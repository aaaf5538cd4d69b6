package pki_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

const day = 24 * time.Hour

func TestDue(t *testing.T) {
	from := testNow.Add(-time.Hour)
	due := func(given, before, asked time.Duration, host string) time.Duration {
		return from.Add(given).Sub(pki.Due(from, from.Add(given), before, asked, host, "c"))
	}
	for i := range 200 {
		host := fmt.Sprintf("kvm%d", i)
		for _, c := range []struct{ given, before, asked, want time.Duration }{
			{90*day + time.Hour, 0, 90 * day, 30 * day},
			{90*day + time.Hour, 10 * day, 90 * day, 10 * day},
			{45 * day, 0, 90 * day, 15 * day},
			{45 * day, 30 * day, 90 * day, 15 * day},
			{90 * day, 0, 0, 30 * day},
			{90 * day, 89 * day, 90 * day, 60 * day},
		} {
			life := min(c.given, max(c.asked, 0))
			if c.asked == 0 {
				life = c.given
			}
			if got := due(c.given, c.before, c.asked, host); got < c.want || got >= c.want+life/10+time.Second {
				t.Errorf("%s %+v: %s before the end", host, c, got)
			}
		}
		// What was just issued is not due, however short it is.
		for _, life := range []time.Duration{time.Hour, day, 90 * day} {
			if !pki.Due(from, testNow.Add(life), 2*life, life, host, "c").After(testNow) {
				t.Errorf("%s: %s is due at once", host, life)
			}
		}
	}
}

func TestSpread(t *testing.T) {
	seen := map[time.Duration]bool{}
	for i := range 100 {
		s := pki.Spread(90*day, fmt.Sprintf("kvm%d", i), "libvirt-server")
		if s < 0 || s >= 9*day {
			t.Errorf("spread %s", s)
		}
		seen[s] = true
	}
	if len(seen) < 95 {
		t.Errorf("%d different spreads for 100 hosts", len(seen))
	}
	first, again := pki.Spread(90*day, "kvm1", "a"), pki.Spread(90*day, "kvm1", "a")
	if first == pki.Spread(90*day, "kvm1", "b") || first != again {
		t.Error("the spread does not depend on the certificate, or on something else")
	}
	if got := pki.Spread(90*day, "kvm1", "libvirt-server"); got != 347808*time.Second {
		t.Errorf("the spread moved to %s: every fleet would be renewed at other times", got)
	}
}

func TestCompare(t *testing.T) {
	_, ca, key := newCA(t)
	p := leafProfile()
	leaf := sign(t, ca, key, p).Cert
	ids := []string{"00ff", pki.NewGeneration(1, pki.PhaseIssuing, ca).SubjectKeyID}
	if d := pki.Compare(leaf, p, ids); len(d) != 0 {
		t.Errorf("%v", d)
	}
	for name, c := range map[string]struct {
		change func(*pki.Profile)
		field  pki.Field
	}{
		"name":         {func(p *pki.Profile) { p.DNSNames = p.DNSNames[:1] }, pki.FieldNames},
		"address":      {func(p *pki.Profile) { p.IPs = p.IPs[1:] }, pki.FieldNames},
		"CN":           {func(p *pki.Profile) { p.CommonName = "kvm2" }, pki.FieldSubject},
		"organization": {func(p *pki.Profile) { p.Organization = "Other" }, pki.FieldSubject},
		"usage":        {func(p *pki.Profile) { p.Usages = []pki.Usage{pki.UsageClient, pki.UsageServer} }, pki.FieldUsages},
		"key":          {func(p *pki.Profile) { p.KeyAlgorithm = pki.RSA3072 }, pki.FieldKey},
		"key usage":    {func(p *pki.Profile) { p.KeyUsage = pki.KeyUsageStrict }, ""},
		"lifetime":     {func(p *pki.Profile) { p.Lifetime = day }, ""},
		"order":        {func(p *pki.Profile) { p.DNSNames = []string{p.DNSNames[1], p.DNSNames[0]} }, ""},
	} {
		q := leafProfile()
		c.change(&q)
		d := pki.Compare(leaf, q, ids)
		if c.field == "" && len(d) != 0 || c.field != "" && (len(d) != 1 || d[0].Field != c.field) {
			t.Errorf("%s: %v", name, d)
		}
	}
	if d := pki.Compare(leaf, p, ids[:1]); len(d) != 1 || d[0].Field != pki.FieldIssuer {
		t.Errorf("issuer: %v", d)
	}
}
