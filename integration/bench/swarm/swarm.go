// Package swarm has many SSH hosts in one process, some milliseconds away. Each
// has its own /etc, /var/lib and /run: a script runs in a mount namespace where
// these are the host's. It needs root.
package swarm

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

// Config says what hosts there are.
type Config struct {
	Hosts  int
	OneWay time.Duration // from a host to its client, and back
	// Hang counts hosts, spread evenly, that take a connection and then say
	// nothing once Hanging is called.
	Hang int
}

// A Swarm is running hosts.
type Swarm struct {
	dir    string
	port   int
	oneWay time.Duration
	config *ssh.ServerConfig
	hosts  []*host

	listener  net.Listener
	byAddress map[string]*host

	hanging, replay atomic.Bool
	connections     atomic.Int64
	channels        atomic.Int64
	scripts         atomic.Int64 // that a shell ran
	received, sent  atomic.Int64

	mu   sync.Mutex
	open map[net.Conn]bool
	wg   sync.WaitGroup
}

// Counts are what all hosts saw since the last call of [Swarm.Counts].
type Counts struct {
	Connections, Channels, Scripts int64
	Received, Sent                 int64 // bytes on the hosts' transports
}

// New makes hosts below dir, which should be in memory, and starts them.
func New(dir string, c Config) (*Swarm, error) {
	s := &Swarm{dir: dir, oneWay: c.OneWay, open: map[net.Conn]bool{}, byAddress: map[string]*host{}}
	client, err := s.keys()
	if err != nil {
		return nil, err
	}
	s.config = &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(client.Marshal()) {
			return nil, errors.New("not this key")
		}
		return nil, nil
	}}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	hostKey, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	s.config.AddHostKey(hostKey)
	// One listener for all addresses of the loopback network: who looks at the
	// listening sockets of a host sees it once. Others get nothing from it.
	if s.listener, err = net.Listen("tcp4", ":0"); err != nil {
		return nil, err
	}
	s.port = s.listener.Addr().(*net.TCPAddr).Port
	var known strings.Builder
	for i := range c.Hosts {
		h := &host{name: fmt.Sprintf("node%d", i+1), address: fmt.Sprintf("127.77.%d.%d", i/250, i%250+1), tree: filepath.Join(dir, fmt.Sprintf("node%d", i+1))}
		h.hang = c.Hang > 0 && i%(c.Hosts/c.Hang) == 0
		if err := h.plant(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.hosts = append(s.hosts, h)
		s.byAddress[h.address] = h
		fmt.Fprintf(&known, "[%s]:%d %s", h.address, s.port, ssh.MarshalAuthorizedKey(hostKey.PublicKey()))
	}
	s.wg.Go(s.accept)
	return s, os.WriteFile(s.KnownHosts(), []byte(known.String()), 0o600)
}

// keys writes the client's key.
func (s *Swarm) keys() (ssh.PublicKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.Identity(), pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(key.Public())
}

// KnownHosts is a file with the key of every host.
func (s *Swarm) KnownHosts() string { return filepath.Join(s.dir, "known_hosts") }

// Identity is the private key that the hosts let in.
func (s *Swarm) Identity() string { return filepath.Join(s.dir, "identity") }

// Addresses lists the hosts as "address:port", in their order.
func (s *Swarm) Addresses() []string {
	var out []string
	for _, h := range s.hosts {
		out = append(out, net.JoinHostPort(h.address, strconv.Itoa(s.port)))
	}
	return out
}

// Inventory is the hosts' part of a configuration, in one cluster of policy
// "standard".
func (s *Swarm) Inventory() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ssh {\n  port = %d\n  known_hosts = %q\n  identity = [%q]\n}\n\ncluster \"rack1\" {\n  policy = policy.standard\n}\n", s.port, s.KnownHosts(), s.Identity())
	for _, h := range s.hosts {
		fmt.Fprintf(&b, "\nhost %q {\n  address = %q\n  cluster = cluster.rack1\n}\n", h.name, h.address)
	}
	return b.String()
}

// Replay says whether a look that a host has answered before is answered with
// the same words and today's clock, without a shell. What a plan takes then is
// the controller's time and the connections'.
func (s *Swarm) Replay(on bool) { s.replay.Store(on) }

// Hanging says whether the hosts that can hang do.
func (s *Swarm) Hanging(on bool) { s.hanging.Store(on) }

// Counts tells what happened and begins again.
func (s *Swarm) Counts() Counts {
	return Counts{s.connections.Swap(0), s.channels.Swap(0), s.scripts.Swap(0), s.received.Swap(0), s.sent.Swap(0)}
}

// Close ends all hosts. What they wrote stays below the directory.
func (s *Swarm) Close() error {
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

func (s *Swarm) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		from, to := c.RemoteAddr().(*net.TCPAddr), c.LocalAddr().(*net.TCPAddr)
		h := s.byAddress[to.IP.String()]
		if h == nil || !from.IP.IsLoopback() {
			_ = c.Close()
			continue
		}
		s.mu.Lock()
		s.open[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			s.serve(h, c)
			_ = c.Close()
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

// serve speaks SSH on a connection, far away.
func (s *Swarm) serve(h *host, c net.Conn) {
	s.connections.Add(1)
	if h.hang && s.hanging.Load() {
		_, _ = io.Copy(io.Discard, c)
		return
	}
	near := net.Conn(counted{c, s})
	if s.oneWay > 0 {
		time.Sleep(2 * s.oneWay) // TCP's own round trip
		line, far := remotetest.Pipe(s.oneWay)
		go func() { _, _ = io.Copy(line, counted{c, s}); _ = line.Close() }()
		go func() { _, _ = io.Copy(counted{c, s}, line); _ = c.Close() }()
		near = far
	}
	defer near.Close()
	conn, channels, requests, err := ssh.NewServerConn(near, s.config)
	if err != nil {
		return
	}
	defer conn.Close()
	go ssh.DiscardRequests(requests)
	var wg sync.WaitGroup
	defer wg.Wait()
	for nc := range channels {
		s.channels.Add(1)
		if nc.ChannelType() != "session" {
			_ = nc.Reject(ssh.ConnectionFailed, "nothing listens")
			continue
		}
		wg.Go(func() { s.session(h, nc) })
	}
}

// counted counts what passes a connection.
type counted struct {
	net.Conn
	s *Swarm
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.s.received.Add(int64(n))
	return n, err
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.s.sent.Add(int64(n))
	return n, err
}

func randomHex() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}
