package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Due is when a certificate is to be renewed: notAfter less renewBefore less
// the spread of its host.
//
// A renewBefore of 0 means a third of the lifetime asked. Where an issuer gave
// less than was asked, it shrinks in proportion. It never takes more than two
// thirds of the life, so that a certificate just issued is not due at once.
// The life is notAfter less notBefore, but at most the lifetime asked, since
// notBefore is backdated; lifetimeAsked of 0 means not known.
func Due(notBefore, notAfter time.Time, renewBefore, lifetimeAsked time.Duration, host, certificate string) time.Time {
	given := max(notAfter.Sub(notBefore), 0)
	asked := lifetimeAsked
	if asked <= 0 {
		asked = given
	}
	life := min(given, asked)
	if renewBefore <= 0 {
		renewBefore = asked / 3
	}
	if life < asked {
		renewBefore = time.Duration(float64(renewBefore) * float64(life) / float64(asked))
	}
	renewBefore = min(renewBefore, life/3*2)
	return notAfter.Add(-renewBefore - Spread(life, host, certificate)).Truncate(time.Second)
}

// Spread is how much earlier than others a host renews a certificate, so that
// a fleet made in one hour is not renewed in one hour: a hash of host and
// certificate, from 0 to less than a tenth of the life, in whole seconds.
func Spread(life time.Duration, host, certificate string) time.Duration {
	tenth := int64(life / 10 / time.Second)
	if tenth <= 0 {
		return 0
	}
	sum := sha256.Sum256([]byte(host + "\x00" + certificate))
	return time.Duration(binary.BigEndian.Uint64(sum[:8])%uint64(tenth)) * time.Second
}

// Field names what a Difference is about.
type Field string

// The closed list of what is compared between a live certificate and its
// profile. Nothing else re-issues a certificate: not the key usage, not dates,
// not the order of a subject.
const (
	FieldIssuer  Field = "issuer key"
	FieldSubject Field = "subject"
	FieldNames   Field = "names"
	FieldUsages  Field = "usages"
	FieldKey     Field = "key algorithm"
)

// A Difference is one point in which a live certificate is not what its
// profile asks for.
type Difference struct {
	Field Field  `json:"field"`
	Have  string `json:"have"` // from the certificate, which anyone may have made
	Want  string `json:"want"`
}

// Compare lists the differences between a leaf and its profile. issuerKeyIDs
// are the key identifiers (hex) of the CAs whose leaf it may be.
func Compare(leaf *x509.Certificate, p Profile, issuerKeyIDs []string) []Difference {
	var out []Difference
	add := func(f Field, have, want string) {
		if have != want {
			out = append(out, Difference{f, have, want})
		}
	}
	if id := hexID(leaf.AuthorityKeyId); id == "" || !slices.Contains(issuerKeyIDs, id) {
		add(FieldIssuer, orNone(id), orNone(strings.Join(issuerKeyIDs, " or ")))
	}
	if p.Foreign {
		add(FieldSubject, "CN="+leaf.Subject.CommonName, "CN="+p.CommonName)
	} else {
		subject := func(o, ou, cn string) string { return fmt.Sprintf("O=%s,OU=%s,CN=%s", o, ou, cn) }
		first := func(s []string) string { return strings.Join(s, "+") }
		add(FieldSubject, subject(first(leaf.Subject.Organization), first(leaf.Subject.OrganizationalUnit), leaf.Subject.CommonName),
			subject(p.Organization, p.OrganizationalUnit, p.CommonName))
	}
	add(FieldNames, namesOf(leaf, p), wantedNames(p))
	if !p.Foreign || !covers(leaf, p.Usages) {
		add(FieldUsages, usagesOf(leaf), joinSorted(p.Usages))
	}
	add(FieldKey, string(AlgorithmOf(leaf.PublicKey)), string(p.Algorithm()))
	return out
}

func wantedNames(p Profile) string {
	names := slices.Clone(p.DNSNames)
	for _, ip := range p.IPs {
		names = append(names, ip.String())
	}
	return orNone(joinSorted(names))
}

func namesOf(leaf *x509.Certificate, p Profile) string {
	var names []string
	for _, n := range leaf.DNSNames {
		n = strings.ToLower(n)
		// Many issuers add the CN as a name by themselves.
		if n == p.CommonName && !slices.Contains(p.DNSNames, n) {
			continue
		}
		names = append(names, n)
	}
	for _, b := range leaf.IPAddresses {
		if ip, ok := netip.AddrFromSlice(b); ok {
			names = append(names, ip.String())
		}
	}
	return orNone(joinSorted(names))
}

// Excess lists the usages of a leaf that its profile does not ask for.
func Excess(leaf *x509.Certificate, p Profile) []Usage {
	var out []Usage
	for _, u := range []Usage{UsageServer, UsageClient} {
		if !slices.Contains(p.Usages, u) && covers(leaf, []Usage{u}) {
			out = append(out, u)
		}
	}
	return out
}

// covers tells whether a leaf may be used in every one of the roles.
func covers(leaf *x509.Certificate, usages []Usage) bool {
	if !hasExtension(leaf, oidExtPurpose) {
		return true
	}
	have := purposes(leaf)
	for _, u := range usages {
		id := oidServerAuth
		if u == UsageClient {
			id = oidClientAuth
		}
		if !slices.ContainsFunc(have, func(o asn1.ObjectIdentifier) bool { return o.Equal(id) || o.Equal(oidAnyPurpose) }) {
			return false
		}
	}
	return true
}

func usagesOf(leaf *x509.Certificate) string {
	if !hasExtension(leaf, oidExtPurpose) {
		return "any"
	}
	var have []Usage
	for _, id := range purposes(leaf) {
		switch {
		case id.Equal(oidServerAuth):
			have = append(have, UsageServer)
		case id.Equal(oidClientAuth):
			have = append(have, UsageClient)
		case id.Equal(oidAnyPurpose):
			have = append(have, "any")
		}
	}
	return orNone(joinSorted(have))
}

func joinSorted[T ~string](in []T) string {
	var s []string
	for _, v := range slices.Sorted(slices.Values(in)) {
		s = append(s, string(v))
	}
	return strings.Join(slices.Compact(s), ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
