package pki

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Usage is a TLS role that a certificate may be presented in.
type Usage string

// The two roles of TLS. QEMU calls them endpoints.
const (
	UsageServer Usage = "server"
	UsageClient Usage = "client"
)

// KeyAlgorithm names the algorithm and size of a leaf's key.
type KeyAlgorithm string

// The key algorithms that can be asked for. Ed25519 is judged where it is
// found but is not offered: libvirt before 11.6 refuses its usual profile.
const (
	ECDSAP256 KeyAlgorithm = "ecdsa-p256"
	RSA2048   KeyAlgorithm = "rsa-2048"
	RSA3072   KeyAlgorithm = "rsa-3072"
)

// KeyUsage selects the bits of a leaf's critical key usage extension.
type KeyUsage string

const (
	// KeyUsageCompatible is digitalSignature and keyEncipherment, which every
	// libvirt and QEMU accepts.
	KeyUsageCompatible KeyUsage = "compatible"
	// KeyUsageStrict is digitalSignature alone. libvirt before 11.6 refuses it.
	KeyUsageStrict KeyUsage = "strict"
)

// A Profile says what a leaf certificate must be. It comes from policy alone;
// nothing in it is taken from a host or from a certificate request.
// In JSON the lifetime is a duration string such as "2160h0m0s".
type Profile struct {
	Name               string        `json:"name"`                          // the certificate's name in policy, such as "libvirt-server"
	CommonName         string        `json:"common_name"`                   // subject CN
	Organization       string        `json:"organization,omitempty"`        // subject O; empty leaves it out
	OrganizationalUnit string        `json:"organizational_unit,omitempty"` // subject OU, the role; empty leaves it out
	DNSNames           []string      `json:"dns_names,omitempty"`           // dNSName subject alternative names
	IPs                []netip.Addr  `json:"ips,omitempty"`                 // iPAddress subject alternative names
	Usages             []Usage       `json:"usages"`                        // roles, at least one
	KeyAlgorithm       KeyAlgorithm  `json:"key_algorithm,omitempty"`       // empty means ECDSAP256
	KeyUsage           KeyUsage      `json:"key_usage,omitempty"`           // empty means KeyUsageCompatible
	Lifetime           time.Duration `json:"lifetime"`                      // from signing to notAfter
	// Foreign says that somebody else's CA signs: it chooses the subject but for
	// its CN, and may give more usages than were asked for.
	Foreign bool `json:"foreign,omitempty"`
}

// Bounds of a profile. 825 days was the last limit that public CAs had for
// leaves; a leaf that lives longer is not renewed by anyone who remembers how.
const (
	MinLifetime = time.Hour
	MaxLifetime = 825 * 24 * time.Hour
	maxNames    = 100
)

// Algorithm is the key algorithm with its default filled in.
func (p Profile) Algorithm() KeyAlgorithm {
	if p.KeyAlgorithm == "" {
		return ECDSAP256
	}
	return p.KeyAlgorithm
}

// Validate reports everything that makes the profile unfit for a certificate,
// joined into one error.
func (p Profile) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := CheckLabel(p.Name); err != nil {
		bad("name: %w", err)
	}
	if err := CheckHostname(p.CommonName); err != nil {
		bad("common name: %w", err)
	} else if len(p.CommonName) > 64 {
		bad("common name %q has %d characters, X.509 allows 64: use a shorter name and list the long one as a DNS name", p.CommonName, len(p.CommonName))
	}
	if err := CheckSubjectText(p.Organization); p.Organization != "" && err != nil {
		bad("organization: %w", err)
	}
	if err := CheckSubjectText(p.OrganizationalUnit); p.OrganizationalUnit != "" && err != nil {
		bad("organizational unit: %w", err)
	}
	if n := len(p.DNSNames) + len(p.IPs); n > maxNames {
		bad("%d names and addresses, at most %d fit", n, maxNames)
	}
	seen := map[string]bool{}
	for _, name := range p.DNSNames {
		if err := CheckHostname(name); err != nil {
			bad("DNS name: %w", err)
		} else if seen[name] {
			bad("DNS name %q is listed twice", name)
		}
		seen[name] = true
	}
	for _, ip := range p.IPs {
		if err := CheckIP(ip); err != nil {
			bad("address: %w", err)
		} else if seen[ip.String()] {
			bad("address %s is listed twice", ip)
		}
		seen[ip.String()] = true
	}
	if len(p.Usages) == 0 {
		bad("no usage: give %q, %q or both", UsageServer, UsageClient)
	}
	for i, u := range p.Usages {
		if u != UsageServer && u != UsageClient {
			bad("usage %q is unknown: use %q or %q", u, UsageServer, UsageClient)
		} else if slices.Contains(p.Usages[:i], u) {
			bad("usage %q is listed twice", u)
		}
	}
	if slices.Contains(p.Usages, UsageServer) && len(p.DNSNames)+len(p.IPs) == 0 {
		bad("a server certificate needs every name and address that peers dial; none is given")
	}
	switch p.KeyAlgorithm {
	case "", ECDSAP256, RSA2048, RSA3072:
	default:
		bad("key algorithm %q is not offered: use %q, %q or %q", p.KeyAlgorithm, ECDSAP256, RSA3072, RSA2048)
	}
	switch p.KeyUsage {
	case "", KeyUsageCompatible, KeyUsageStrict:
	default:
		bad("key usage %q is unknown: use %q or %q", p.KeyUsage, KeyUsageCompatible, KeyUsageStrict)
	}
	if p.Lifetime < MinLifetime || p.Lifetime > MaxLifetime {
		bad("lifetime %s is outside %s to %s", p.Lifetime, MinLifetime, MaxLifetime)
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("certificate %q: %w", p.Name, errors.Join(errs...))
}

type plainProfile Profile

type profileJSON struct {
	plainProfile
	Lifetime string `json:"lifetime"`
}

// MarshalJSON writes the lifetime as a duration string.
func (p Profile) MarshalJSON() ([]byte, error) {
	return json.Marshal(profileJSON{plainProfile(p), p.Lifetime.String()})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Profile) UnmarshalJSON(data []byte) error {
	var j profileJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	d, err := time.ParseDuration(j.Lifetime)
	if err != nil {
		return fmt.Errorf("profile %q: lifetime: %w", j.Name, err)
	}
	*p = Profile(j.plainProfile)
	p.Lifetime = d
	return nil
}
