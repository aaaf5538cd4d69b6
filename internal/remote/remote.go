// Package remote reaches a host over SSH: it dials, judges the host's key,
// authenticates, runs a script, uploads files and opens connections that start
// on the host.
//
// Every call ends by its deadline. A host is treated as hostile: what it sends
// is capped, and what it says is cleaned before it stands in an error. Nothing
// that was sent to a host and not answered is called a failure: its outcome is
// [ClassUnknown] and is resolved by looking again.
package remote

import (
	"time"

	"github.com/virtrust/virtrust/internal/remote/sshconfig"
)

// Endpoint is one host to reach.
type Endpoint struct {
	Name    string // inventory name: for messages, and the first name looked up in known_hosts
	Address string // DNS name or IP address
	Port    int    // 0 means what Config says, else 22
	User    string // empty means what Config says, else root

	// HostKeys are pinned SHA256 fingerprints ("SHA256:…", as ssh-keygen -l
	// prints them). When empty, KnownHosts decides.
	HostKeys []string

	// KnownHosts are the known_hosts files to read; each must exist. When empty,
	// those are read that Config names and that exist, else those of
	// ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts that exist.
	KnownHosts []string

	// Identity are private key files in OpenSSH or PEM form. When given, only
	// they are offered, through the agent if it holds them. When empty, what
	// Config names is offered, then the agent's keys, and where Config names no
	// file, ~/.ssh/id_ed25519, id_ecdsa and id_rsa.
	Identity []string

	// Password is what the login is told when no key is accepted and the host
	// asks for a password; nil means none.
	Password *Password

	// Become says how scripts get root's rights where User is not root:
	// [BecomeSudo], or "" for not at all.
	Become string

	// SudoPassword is what sudo is told when it asks; nil means that it must not.
	SudoPassword *Password

	// Jump are the hosts to go through, the first one to dial first; see
	// [ParseJump]. Nil means that Config decides; empty and not nil means none.
	Jump []Endpoint

	// Config are OpenSSH client configuration files, in which Address is looked up
	// as ssh does with what stands on its command line. They decide what is empty
	// above. [UserConfig] are those that ssh itself reads.
	Config []sshconfig.File

	jumpHost bool     // it is a jump host: without a user, the login name on this machine counts
	inherit  []string // identities for a jump host of which Config says nothing
}

func (e Endpoint) port() int {
	if e.Port == 0 {
		return 22
	}
	return e.Port
}

func (e Endpoint) label() string {
	if e.Name == "" {
		return e.Address
	}
	return e.Name
}

// Limits bound one [Conn.Run].
type Limits struct {
	Stdout  int           // bytes; more is [ErrOutputLimit]; 0 means 4 MiB
	Stderr  int           // bytes kept, the rest is dropped; 0 means 256 KiB
	Timeout time.Duration // 0 means 60 s; the context may end it earlier
}

func (l Limits) withDefaults() Limits {
	if l.Stdout == 0 {
		l.Stdout = 4 << 20
	}
	if l.Stderr == 0 {
		l.Stderr = 256 << 10
	}
	if l.Timeout == 0 {
		l.Timeout = 60 * time.Second
	}
	return l
}

// Output is what a script that ran to its end said. All of it is host data.
type Output struct {
	Stdout          []byte
	Stderr          []byte
	StderrTruncated bool   // the host wrote more to stderr than Limits.Stderr
	Exit            int    // exit status; 255 when a signal ended the script
	Signal          string // name of the signal that ended it, such as "KILL"; usually empty
}

const (
	dialTimeout      = 10 * time.Second // TCP connect, with name resolution
	handshakeTimeout = 15 * time.Second // key exchange, host key and authentication
	uploadTimeout    = 60 * time.Second
	forwardTimeout   = 10 * time.Second // opening a channel
	servedTimeout    = 45 * time.Second // a TLS handshake; libvirtd 11.3.0 takes up to 30 s to leave when idle, and only then systemd starts it for us
	keepaliveEvery   = 15 * time.Second
	keepaliveMissed  = 2

	handshakeBytes  = 1 << 20  // what a host may send before it has let us in: versions, keys, banners
	connectionBytes = 32 << 20 // what a host may send in one connection
)
