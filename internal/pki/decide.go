package pki

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Urgency says how pressing it is to renew a certificate.
type Urgency string

// The urgencies. What is due, urgent or an emergency is a renewal: the same
// certificate with a later end. To replace is to make another one, because the
// one in place is not what is wanted.
const (
	NotDue     Urgency = "none"
	RenewalDue Urgency = "due"       // its time has come; there is plenty left
	Urgent     Urgency = "urgent"    // half of the time between due and end is over
	Emergency  Urgency = "emergency" // a twentieth of the life is left, or nothing, or it is revoked
	Replace    Urgency = "replace"
)

// A Situation is all that the decision about one certificate of a host depends
// on.
type Situation struct {
	Now     time.Time
	HostNow time.Time // of the host's clock; zero is Now
	Host    string
	Profile Profile
	// RenewBefore is as in Due.
	RenewBefore time.Duration
	// Authority signs the certificate: its phases and what it revoked count.
	Authority Authority
	// Leaf is in place; nil where there is none, and Unfit says why.
	Leaf *x509.Certificate
	// Unfit says why the pair in place is of no use whatever its certificate
	// says: the key is missing, others can read it. Empty where it is fit.
	Unfit string
	// Drift says that the pair lies elsewhere than it should. Empty where not.
	Drift string
	// Served is the leaf that a listener shows, DER; nil where there is no
	// listener or it was not seen.
	Served []byte
	// Asked is set where somebody asked for another certificate.
	Asked bool
}

// A Decision is what is to be done about one certificate.
type Decision struct {
	Urgency Urgency   `json:"urgency"`
	Reason  string    `json:"reason,omitempty"` // one phrase for people; empty with NotDue
	Due     time.Time `json:"due,omitzero"`     // of the certificate in place; zero where there is none
	// Issue is set where a certificate is to be made, Reload where the one in
	// place is only to be taken up by the listener.
	Issue  bool `json:"issue,omitempty"`
	Reload bool `json:"reload,omitempty"`
}

// Decide says whether a certificate is renewed or replaced, and why. It has no
// clock and asks nothing.
func Decide(s Situation) Decision {
	if s.HostNow.IsZero() {
		s.HostNow = s.Now
	}
	d := Decision{Urgency: NotDue}
	if s.Leaf != nil {
		d.Due = s.due(s.Leaf)
	}
	issue := func(u Urgency, reason string) Decision {
		d.Urgency, d.Reason, d.Issue = u, reason, true
		return d
	}
	if s.Leaf == nil {
		return issue(Replace, orText(s.Unfit, "there is no certificate"))
	}
	u, end := s.end()
	// What is wrong and due as well is a renewal: waiting would let it expire.
	replace := func(why string) Decision {
		if u == NotDue {
			return issue(Replace, why)
		}
		return issue(u, why+"; "+end)
	}
	switch wrong := s.wrong(); {
	case s.Unfit != "":
		return replace(s.Unfit)
	case s.revoked():
		return issue(Emergency, "it is revoked")
	case wrong != "":
		return replace(wrong)
	case s.Drift != "":
		return replace(s.Drift)
	case u != NotDue:
		return issue(u, end)
	case s.Asked:
		return issue(Replace, "asked for")
	}
	if s.Served != nil && !bytes.Equal(s.Served, s.Leaf.Raw) {
		d.Urgency, d.Reload, d.Reason = RenewalDue, true, "another certificate is served than the one on disk"
		if old, err := x509.ParseCertificate(s.Served); err == nil {
			if u := s.left(old); u != NotDue {
				d.Urgency = u
			}
			if !old.NotAfter.After(s.Now) {
				d.Reason = "the certificate that is served expired " + day(old.NotAfter) + ", the one on disk is good"
			}
		}
	}
	return d
}

// end says what the leaf's dates ask for.
func (s Situation) end() (Urgency, string) {
	switch {
	case !s.Leaf.NotAfter.After(s.Now):
		return Emergency, "expired " + day(s.Leaf.NotAfter)
	case s.Leaf.NotBefore.After(s.HostNow):
		return Emergency, "not valid before " + day(s.Leaf.NotBefore)
	}
	u := s.left(s.Leaf)
	if u == NotDue {
		return u, ""
	}
	return u, fmt.Sprintf("expires %s, renewal is due since %s", day(s.Leaf.NotAfter), day(s.due(s.Leaf)))
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// wrong says in what the leaf is not what is wanted.
func (s Situation) wrong() string {
	var ids []string
	if g, ok := s.Authority.Issuing(); ok {
		ids = []string{g.SubjectKeyID}
	}
	var parts []string
	for _, d := range Compare(s.Leaf, s.Profile, ids) {
		if d.Field == FieldIssuer {
			parts = append(parts, s.otherIssuer())
			continue
		}
		parts = append(parts, fmt.Sprintf("%s changed (has %s, wants %s)", d.Field, d.Have, d.Want))
	}
	return strings.Join(parts, "; ")
}

func (s Situation) otherIssuer() string {
	if g, ok := s.signedBy(); ok {
		return fmt.Sprintf("generation %d of authority %s, which signed it, is %s", g.Number, s.Authority.Name, g.Phase)
	}
	return "another authority signed it"
}

func (s Situation) signedBy() (Generation, bool) {
	id := hexID(s.Leaf.AuthorityKeyId)
	i := slices.IndexFunc(s.Authority.Generations, func(g Generation) bool { return id != "" && g.SubjectKeyID == id })
	if i < 0 {
		return Generation{}, false
	}
	return s.Authority.Generations[i], true
}

func (s Situation) revoked() bool {
	g, ok := s.signedBy()
	return ok && g.IsRevoked(SerialText(s.Leaf.SerialNumber))
}

func (s Situation) due(c *x509.Certificate) time.Time {
	return Due(c.NotBefore, c.NotAfter, s.RenewBefore, s.Profile.Lifetime, s.Host, s.Profile.Name)
}

func (s Situation) left(c *x509.Certificate) Urgency {
	return Grade(s.Now, c.NotBefore, c.NotAfter, s.due(c), s.Profile.Lifetime)
}

// Grade says how pressing the renewal of a certificate is by its dates alone.
// due is from Due, lifetimeAsked of 0 means not known.
func Grade(now, notBefore, notAfter, due time.Time, lifetimeAsked time.Duration) Urgency {
	left, life := notAfter.Sub(now), notAfter.Sub(notBefore)
	if lifetimeAsked > 0 {
		life = min(life, lifetimeAsked)
	}
	switch {
	case due.After(now):
		return NotDue
	case left <= life/20:
		return Emergency
	case left <= notAfter.Sub(due)/2:
		return Urgent
	}
	return RenewalDue
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// The bounds of Backoff.
const (
	firstBackoff = time.Hour
	lastBackoff  = 32 * time.Hour
	urgentLimit  = 4 * time.Hour
)

// Backoff is how long after that many failures in a row the next attempt
// waits: an hour, then twice as long each time, 32 hours at most. What is urgent
// waits four hours at most, and an emergency waits for nothing.
func Backoff(attempts int, u Urgency) time.Duration {
	if attempts <= 0 || u == Emergency {
		return 0
	}
	wait := lastBackoff
	if attempts < 6 {
		wait = firstBackoff << (attempts - 1)
	}
	if u == Urgent {
		wait = min(wait, urgentLimit)
	}
	return wait
}
