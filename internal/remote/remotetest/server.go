// Package remotetest has SSH servers for tests of what runs over package
// remote, and the contract that every kind of host has to keep.
package remotetest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/remote"
)

// Options shape a [Server]. Every nil field means what a plain root login does.
type Options struct {
	HostKeys []ssh.Signer // nil: one new Ed25519 key

	// Exec answers an exec request in place of a real `/bin/sh -c` on this
	// machine; its result is the exit status, negative means that none is sent.
	Exec func(command string, ch ssh.Channel) int

	// SFTP answers the sftp subsystem in place of a server that writes real files.
	SFTP func(ch io.ReadWriteCloser)

	// RefuseExec and RefuseSFTP refuse the request.
	RefuseExec, RefuseSFTP bool

	// Dial opens what a client forwards to; nil is a plain net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// ProhibitForward refuses forwarding as `AllowTcpForwarding no` does.
	ProhibitForward bool

	// Banner is sent before authentication.
	Banner string

	// MuteGlobal leaves global requests, such as keepalives, without an answer.
	MuteGlobal bool

	// Config changes the server's configuration at the end.
	Config func(*ssh.ServerConfig)
}

// Server is an SSH server in this process. It runs what it is told to, so it
// listens on the loopback interface only, and lets in one key made for it.
type Server struct {
	// Endpoint reaches the server, with its host key pinned and its client key
	// as identity.
	Endpoint remote.Endpoint

	// Attempts counts authentication requests that carried a public key.
	Attempts atomic.Int64
	// Connections counts transports, Requests the programs asked for.
	Connections, Requests atomic.Int64

	opts   Options
	config *ssh.ServerConfig
	wg     sync.WaitGroup
	ctx    context.Context
	stop   context.CancelFunc
}

// NewKey makes an Ed25519 key.
func NewKey() (ssh.Signer, ed25519.PrivateKey) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		panic(err) // an Ed25519 key always makes a signer
	}
	return s, key
}

// WriteIdentity writes key as an OpenSSH private key file, with its .pub file.
func WriteIdentity(t testing.TB, file string, key ed25519.PrivateKey) {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// New makes a server that does not listen: see [Server.Serve].
func New(t testing.TB, opts Options) *Server {
	t.Helper()
	client, private := NewKey()
	identity := filepath.Join(t.TempDir(), "id_ed25519")
	WriteIdentity(t, identity, private)
	if opts.HostKeys == nil {
		k, _ := NewKey()
		opts.HostKeys = []ssh.Signer{k}
	}
	if opts.Dial == nil {
		opts.Dial = (&net.Dialer{}).DialContext
	}
	s := &Server{opts: opts}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.Endpoint = remote.Endpoint{Name: "kvm1", Address: "127.0.0.1", User: "root", Identity: []string{identity}}
	s.config = &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			s.Attempts.Add(1)
			if string(key.Marshal()) != string(client.PublicKey().Marshal()) {
				return nil, errors.New("not this key")
			}
			return nil, nil
		},
	}
	if opts.Banner != "" {
		s.config.BannerCallback = func(ssh.ConnMetadata) string { return opts.Banner }
	}
	for _, k := range opts.HostKeys {
		s.config.AddHostKey(k)
		s.Endpoint.HostKeys = append(s.Endpoint.HostKeys, ssh.FingerprintSHA256(k.PublicKey()))
	}
	if opts.Config != nil {
		opts.Config(s.config)
	}
	return s
}

// Start makes a server that listens on a free port of 127.0.0.1 until the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	s := New(t, opts)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s.Endpoint.Port, _ = strconv.Atoi(port)
	var mu sync.Mutex
	var open []net.Conn
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			s.wg.Go(func() { s.Serve(c) })
		}
	})
	t.Cleanup(func() {
		s.stop()
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		s.wg.Wait()
	})
	return s
}

// Serve speaks SSH on c until it ends.
func (s *Server) Serve(c net.Conn) {
	defer c.Close()
	s.Connections.Add(1)
	conn, chans, reqs, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		return
	}
	defer conn.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for r := range reqs {
			if r.WantReply && !s.opts.MuteGlobal {
				_ = r.Reply(false, nil)
			}
		}
	})
	for nc := range chans {
		switch nc.ChannelType() {
		case "session":
			wg.Go(func() { s.session(nc) })
		case "direct-tcpip":
			wg.Go(func() { s.forward(nc) })
		default:
			_ = nc.Reject(ssh.UnknownChannelType, "unknown channel type")
		}
	}
}

func (s *Server) session(nc ssh.NewChannel) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	started := false
	for r := range reqs {
		var text struct{ Value string }
		_ = ssh.Unmarshal(r.Payload, &text)
		ok := false
		switch {
		case started: // one program in a channel: RFC 4254, 6.5
		case r.Type == "exec" && !s.opts.RefuseExec:
			ok, started = true, true
			s.Requests.Add(1)
			wg.Go(func() { s.exec(ctx, text.Value, ch) })
		case r.Type == "exec" && text.Value == "exit 0":
			// A shell that could not start the first time may start now.
			ok, started = true, true
			wg.Go(func() { finish(ch, 0) })
		case r.Type == "subsystem" && text.Value == "sftp" && !s.opts.RefuseSFTP:
			ok, started = true, true
			s.Requests.Add(1)
			wg.Go(func() { s.sftp(ch) })
		}
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
	}
}

func (s *Server) exec(ctx context.Context, command string, ch ssh.Channel) {
	if s.opts.Exec != nil {
		finish(ch, s.opts.Exec(command, ch))
		return
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	// The whole group ends with the channel, or a sleeping child would hold the
	// streams, and with them the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stdin, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		finish(ch, 127)
		return
	}
	go func() {
		_, _ = io.Copy(stdin, ch)
		_ = stdin.Close()
	}()
	if _ = cmd.Wait(); cmd.ProcessState != nil && cmd.ProcessState.ExitCode() < 0 {
		_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal  string
			Core    bool
			Message string
			Lang    string
		}{"KILL", false, "", ""}))
		_ = ch.Close()
		return
	}
	finish(ch, cmd.ProcessState.ExitCode())
}

func finish(ch ssh.Channel, status int) {
	_ = ch.CloseWrite()
	if status >= 0 {
		_, _ = ch.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, uint32(status)))
	}
	_ = ch.Close()
}

func (s *Server) sftp(ch ssh.Channel) {
	defer ch.Close()
	if s.opts.SFTP != nil {
		s.opts.SFTP(ch)
		return
	}
	server, err := sftp.NewServer(ch)
	if err != nil {
		return
	}
	_ = server.Serve()
}

func (s *Server) forward(nc ssh.NewChannel) {
	var m struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if s.opts.ProhibitForward || ssh.Unmarshal(nc.ExtraData(), &m) != nil {
		_ = nc.Reject(ssh.Prohibited, "administratively prohibited")
		return
	}
	to, err := s.opts.Dial(s.ctx, "tcp", net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))))
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer to.Close()
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	go ssh.DiscardRequests(reqs)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(to, ch)
		_ = to.Close()
	}()
	_, _ = io.Copy(ch, to)
	_ = ch.CloseWrite()
	_ = ch.Close()
	<-done
}
