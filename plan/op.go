package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
)

// Wave orders the operations of one host: trust before identity before
// listeners before what closes doors.
type Wave int

// The waves in their order.
const (
	WaveTrust Wave = iota + 1
	WaveIdentity
	WaveListen
	WaveClose
)

var waveNames = [...]string{"", "trust", "identity", "listen", "close"}

// String is the wave's name in JSON and on screen.
func (w Wave) String() string {
	if w < WaveTrust || w > WaveClose {
		return fmt.Sprintf("wave(%d)", int(w))
	}
	return waveNames[w]
}

// MarshalText writes the wave's name.
func (w Wave) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads a wave's name.
func (w *Wave) UnmarshalText(b []byte) error {
	for i, n := range waveNames {
		if n != "" && n == string(b) {
			*w = Wave(i)
			return nil
		}
	}
	return fmt.Errorf("plan: unknown wave %q", b)
}

// Disruption says what a change interrupts.
type Disruption string

// The classes of disruption, from nothing to what virtrust only reports.
const (
	DisruptNone        Disruption = "none"
	DisruptReload      Disruption = "reload"
	DisruptReloadPerVM Disruption = "reload per VM"
	DisruptRestart     Disruption = "daemon restart"
	DisruptVMRestart   Disruption = "VM restart"
)

var disruptionRank = map[Disruption]int{DisruptNone: 0, DisruptReload: 1, DisruptReloadPerVM: 2, DisruptRestart: 3, DisruptVMRestart: 4}

// Exceeds reports whether d interrupts more than limit.
func (d Disruption) Exceeds(limit Disruption) bool { return disruptionRank[d] > disruptionRank[limit] }

// State is what a path is expected to be before an operation or promised to
// be after it. The zero State is an absent path.
type State struct {
	Type   facts.Type `json:"type,omitempty"`
	Digest string     `json:"digest,omitempty"` // sha256 of a regular file's content, hex
	Mode   uint32     `json:"mode,omitempty"`
	Owner  string     `json:"owner,omitempty"`
	Group  string     `json:"group,omitempty"`
	Target string     `json:"target,omitempty"` // of a link
}

// StateOf is the state of a path as it was seen. Content that was not read
// (private keys) leaves the digest empty.
func StateOf(p facts.Path) State {
	s := State{Type: p.Type}
	switch p.Type {
	case facts.Symlink:
		s.Target = p.Target
	case facts.Regular, facts.Directory, facts.Other:
		s.Mode, s.Owner, s.Group = p.Mode, p.Owner, p.Group
		if p.HasData {
			s.Digest = Digest(p.Content)
		}
	}
	return s
}

// Digest is the lower-case hex sha256 of b.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Expectation is one path and the state that the plan saw it in.
type Expectation struct {
	Path  string `json:"path"`
	State State  `json:"state"`
}

// Op is one operation on one host, as data. The set is closed: MakeDir,
// WriteFile, Link, Remove, Enrol, SetUnit, Activate, AllowPort, ClosePort.
type Op interface {
	// About gives what all operations have in common.
	About() Meta
	// Kind is the operation's name in JSON.
	Kind() string
	// Subject is the path or unit that is changed.
	Subject() string
	// Disrupts says what carrying it out interrupts.
	Disrupts() Disruption
	// Expects lists what the plan saw and relies on.
	Expects() []Expectation
	sealed()
}

// Meta is what all operations have in common.
type Meta struct {
	Task   ID     `json:"task"`
	Wave   Wave   `json:"wave"`
	Reason string `json:"reason"` // new, drift, expiring …; one phrase for people
	// When keeps the operation out of the host's first transaction; nil for
	// most.
	When *Condition `json:"when,omitempty"`
}

// About returns the metadata itself.
func (m Meta) About() Meta { return m }
func (Meta) sealed()       {}

// MakeDir makes a directory that is absent. Parents come as own operations.
type MakeDir struct {
	Meta
	Path  string `json:"path"`
	Mode  uint32 `json:"mode"`
	Owner string `json:"owner"`
	Group string `json:"group"`
}

// WriteFile replaces a regular file, or makes it, by one rename. Either
// Content is the whole new content, public by nature, or Edits are made in
// the content that the host has (so that a plan never holds a host's whole
// configuration).
type WriteFile struct {
	Meta
	Path    string `json:"path"`
	Before  State  `json:"before"`
	After   State  `json:"after"`
	Content []byte `json:"content,omitempty"`
	Edits   []Edit `json:"edits,omitempty"`
	// Syntax is the format of a file with edits; empty is libvirt's own.
	Syntax Syntax `json:"syntax,omitempty"`
}

// Syntax is a format of configuration files.
type Syntax string

// SyntaxEnvironment is a file of variables for systemd: NAME="value".
const SyntaxEnvironment Syntax = "environment"

// Edit is one managed setting of a configuration file. Old and New are
// rendered in the file's own syntax; Old is empty where the key is not set, New
// where its lines are commented out.
type Edit struct {
	Key string `json:"key"`
	Old string `json:"old,omitempty"`
	New string `json:"new"`
}

// Link makes or replaces a symbolic link by one rename.
type Link struct {
	Meta
	Path   string `json:"path"`
	Target string `json:"target"`
	Before State  `json:"before"`
}

// Remove removes a file or link.
type Remove struct {
	Meta
	Path   string `json:"path"`
	Before State  `json:"before"`
}

// Enrol makes a key and a certificate request on the host, has it signed,
// and installs both as a new generation with one switch. What the leaf will
// be is in Profile; serial and dates exist only after apply.
type Enrol struct {
	Meta
	Certificate string      `json:"certificate"`
	Authority   string      `json:"authority"`
	Issuer      string      `json:"issuer"` // subject key id of the generation that signs, hex
	Profile     pki.Profile `json:"profile"`
	// Tree is the identity's own directory (…/.virtrust/server); its parent
	// directories come as MakeDir.
	Tree       string `json:"tree"`
	Generation string `json:"generation"` // the new generation's directory in Tree
	Owner      string `json:"owner"`
	Group      string `json:"group"`
	KeyMode    uint32 `json:"key_mode"`
	// Current is the link that switches, as it was seen.
	Current State `json:"current"`
	// Adopt copies the pair that lies at the public names today into a
	// generation of its own before the names become links, so that no moment
	// shows the new certificate with the old key.
	Adopt *Adopt `json:"adopt,omitempty"`
	// Links are the public names that become links into Current.
	Links []PublicName `json:"links,omitempty"`
	// Old is the certificate in place, for people; nil when there is none.
	Old *Leaf `json:"old,omitempty"`
	// Check has QEMU on the host read the new identity after the switch.
	Check *Check `json:"check,omitempty"`
}

// Wish identifies what the operation wants: failures of the same wish in a row
// are waited for longer and longer.
func (o Enrol) Wish() string {
	data, err := json.Marshal([]any{o.Certificate, o.Authority, o.Issuer, o.Profile, o.Tree})
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	return Digest(data)
}

// Check is what QEMU is asked about an identity that it reads: whether it
// accepts the directory, as a server and as a client, when it runs as it will.
type Check struct {
	Directory string `json:"directory"`
	User      string `json:"user"`  // a name, or a number where the id has none
	Group     string `json:"group"` // likewise
}

// Adopt names the pair that is taken over.
type Adopt struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// PublicName is a path at which a program looks for a certificate or key.
type PublicName struct {
	Path   string `json:"path"`
	Target string `json:"target"`
	Before State  `json:"before"`
}

// Leaf is what people want to know of a certificate; never PEM, never keys.
type Leaf struct {
	Subject   string       `json:"subject"`
	Issuer    string       `json:"issuer"`
	Serial    string       `json:"serial"` // hex
	NotBefore string       `json:"not_before"`
	NotAfter  string       `json:"not_after"`
	DNSNames  []string     `json:"dns_names,omitempty"`
	IPs       []netip.Addr `json:"ips,omitempty"`
	SHA256    string       `json:"sha256"` // of the DER, hex
}

// SetUnit enables and starts, or disables and stops, a systemd unit. Service
// is the service whose socket it is: it must be stopped for the moment in
// which its socket is added (verified.md §7).
type SetUnit struct {
	Meta
	Unit    string `json:"unit"`
	Enabled bool   `json:"enabled"`
	Active  bool   `json:"active"`
	Service string `json:"service,omitempty"`
	// Running says that Service ran when the plan was made.
	Running bool `json:"running"`
}

// How is the way in which a daemon takes up what lies on disk.
type How string

// The ways of activation, in the order of what they interrupt.
const (
	Reload How = "reload" // virt-admin server-update-tls: interrupts nothing
	// ReloadConsoles has every running guest with an encrypted VNC console read
	// its certificate again; open connections go on.
	ReloadConsoles How = "reload-consoles"
	Restart        How = "restart" // of the daemon; guests keep running
)

// Consoles is the unit of an activation with ReloadConsoles: no unit of
// systemd, but the VNC consoles of the running guests.
const Consoles = "vnc-consoles"

// Activate makes what runs equal to what lies on disk. The executor skips it
// when the daemon already runs with what is wanted or is not running.
type Activate struct {
	Meta
	Unit string `json:"unit"` // libvirtd.service, or Consoles
	How  How    `json:"how"`
	// Loads is what the daemon has read afterwards, recorded on the host.
	Loads []Load `json:"loads,omitempty"`
	// Closes says that the daemon no longer listens for TLS afterwards.
	Closes bool `json:"closes,omitempty"`
}

// Load is one thing that a daemon reads and the digest of what it then has.
type Load struct {
	Item   string `json:"item"` // trust:PATH or settings:PATH
	Digest string `json:"digest"`
}

// Kind, Subject, Disrupts and Expects of each operation.

func (MakeDir) Kind() string             { return "make-dir" }
func (o MakeDir) Subject() string        { return o.Path }
func (MakeDir) Disrupts() Disruption     { return DisruptNone }
func (o MakeDir) Expects() []Expectation { return []Expectation{{o.Path, State{}}} }

func (WriteFile) Kind() string             { return "write-file" }
func (o WriteFile) Subject() string        { return o.Path }
func (WriteFile) Disrupts() Disruption     { return DisruptNone }
func (o WriteFile) Expects() []Expectation { return []Expectation{{o.Path, o.Before}} }

func (Link) Kind() string             { return "link" }
func (o Link) Subject() string        { return o.Path }
func (Link) Disrupts() Disruption     { return DisruptNone }
func (o Link) Expects() []Expectation { return []Expectation{{o.Path, o.Before}} }

func (Remove) Kind() string             { return "remove" }
func (o Remove) Subject() string        { return o.Path }
func (Remove) Disrupts() Disruption     { return DisruptNone }
func (o Remove) Expects() []Expectation { return []Expectation{{o.Path, o.Before}} }

func (Enrol) Kind() string         { return "enrol" }
func (o Enrol) Subject() string    { return o.Tree }
func (Enrol) Disrupts() Disruption { return DisruptNone }

// Expects are the switch and every public name as the plan saw them.
func (o Enrol) Expects() []Expectation {
	out := []Expectation{{o.Tree + "/current", o.Current}, {o.Tree + "/" + o.Generation, State{}}}
	for _, l := range o.Links {
		out = append(out, Expectation{l.Path, l.Before})
	}
	return out
}

func (SetUnit) Kind() string      { return "set-unit" }
func (o SetUnit) Subject() string { return o.Unit }

// Disrupts is a daemon restart where the unit's service runs.
func (o SetUnit) Disrupts() Disruption {
	if o.Running {
		return DisruptRestart
	}
	return DisruptNone
}
func (SetUnit) Expects() []Expectation { return nil }

func (Activate) Kind() string      { return "activate" }
func (o Activate) Subject() string { return o.Unit }

// Disrupts follows from the way of activation.
func (o Activate) Disrupts() Disruption {
	switch o.How {
	case Restart:
		return DisruptRestart
	case ReloadConsoles:
		return DisruptReloadPerVM
	}
	return DisruptReload
}
func (Activate) Expects() []Expectation { return nil }
