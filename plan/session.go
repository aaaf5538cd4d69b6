package plan

import (
	"context"
	"errors"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
)

// Session is one host during its transaction. Its methods are called in the
// order Lock, Stage, Switch, Prove, End; End is called always and last.
type Session interface {
	// Lock takes the host's lease and looks again. A lease held by another
	// run is a *LockedError. Called again before Stage it renews the lease and
	// looks once more.
	Lock(ctx context.Context, queries []facts.Query) (*facts.Host, error)
	// Stage puts everything in place beside where it will live: directories,
	// keys and requests made on the host, signed chains and files uploaded.
	// Nothing live is touched.
	Stage(ctx context.Context, ops Ops, sign SignFunc) error
	// Switch arms the reverter, switches every name and activates.
	Switch(ctx context.Context) error
	// Prove looks at what the host serves now and lets peers dial it.
	Prove(ctx context.Context, peers []Peer) (Proof, error)
	// End commits, or puts the host back into the state before Switch, and
	// gives the lease back. It says what is true of the host now.
	End(ctx context.Context, commit bool) (Outcome, error)
}

// SignFunc has a certificate request (PKCS#10, PEM) of a host signed and
// returns the chain as DER, leaf first.
type SignFunc func(ctx context.Context, host string, o Enrol, csr []byte) ([][]byte, error)

// Peer is another host of the trust domain that can dial with its own client
// certificate, as a migration would.
type Peer interface {
	Name() string
	// Accepted dials host at address. A refusal by TLS is a *RefusedError;
	// any other error is the peer's own trouble and proves nothing.
	Accepted(ctx context.Context, address string) error
}

// Proof is what was seen of a host after its switch.
type Proof struct {
	Leaves    map[string]string `json:"leaves,omitempty"` // certificate to sha256 of the leaf in place
	Served    string            `json:"served,omitempty"` // sha256 of the leaf served; empty without a listener
	Addresses []string          `json:"addresses,omitempty"`
	Peers     []string          `json:"peers,omitempty"` // peers that were accepted
	// Checked is, by certificate, the program on the host that accepted it,
	// such as "QEMU emulator version 10.0.13 as libvirt-qemu".
	Checked map[string]string `json:"checked,omitempty"`
	// NotChecked says which certificate no program could be asked about.
	NotChecked []string `json:"not_checked,omitempty"`
	// Consoles are the running guests whose VNC console shows the new leaf.
	Consoles []string `json:"consoles,omitempty"`
	// OldConsoles says of which guest the console goes on with the leaf before,
	// and why.
	OldConsoles []string `json:"old_consoles,omitempty"`
	// NotProved says why no peer was asked or none could answer.
	NotProved string `json:"not_proved,omitempty"`
}

// Outcome is what is true of a host at the end of its transaction.
type Outcome string

// The outcomes of a transaction.
const (
	Committed Outcome = "committed" // the new identity and settings are in place
	Reverted  Outcome = "reverted"  // switched, then put back
	Untouched Outcome = "untouched" // nothing live was changed
	Uncertain Outcome = "uncertain" // the host could not be asked; its reverter acts
)

// LockedError says who holds a host's lease.
type LockedError struct {
	Host    string
	Owner   string // user@machine, as the other run named itself
	Run     string
	Expires time.Duration // from now, by the host's uptime
}

func (e *LockedError) Error() string {
	return "the lease is held by " + e.Owner + " (run " + e.Run + ", for another " + e.Expires.Round(time.Second).String() + ")"
}

// RefusedError is a TLS refusal: the two ends reached each other and one did
// not accept the other's certificate.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return e.Text }

// WaitingError says that a certificate waits for a signature that people or a
// queue will give. Nothing is wrong; the next apply goes on.
type WaitingError struct {
	Certificate string
	Text        string // where it waits and what to do
}

func (e *WaitingError) Error() string { return "certificate." + e.Certificate + ": " + e.Text }

// ErrLost is wrapped by errors after which it is not known whether the last
// script ran on the host.
var ErrLost = errors.New("the connection was lost")
