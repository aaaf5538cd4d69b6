package facts

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Kind says what a query asks of its subject.
type Kind string

// The kinds of questions that the script answers.
const (
	// KindStat asks for a path's own type, owner, mode and, for a link, its
	// target; links are followed (see Follow) with the same question.
	KindStat Kind = "stat"
	// KindContent is KindStat and the content of regular files up to
	// MaxContent bytes. Never ask it of a private key.
	KindContent Kind = "content"
	// KindKey is KindStat and the public half of a private key, derived on
	// the host; the private half never leaves it.
	KindKey Kind = "key"
	// KindDir is KindStat and the names in a directory.
	KindDir Kind = "dir"
	// KindUnit asks systemd for one unit's state.
	KindUnit Kind = "unit"
	// KindFirewall asks for the rules of whatever filters packets. The units
	// that could own them have to be asked for, too: the answer is cut to those
	// that are active.
	KindFirewall Kind = "firewall"
	// KindConsoles asks for the VNC consoles of the running guests.
	KindConsoles Kind = "consoles"
	// KindListening asks for the TCP ports that something listens on.
	KindListening Kind = "listening"
	// KindAddresses asks for the addresses of the host's interfaces.
	KindAddresses Kind = "addresses"
)

// Bounds of what one look may bring back.
const (
	MaxContent = 1 << 20 // bytes of one file; larger ones are reported without content
	MaxPaths   = 200     // paths that follow may add
	MaxDepth   = 4       // links or settings that follow goes through
	MaxEntries = 1000    // names of one directory
)

// Query is one question about a host.
type Query struct {
	Kind    Kind   `json:"kind"`
	Subject string `json:"subject"` // an absolute clean path, or a unit's name
	// Follow names settings (ca_file, cert_file …) of the configuration file
	// Subject whose values are paths to ask about, too.
	Follow []string `json:"follow,omitempty"`
}

// Stat asks for a path's metadata.
func Stat(p string) Query { return Query{Kind: KindStat, Subject: p} }

// Content asks for a path's metadata and content.
func Content(p string, follow ...string) Query {
	return Query{Kind: KindContent, Subject: p, Follow: follow}
}

// Key asks for the public half of the private key at a path.
func Key(p string) Query { return Query{Kind: KindKey, Subject: p} }

// Dir asks for the names in a directory.
func Dir(p string) Query { return Query{Kind: KindDir, Subject: p} }

// Unit asks for the state of a systemd unit.
func Unit(name string) Query { return Query{Kind: KindUnit, Subject: name} }

// Firewall asks for the packet filter's rules (see [Host.Firewall]).
func Firewall() Query { return Query{Kind: KindFirewall} }

// Consoles asks for the VNC consoles of the running guests (see
// [Host.Consoles]).
func Consoles() Query { return Query{Kind: KindConsoles} }

// Listening asks for the TCP ports that something listens on (see
// [Host.Listening]).
func Listening() Query { return Query{Kind: KindListening} }

// Addresses asks for the host's addresses (see [Host.Addresses]).
func Addresses() Query { return Query{Kind: KindAddresses} }

// Check reports a query that cannot be asked: a relative or unclean path, a
// unit name with characters systemd does not allow.
func (q Query) Check() error {
	switch q.Kind {
	case KindStat, KindContent, KindKey, KindDir:
		if !path.IsAbs(q.Subject) || path.Clean(q.Subject) != q.Subject {
			return fmt.Errorf("facts: %q is not an absolute, clean path", q.Subject)
		}
		if strings.ContainsAny(q.Subject, "\x00\n\r") {
			return fmt.Errorf("facts: path %q holds a control character", q.Subject)
		}
	case KindUnit:
		if q.Subject == "" || strings.Trim(q.Subject, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@") != "" || q.Subject[0] == '-' {
			return fmt.Errorf("facts: %q is not a unit's name", q.Subject)
		}
	case KindFirewall, KindConsoles, KindListening, KindAddresses:
		if q.Subject != "" {
			return fmt.Errorf("facts: a query of kind %s has no subject, %q is none", q.Kind, q.Subject)
		}
	default:
		return fmt.Errorf("facts: unknown kind of query %q", q.Kind)
	}
	for _, k := range q.Follow {
		if k == "" || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return fmt.Errorf("facts: %q is not a settings key", k)
		}
	}
	return nil
}

// Merge drops repeated questions and puts the rest in a stable order, so that
// the same set of tasks always sends the same script.
func Merge(qs []Query) []Query {
	byKey := map[string]Query{}
	for _, q := range qs {
		k := string(q.Kind) + "\x00" + q.Subject
		old, ok := byKey[k]
		if ok {
			q.Follow = append(slices.Clone(old.Follow), q.Follow...)
		}
		slices.Sort(q.Follow)
		q.Follow = slices.Compact(q.Follow)
		byKey[k] = q
	}
	out := make([]Query, 0, len(byKey))
	for _, q := range byKey {
		// Content answers a plain stat of the same path.
		if q.Kind == KindStat {
			if _, ok := byKey[string(KindContent)+"\x00"+q.Subject]; ok {
				continue
			}
		}
		out = append(out, q)
	}
	slices.SortFunc(out, func(a, b Query) int {
		if c := strings.Compare(string(a.Kind), string(b.Kind)); c != 0 {
			return c
		}
		return strings.Compare(a.Subject, b.Subject)
	})
	return out
}
