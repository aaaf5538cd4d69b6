package remote_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

// startAgent serves an agent with the given private keys, and is the run's agent.
func startAgent(t *testing.T, keys ...any) {
	t.Helper()
	added := make([]agent.AddedKey, len(keys))
	for i, k := range keys {
		added[i].PrivateKey = k
	}
	startAgentWith(t, added...)
}

func startAgentWith(t *testing.T, keys ...agent.AddedKey) {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(k); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "agent") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(); _ = os.RemoveAll(dir) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c); _ = c.Close() }()
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", l.Addr().String())
}

// server lets in the holder of key only.
func server(t *testing.T, key ssh.PublicKey) *remotetest.Server {
	t.Helper()
	var s *remotetest.Server
	s = remotetest.Start(t, remotetest.Options{Config: func(c *ssh.ServerConfig) {
		c.MaxAuthTries = 20
		c.PublicKeyCallback = func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			s.Attempts.Add(1)
			if string(k.Marshal()) != string(key.Marshal()) {
				return nil, errors.New("not this key")
			}
			return nil, nil
		}
	}})
	s.Endpoint.Identity = nil
	return s
}

func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("SSH_AUTH_SOCK", "")
	if err := os.Mkdir(filepath.Join(dir, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	right, rightKey := remotetest.NewKey()
	_, wrongKey := remotetest.NewKey()
	write := func(name string, data []byte, mode os.FileMode) string {
		t.Helper()
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, data, mode); err != nil {
			t.Fatal(err)
		}
		return f
	}
	remotetest.WriteIdentity(t, filepath.Join(dir, "right"), rightKey)
	remotetest.WriteIdentity(t, filepath.Join(dir, "wrong"), wrongKey)
	block, err := ssh.MarshalPrivateKeyWithPassphrase(rightKey, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	locked := write("locked", pem.EncodeToMemory(block), 0o600)
	block, _ = ssh.MarshalPrivateKey(rightKey, "")
	open := write("open", pem.EncodeToMemory(block), 0o644)
	onlyPublic := write("public.pub", ssh.MarshalAuthorizedKey(right.PublicKey()), 0o644)
	onlyPublic = strings.TrimSuffix(onlyPublic, ".pub")
	broken := write("broken", []byte("no key"), 0o600)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaSigner, err := ssh.NewSignerFromKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	block, _ = ssh.MarshalPrivateKey(rsaKey, "")
	rsaFile := write("rsa", pem.EncodeToMemory(block), 0o600)

	many := []any{}
	for range 6 {
		_, k := remotetest.NewKey()
		many = append(many, &k)
	}
	agentOf := func(keys ...any) func(*testing.T) {
		return func(t *testing.T) { startAgent(t, keys...) }
	}
	noAgent := func(*testing.T) {}
	tests := []struct {
		name     string
		agent    func(*testing.T)
		identity []string
		accept   ssh.PublicKey
		ask      func(context.Context, string) ([]byte, error)
		want     remote.Class
		attempts int64 // keys that the server judged
		says     string
	}{
		{name: "file", agent: noAgent, identity: []string{"~/right"}, attempts: 1},
		{name: "second file", agent: noAgent, identity: []string{"~/wrong", "~/right"}, attempts: 2},
		{name: "wrong key, tried once", agent: noAgent, identity: []string{"~/wrong"}, want: remote.ClassAuthentication, attempts: 1, says: "none of the keys offered (SHA256:"},
		{name: "agent", agent: agentOf(&wrongKey, &rightKey), attempts: 2},
		{name: "agent of many keys", agent: agentOf(many...), want: remote.ClassAuthentication, attempts: 5, says: "SHA256:"},
		{name: "agent of many keys, one named by its .pub", agent: agentOf(append(many, &rightKey)...), identity: []string{onlyPublic}, attempts: 1},
		{name: "encrypted, in the agent", agent: agentOf(append(many, &rightKey)...), identity: []string{locked}, attempts: 1},
		{name: "encrypted, not in the agent", agent: noAgent, identity: []string{locked}, want: remote.ClassAuthentication, says: "ssh-add " + locked},
		{name: "encrypted, passphrase", agent: noAgent, identity: []string{locked}, attempts: 1,
			ask: func(context.Context, string) ([]byte, error) { return []byte("secret"), nil }},
		{name: "encrypted, wrong passphrase", agent: noAgent, identity: []string{locked}, want: remote.ClassAuthentication, says: "decrypt",
			ask: func(context.Context, string) ([]byte, error) { return []byte("terces"), nil }},
		{name: "readable by others", agent: noAgent, identity: []string{open}, want: remote.ClassAuthentication, says: "chmod 600"},
		{name: "no such file", agent: noAgent, identity: []string{"~/none"}, want: remote.ClassAuthentication, says: "no such file"},
		{name: "not a key", agent: noAgent, identity: []string{broken}, want: remote.ClassAuthentication, says: broken},
		{name: "nothing at all", agent: noAgent, want: remote.ClassAuthentication, says: "no ssh-agent and no key file"},
		{name: "agent that is gone", agent: func(t *testing.T) { t.Setenv("SSH_AUTH_SOCK", dir+"/gone") }, want: remote.ClassAuthentication, says: "ssh-agent"},
		{name: "RSA file", agent: noAgent, identity: []string{rsaFile}, accept: rsaSigner.PublicKey(), attempts: 1},
		{name: "RSA in the agent", agent: agentOf(rsaKey), accept: rsaSigner.PublicKey(), attempts: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.agent(t)
			if tt.accept == nil {
				tt.accept = right.PublicKey()
			}
			s := server(t, tt.accept)
			s.Endpoint.Identity = tt.identity
			d := &remote.Dialer{Passphrase: tt.ask}
			defer d.Close()
			c, err := d.Connect(t.Context(), s.Endpoint)
			if remote.ClassOf(err) != tt.want {
				t.Fatalf("class %q, want %q: %v", remote.ClassOf(err), tt.want, err)
			}
			if err == nil {
				_ = c.Close()
			} else if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v\nsays nothing of %q", err, tt.says)
			}
			if got := s.Attempts.Load(); got != tt.attempts {
				t.Errorf("the server judged %d keys, want %d", got, tt.attempts)
			}
			if n := s.Connections.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Error("the error holds a secret")
			}
		})
	}
	t.Run("default files", func(t *testing.T) {
		remotetest.WriteIdentity(t, filepath.Join(dir, ".ssh", "id_ed25519"), rightKey)
		s := server(t, right.PublicKey())
		c, err := (&remote.Dialer{}).Connect(t.Context(), s.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	})
}
