package plan

import (
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
)

// ID names a task on its host: certificate.libvirt-server,
// trust./etc/pki/CA/cacert.pem, settings./etc/libvirt/libvirtd.conf.
type ID string

// A Task is one thing that should be true of one host. It holds nothing that
// could change a host.
type Task interface {
	ID() ID
	// Needs is what has to be known about the host.
	Needs() []facts.Query
	// Diff compares; it has no I/O, no clock and no randomness.
	Diff(seen *facts.Host, now time.Time) ([]Op, []Finding)
}

// A Concern is a task that other hosts depend on. It is the part of a Task
// that conditions are answered from.
type Concern interface {
	// Concerns are the authorities that the task is about.
	Concerns() []string
}

// A Bundle is a Concern that says whom the host's programs trust.
type Bundle interface {
	// Loaded are the subject key ids (hex) of the CAs that the programs have
	// read from this bundle; fresh is a bundle that is not there yet.
	Loaded(seen *facts.Host) (ids []string, fresh bool)
}

// An Identity is a Concern that shows a certificate to other hosts.
type Identity interface {
	// Shows is the key id (hex) of the CA that signed what programs find or
	// serve now; empty without a certificate.
	Shows(seen *facts.Host) string
}

// A Rule judges the fleet as a whole. It gives findings, never operations.
type Rule interface {
	Judge(hosts []HostPlan, trust pki.Trust, now time.Time) []Finding
}

// Severity orders findings.
type Severity string

// The severities of a finding.
const (
	Note    Severity = "note"    // worth knowing
	Warning Severity = "warning" // works today, should be mended
	Problem Severity = "problem" // something does not work or is not safe
)

// Finding is something that an operator should know. Text may hold what a
// host said: it goes through the report's cleaning before a terminal.
type Finding struct {
	Code     string   `json:"code"` // stable, kebab-case; docs/troubleshooting.md explains each
	Severity Severity `json:"severity"`
	Host     string   `json:"host,omitempty"`
	Task     ID       `json:"task,omitempty"`
	Text     string   `json:"text"`
	Hint     string   `json:"hint,omitempty"` // what to do, one sentence
	// Holds keeps every operation of the host back until it is mended.
	Holds bool `json:"holds,omitempty"`
}
