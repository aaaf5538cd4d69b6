package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Phase is where a generation of an authority stands in its life.
type Phase string

// The phases in their order. A generation that is prepared, trusting, issuing
// or draining belongs in bundles; a retired or destroyed one does not.
const (
	PhasePrepared  Phase = "prepared"  // made, signs nothing yet
	PhaseTrusting  Phase = "trusting"  // being added to every bundle
	PhaseIssuing   Phase = "issuing"   // signs new leaves
	PhaseDraining  Phase = "draining"  // signs no more, its leaves are being replaced
	PhaseRetired   Phase = "retired"   // out of every bundle
	PhaseDestroyed Phase = "destroyed" // its key is gone
)

var phases = []Phase{PhasePrepared, PhaseTrusting, PhaseIssuing, PhaseDraining, PhaseRetired, PhaseDestroyed}

// Trusted reports whether a generation of this phase belongs in bundles.
func (p Phase) Trusted() bool {
	return p == PhasePrepared || p == PhaseTrusting || p == PhaseIssuing || p == PhaseDraining
}

// A Generation is one key and CA certificate of an authority.
type Generation struct {
	Number       int       `json:"number"` // from 1
	Phase        Phase     `json:"phase"`
	Cert         []byte    `json:"cert"`              // DER
	Parents      [][]byte  `json:"parents,omitempty"` // DER, from the issuer of Cert up to a self-signed root; empty when Cert is self-signed
	SubjectKeyID string    `json:"subject_key_id"`    // lower-case hex
	NotBefore    time.Time `json:"not_before"`
	NotAfter     time.Time `json:"not_after"`
	CRL          []byte    `json:"crl,omitempty"`        // DER of the newest full CRL, which [CheckCRL] accepted when it was read
	CRLNumber    uint64    `json:"crl_number,omitempty"` // 0 when no CRL was made
	Revoked      []string  `json:"revoked,omitempty"`    // serials as SerialText has them

	// What a ledger knows beside the files; empty without one.
	SignedCRL  uint64   `json:"signed_crl,omitempty"` // the highest number of a list that was signed
	Unlisted   []string `json:"unlisted,omitempty"`   // revoked, and not on CRL
	Unrecorded []string `json:"unrecorded,omitempty"` // on CRL and in use, and not recorded as revoked
}

// NewGeneration fills a generation from its certificate.
func NewGeneration(number int, phase Phase, cert *x509.Certificate) Generation {
	return Generation{
		Number: number, Phase: phase, Cert: cert.Raw, SubjectKeyID: hexID(cert.SubjectKeyId),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
	}
}

// Certificate parses Cert.
func (g Generation) Certificate() (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(g.Cert)
	if err != nil {
		return nil, fmt.Errorf("generation %d: %w", g.Number, err)
	}
	return c, nil
}

// IsRevoked reports whether the serial is on the generation's list.
func (g Generation) IsRevoked(serial string) bool { return slices.Contains(g.Revoked, serial) }

// An Authority is a certificate authority for one trust purpose, as its public
// files show it. It holds no key.
type Authority struct {
	Name        string       `json:"name"`
	Generations []Generation `json:"generations"`
}

// Issuing is the generation that signs new leaves: of those in phase issuing
// the one with the highest number.
func (a Authority) Issuing() (Generation, bool) {
	var best Generation
	for _, g := range a.Generations {
		if g.Phase == PhaseIssuing && g.Number > best.Number {
			best = g
		}
	}
	return best, best.Number > 0
}

// Trusted lists the generations that belong in a bundle now: the issuing ones
// first, within a phase the newest first.
func (a Authority) Trusted() []Generation {
	var out []Generation
	for _, g := range a.Generations {
		if g.Phase.Trusted() {
			out = append(out, g)
		}
	}
	rank := func(g Generation) int {
		if g.Phase == PhaseIssuing {
			return 0
		}
		return 1
	}
	slices.SortFunc(out, func(x, y Generation) int {
		if d := rank(x) - rank(y); d != 0 {
			return d
		}
		return y.Number - x.Number
	})
	return out
}

// Bundle is what a CA file of this authority holds now. libvirt's bundle has
// the issuing CAs alone, because a root in it would let every sibling CA's
// leaves in; QEMU's has their parents, too, because it wants a chain up to a
// self-signed CA.
func (a Authority) Bundle(c Consumer) (*Bundle, error) {
	b := &Bundle{}
	add := func(der []byte) error {
		cert, err := x509.ParseCertificate(der)
		if err == nil && !b.Contains(cert) {
			b.Certs = append(b.Certs, cert)
		}
		return err
	}
	trusted := a.Trusted()
	for _, g := range trusted {
		if err := add(g.Cert); err != nil {
			return nil, fmt.Errorf("authority %q: generation %d: %w", a.Name, g.Number, err)
		}
	}
	if c == ConsumerQEMU {
		for _, g := range trusted {
			for _, der := range g.Parents {
				if err := add(der); err != nil {
					return nil, fmt.Errorf("authority %q: parent of generation %d: %w", a.Name, g.Number, err)
				}
			}
		}
	}
	return b, nil
}

// All lists the certificates of every generation, whatever its phase, with
// their parents: what Merge must know as ours.
func (a Authority) All() ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, g := range a.Generations {
		for _, der := range slices.Concat([][]byte{g.Cert}, g.Parents) {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("authority %q: generation %d: %w", a.Name, g.Number, err)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// Missing lists the trusted generations whose certificate a bundle lacks.
func (a Authority) Missing(b *Bundle) []Generation {
	return slices.DeleteFunc(a.Trusted(), func(g Generation) bool {
		return slices.ContainsFunc(b.Certs, func(c *x509.Certificate) bool { return slices.Equal(c.Raw, g.Cert) })
	})
}

// KeyIDs lists the subject key identifiers (hex) of the trusted generations.
func (a Authority) KeyIDs() []string {
	var ids []string
	for _, g := range a.Trusted() {
		ids = append(ids, g.SubjectKeyID)
	}
	return ids
}

// Validate reports what makes the authority's public files unfit for use: two
// generations of one number or one name, phases out of their set, a
// certificate that does not say what its generation says.
func (a Authority) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := CheckLabel(a.Name); err != nil {
		bad("name %w", err)
	}
	numbers, names := map[int]bool{}, map[string]int{}
	for _, g := range a.Generations {
		if g.Number < 1 || numbers[g.Number] {
			bad("generation %d: its number is not positive or occurs twice", g.Number)
		}
		numbers[g.Number] = true
		if !slices.Contains(phases, g.Phase) {
			bad("generation %d: phase %q is unknown", g.Number, g.Phase)
		}
		c, err := g.Certificate()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if other, twice := names[string(c.RawSubject)]; twice {
			bad("generation %d: its subject %s is also that of generation %d, and revocation lists would be mixed up", g.Number, quoteDN(c.RawSubject), other)
		}
		names[string(c.RawSubject)] = g.Number
		switch {
		case !c.BasicConstraintsValid || !c.IsCA:
			bad("generation %d: its certificate is not a CA", g.Number)
		case len(c.SubjectKeyId) == 0 || hexID(c.SubjectKeyId) != g.SubjectKeyID:
			bad("generation %d: the subject key identifier is not that of its certificate", g.Number)
		case !c.NotAfter.Equal(g.NotAfter) || !c.NotBefore.Equal(g.NotBefore):
			bad("generation %d: the dates are not those of its certificate", g.Number)
		}
		for _, s := range g.Revoked {
			if _, err := ParseSerial(s); err != nil {
				bad("generation %d: %w", g.Number, err)
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("authority %q: %w", a.Name, errors.Join(errs...))
}

// A Proof records that a host was seen to serve a leaf and which peers it
// accepted then.
type Proof struct {
	Host        string    `json:"host"`
	Certificate string    `json:"certificate"` // Profile.Name
	LeafSHA256  string    `json:"leaf_sha256"` // lower-case hex of the digest of the DER
	At          time.Time `json:"at"`
	Peers       []string  `json:"peers,omitempty"`  // hosts whose client certificate was accepted
	Loaded      []string  `json:"loaded,omitempty"` // subject key ids (hex) of the CAs seen loaded
}

// A Failure records why the last attempts to change or prove a certificate of
// a host did not succeed.
type Failure struct {
	Host        string    `json:"host"`
	Certificate string    `json:"certificate"`
	At          time.Time `json:"at"`
	Attempts    int       `json:"attempts"`       // consecutive, at least 1
	Text        string    `json:"text"`           // may hold what a host said
	Wish        string    `json:"wish,omitempty"` // digest of what the last attempt wanted
}

// Trust is a snapshot of all authorities, read once before planning, with the
// last proof and the last failure of each host and certificate.
type Trust struct {
	Authorities []Authority `json:"authorities"`
	Proofs      []Proof     `json:"proofs,omitempty"`
	Failures    []Failure   `json:"failures,omitempty"`
}

// Authority finds an authority by name.
func (t Trust) Authority(name string) (Authority, bool) {
	i := slices.IndexFunc(t.Authorities, func(a Authority) bool { return a.Name == name })
	if i < 0 {
		return Authority{}, false
	}
	return t.Authorities[i], true
}

// Missing lists, sorted, those of the names for which there is no authority
// with an issuing generation.
func (t Trust) Missing(names ...string) []string {
	var out []string
	for _, name := range names {
		a, ok := t.Authority(name)
		if ok {
			_, ok = a.Issuing()
		}
		if !ok && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Proof finds the last proof of a host's certificate.
func (t Trust) Proof(host, certificate string) (Proof, bool) {
	var best Proof
	found := false
	for _, p := range t.Proofs {
		if p.Host == host && p.Certificate == certificate && (!found || p.At.After(best.At)) {
			best, found = p, true
		}
	}
	return best, found
}

// Failure finds the last failure of a host's certificate.
func (t Trust) Failure(host, certificate string) (Failure, bool) {
	var best Failure
	found := false
	for _, f := range t.Failures {
		if f.Host == host && f.Certificate == certificate && (!found || f.At.After(best.At)) {
			best, found = f, true
		}
	}
	return best, found
}

// Validate validates every authority and that their names differ.
func (t Trust) Validate() error {
	var errs []error
	seen := map[string]bool{}
	for _, a := range t.Authorities {
		if seen[a.Name] {
			errs = append(errs, fmt.Errorf("authority %q occurs twice", a.Name))
		}
		seen[a.Name] = true
		errs = append(errs, a.Validate())
	}
	return errors.Join(errs...)
}

// Digest is the SHA-256 in hex of what a plan depends on: the generations,
// their phases, CRL numbers and revoked serials. The order of authorities,
// generations and serials does not matter; proofs and failures do not count.
func (t Trust) Digest() string {
	type line struct {
		Authority string
		Number    int
		Phase     Phase
		Certs     []string
		CRL       uint64
		Revoked   []string
	}
	sum := func(der []byte) string { s := sha256.Sum256(der); return hex.EncodeToString(s[:]) }
	var lines []string
	for _, a := range t.Authorities {
		for _, g := range a.Generations {
			l := line{Authority: a.Name, Number: g.Number, Phase: g.Phase, Certs: []string{sum(g.Cert)}, CRL: g.CRLNumber}
			for _, p := range g.Parents {
				l.Certs = append(l.Certs, sum(p))
			}
			l.Revoked = slices.Compact(slices.Sorted(slices.Values(g.Revoked)))
			data, err := json.Marshal(l)
			if err != nil {
				panic(err) // strings and numbers always marshal
			}
			lines = append(lines, string(data))
		}
	}
	slices.Sort(lines)
	return sum([]byte(strings.Join(lines, "\n")))
}
