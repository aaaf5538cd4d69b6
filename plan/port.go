package plan

import (
	"fmt"
	"net/netip"
)

// Port is one rule of a host's firewall: a range of TCP ports, from sources.
type Port struct {
	Name string `json:"name"` // of the allow block; the mark of the rule
	// Owner is the firewall that is changed: firewalld, ufw, nftables or
	// iptables.
	Owner string `json:"owner"`
	// Managers are the firewall services that were active when the plan was
	// made: a host where others are active now has moved.
	Managers string `json:"managers"`
	// Place is the zone of firewalld, or family, table and chain of nftables.
	Place   string         `json:"place,omitempty"`
	From    uint16         `json:"from"` // first port
	To      uint16         `json:"to"`   // last port
	Sources []netip.Prefix `json:"sources"`
}

// Range is the ports as people write them: 16514 or 49152-49215.
func (p Port) Range() string {
	if p.From == p.To {
		return fmt.Sprint(p.From)
	}
	return fmt.Sprintf("%d-%d", p.From, p.To)
}

// AllowPort lets sources in: live at the switch, for good after the proof.
type AllowPort struct {
	Meta
	Port
}

// ClosePort takes rules of ours away, in the same two steps.
type ClosePort struct {
	Meta
	Port
}

// Kind, Subject, Disrupts and Expects of the firewall's operations. What they
// rely on is checked by Moved and, at the switch, by the host.

// Kind is of Op.
func (AllowPort) Kind() string { return "allow-port" }

// Subject is of Op.
func (o AllowPort) Subject() string { return o.Name }

// Disrupts is of Op.
func (AllowPort) Disrupts() Disruption { return DisruptNone }

// Expects is of Op.
func (AllowPort) Expects() []Expectation { return nil }

// Kind is of Op.
func (ClosePort) Kind() string { return "close-port" }

// Subject is of Op.
func (o ClosePort) Subject() string { return o.Name }

// Disrupts is of Op.
func (ClosePort) Disrupts() Disruption { return DisruptNone }

// Expects is of Op.
func (ClosePort) Expects() []Expectation { return nil }

// PortOf gives the rule of an operation on the firewall; closes tells which of
// the two it is.
func PortOf(o Op) (p Port, closes, ok bool) {
	switch o := o.(type) {
	case AllowPort:
		return o.Port, false, true
	case ClosePort:
		return o.Port, true, true
	}
	return Port{}, false, false
}

// Kept is a file of the firewall's owner that makes rules last: its new content
// and the digest of the one that it replaces, both as seen at the second look.
type Kept struct {
	Path    string
	Before  string // sha256, hex
	Content []byte
}
