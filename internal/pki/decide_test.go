package pki_test

import (
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// One certificate of 90 days that is due 30 days and its spread before its end,
// at moments of a clock that is set by hand.
func TestDecide(t *testing.T) {
	_, ca, key := newCA(t)
	p := leafProfile()
	p.Lifetime = 90 * day
	leaf := sign(t, ca, key, p).Cert
	authority := pki.Authority{Name: "libvirt", Generations: []pki.Generation{pki.NewGeneration(1, pki.PhaseIssuing, ca)}}
	due := pki.Due(leaf.NotBefore, leaf.NotAfter, 30*day, p.Lifetime, "kvm1", p.Name)
	half := leaf.NotAfter.Add(-leaf.NotAfter.Sub(due) / 2)
	situation := func(now time.Time) pki.Situation {
		return pki.Situation{Now: now, Host: "kvm1", Profile: p, RenewBefore: 30 * day, Authority: authority, Leaf: leaf}
	}
	other := sign(t, ca, key, p).Cert
	for name, c := range map[string]struct {
		at     time.Time
		change func(*pki.Situation)
		want   pki.Urgency
		reason string
		reload bool
	}{
		"young":         {at: testNow, want: pki.NotDue},
		"a second left": {at: due.Add(-time.Second), want: pki.NotDue},
		"due":           {at: due, want: pki.RenewalDue, reason: "renewal is due since"},
		"not urgent":    {at: half.Add(-time.Second), want: pki.RenewalDue, reason: "expires"},
		"urgent":        {at: half, want: pki.Urgent, reason: "expires"},
		"not emergency": {at: leaf.NotAfter.Add(-90*day/20 - time.Second), want: pki.Urgent, reason: "expires"},
		"emergency":     {at: leaf.NotAfter.Add(-90 * day / 20), want: pki.Emergency, reason: "expires"},
		"expired":       {at: leaf.NotAfter, want: pki.Emergency, reason: "expired"},
		"future":        {at: testNow, change: func(s *pki.Situation) { s.HostNow = leaf.NotBefore.Add(-time.Minute) }, want: pki.Emergency, reason: "not valid before"},
		"none":          {at: testNow, change: func(s *pki.Situation) { s.Leaf, s.Unfit = nil, "new" }, want: pki.Replace, reason: "new"},
		"key is gone":   {at: testNow, change: func(s *pki.Situation) { s.Unfit = "the key is missing" }, want: pki.Replace, reason: "the key is missing"},
		"names":         {at: testNow, change: func(s *pki.Situation) { s.Profile.DNSNames = []string{"other.example.com"} }, want: pki.Replace, reason: "names changed"},
		"names and due": {at: due, change: func(s *pki.Situation) { s.Profile.DNSNames = []string{"other.example.com"} }, want: pki.RenewalDue, reason: "names changed"},
		"usages":        {at: testNow, change: func(s *pki.Situation) { s.Profile.Usages = []pki.Usage{pki.UsageServer, pki.UsageClient} }, want: pki.Replace, reason: "usages changed"},
		"drift":         {at: testNow, change: func(s *pki.Situation) { s.Drift = "drift: no link" }, want: pki.Replace, reason: "drift"},
		"asked":         {at: testNow, change: func(s *pki.Situation) { s.Asked = true }, want: pki.Replace, reason: "asked for"},
		"asked and due": {at: due, change: func(s *pki.Situation) { s.Asked = true }, want: pki.RenewalDue, reason: "expires"},
		"revoked": {at: testNow, change: func(s *pki.Situation) {
			g := authority.Generations[0]
			g.Revoked = []string{pki.SerialText(leaf.SerialNumber)}
			s.Authority.Generations = []pki.Generation{g}
		}, want: pki.Emergency, reason: "it is revoked"},
		"draining": {at: testNow, change: func(s *pki.Situation) {
			g := authority.Generations[0]
			g.Phase = pki.PhaseDraining
			s.Authority.Generations = []pki.Generation{g, {Number: 2, Phase: pki.PhaseIssuing, SubjectKeyID: "ff"}}
		}, want: pki.Replace, reason: "generation 1 of authority libvirt, which signed it, is draining"},
		"foreign": {at: testNow, change: func(s *pki.Situation) {
			s.Authority.Generations = []pki.Generation{{Number: 1, Phase: pki.PhaseIssuing, SubjectKeyID: "ff"}}
		}, want: pki.Replace, reason: "another authority signed it"},
		"served":       {at: testNow, change: func(s *pki.Situation) { s.Served = leaf.Raw }, want: pki.NotDue},
		"other served": {at: testNow, change: func(s *pki.Situation) { s.Served = other.Raw }, want: pki.RenewalDue, reason: "another certificate is served", reload: true},
		"old served": {at: testNow, change: func(s *pki.Situation) {
			s.Served = sign(t, ca, key, withLifetime(p, time.Hour)).Cert.Raw
			s.Now = testNow.Add(2 * time.Hour)
		}, want: pki.Emergency, reason: "that is served expired", reload: true},
		"other served and due": {at: due, change: func(s *pki.Situation) { s.Served = other.Raw }, want: pki.RenewalDue, reason: "expires"},
	} {
		s := situation(c.at)
		if c.change != nil {
			c.change(&s)
		}
		d := pki.Decide(s)
		issue := c.want != pki.NotDue && !c.reload
		if d.Urgency != c.want || !strings.Contains(d.Reason, c.reason) || (d.Reason == "") != (c.reason == "") || d.Issue != issue || d.Reload != c.reload {
			t.Errorf("%s: %+v", name, d)
		}
		if s.Leaf != nil && !d.Due.Equal(due) && c.change == nil {
			t.Errorf("%s: due %s, want %s", name, d.Due, due)
		}
	}
}

func withLifetime(p pki.Profile, d time.Duration) pki.Profile {
	p.Lifetime = d
	return p
}

func TestBackoff(t *testing.T) {
	for n, want := range []time.Duration{0, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 16 * time.Hour, 32 * time.Hour, 32 * time.Hour} {
		if got := pki.Backoff(n, pki.RenewalDue); got != want {
			t.Errorf("%d attempts: %s, want %s", n, got, want)
		}
		if got := pki.Backoff(n, pki.Urgent); got != min(want, 4*time.Hour) {
			t.Errorf("%d attempts, urgent: %s", n, got)
		}
		if got := pki.Backoff(n, pki.Emergency); got != 0 {
			t.Errorf("%d attempts, emergency: %s", n, got)
		}
	}
	if got := pki.Backoff(1<<30, pki.RenewalDue); got != 32*time.Hour {
		t.Errorf("very many attempts: %s", got)
	}
}
