package remote_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

// A password is told to a second host only when the first one has accepted it,
// and to no host twice.
func TestPasswordLogin(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	t.Setenv("HOME", t.TempDir())
	ask := func(name, question string, echo bool) func(*ssh.ServerConfig, *atomic.Int64) {
		return func(c *ssh.ServerConfig, tries *atomic.Int64) {
			c.PublicKeyCallback = nil
			c.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				answers, err := challenge(name, "", []string{question}, []bool{echo})
				if err != nil {
					return nil, err
				}
				tries.Add(1)
				if len(answers) != 1 || answers[0] != "secret" {
					return nil, errors.New("no")
				}
				return nil, nil
			}
		}
	}
	password := func(c *ssh.ServerConfig, tries *atomic.Int64) {
		c.PublicKeyCallback = nil
		c.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			tries.Add(1)
			if string(p) != "secret" {
				return nil, errors.New("no")
			}
			return nil, nil
		}
	}
	both := func(c *ssh.ServerConfig, tries *atomic.Int64) {
		ask("", "Password: ", false)(c, tries)
		password(c, tries)
	}
	tests := []struct {
		name   string
		server func(*ssh.ServerConfig, *atomic.Int64)
		text   string
		want   remote.Class
		says   string
		tries  int64 // of ten hosts
	}{
		{name: "password", server: password, text: "secret", tries: 10},
		{name: "keyboard-interactive", server: ask("", "Password: ", false), text: "secret", tries: 10},
		{name: "PAM's question with the user's name", server: ask("", "(root@kvm1) Password: ", false), text: "secret", tries: 10},
		{name: "wrong", server: password, text: "terces", want: remote.ClassAuthentication, says: "password", tries: 1},
		{name: "wrong, both ways offered", server: both, text: "terces", want: remote.ClassAuthentication, says: "password", tries: 1},
		{name: "wrong, keyboard-interactive", server: ask("", "Password: ", false), text: "terces", want: remote.ClassAuthentication, says: "password", tries: 1},
		{name: "a second factor", server: ask("", "Verification code\x1b[2J: ", false), text: "secret", want: remote.ClassAuthentication, says: `Verification code\u001b`, tries: 0},
		{name: "a question that is shown", server: ask("", "Password: ", true), text: "secret", want: remote.ClassAuthentication, says: "asks", tries: 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var tries atomic.Int64
			s := remotetest.Start(t, remotetest.Options{Config: func(c *ssh.ServerConfig) { tt.server(c, &tries) }})
			var asked atomic.Int64
			p := remote.NewPassword(func(context.Context) ([]byte, error) { asked.Add(1); return []byte(tt.text), nil })
			d := &remote.Dialer{}
			var wg sync.WaitGroup
			for i := range 10 {
				e := s.Endpoint
				e.Name, e.Identity, e.Password = "kvm"+string(rune('0'+i)), nil, p
				wg.Go(func() {
					c, err := d.Connect(t.Context(), e)
					if remote.ClassOf(err) != tt.want || err != nil && (!strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\x1b")) {
						t.Errorf("class %q, want %q: %v", remote.ClassOf(err), tt.want, err)
					}
					if err == nil {
						_ = c.Close()
					}
				})
			}
			wg.Wait()
			if tries.Load() != tt.tries || asked.Load() != min(tt.tries, 1) {
				t.Errorf("the password was told %d times, want %d; a person was asked %d times", tries.Load(), tt.tries, asked.Load())
			}
		})
	}
}

// A host that takes the password and says nothing holds up nobody else.
func TestPasswordAndSilence(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	t.Setenv("HOME", t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		told := 0
		silent, reached := make(chan struct{}), make(chan struct{})
		server := func(hang bool) *remotetest.Server {
			return remotetest.New(t, remotetest.Options{Config: func(c *ssh.ServerConfig) {
				c.PublicKeyCallback = nil
				c.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
					told++
					if hang {
						close(reached)
						<-silent
					}
					return nil, nil
				}
			}})
		}
		mute, good := server(true), server(false)
		var wg sync.WaitGroup
		d := &remote.Dialer{Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
			client, far := remotetest.Pipe(oneWay)
			to := good
			if strings.HasPrefix(addr, "127.0.0.2") {
				to = mute
			}
			wg.Go(func() { to.Serve(far) })
			return client, nil
		}}
		p := remote.NewPassword(func(context.Context) ([]byte, error) { return []byte("secret"), nil })
		wg.Go(func() {
			e := mute.Endpoint
			e.Address, e.Identity, e.Password = "127.0.0.2", nil, p
			if _, err := d.Connect(t.Context(), e); remote.ClassOf(err) != remote.ClassTimeout {
				t.Errorf("the silent host: %v", err)
			}
			close(silent)
		})
		<-reached
		e := good.Endpoint
		e.Identity, e.Password = nil, p
		c, err := d.Connect(t.Context(), e)
		if err != nil {
			t.Errorf("the other host: %v", err)
		} else {
			_ = c.Close()
		}
		wg.Wait()
		if told != 2 {
			t.Errorf("the password was told %d times, want 2", told)
		}
	})
}

func TestUserCertificates(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SSH_AUTH_SOCK", "")
	authority, _ := remotetest.NewKey()
	user, key := remotetest.NewKey()
	_, otherKey := remotetest.NewKey()
	file := filepath.Join(home, "user")
	remotetest.WriteIdentity(t, file, key)
	remotetest.WriteIdentity(t, filepath.Join(home, "other"), otherKey)
	certificate := func(from, to time.Duration) *ssh.Certificate {
		t.Helper()
		c := &ssh.Certificate{Key: user.PublicKey(), CertType: ssh.UserCert, KeyId: "operator", ValidPrincipals: []string{"root"},
			ValidAfter: uint64(time.Now().Add(from).Unix()), ValidBefore: uint64(time.Now().Add(to).Unix())}
		if err := c.SignCert(rand.Reader, authority); err != nil {
			t.Fatal(err)
		}
		return c
	}
	write := func(name string, c *ssh.Certificate) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(home, name), ssh.MarshalAuthorizedKey(c), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := certificate(-time.Hour, time.Hour)
	write("good-cert.pub", good)
	write("ended-cert.pub", certificate(-2*time.Hour, -time.Hour))
	write("early-cert.pub", certificate(time.Hour, 2*time.Hour))
	checker := &ssh.CertChecker{IsUserAuthority: func(k ssh.PublicKey) bool { return string(k.Marshal()) == string(authority.PublicKey().Marshal()) }}
	tests := []struct {
		name, config string
		agent        *agent.AddedKey
		beside       string // copied to user-cert.pub
		want         remote.Class
		says         string
		attempts     int64
	}{
		{name: "CertificateFile", config: "IdentityFile ~/user\nCertificateFile ~/good-cert.pub\n", attempts: 1},
		{name: "of another key, too", config: "IdentityFile ~/other\nIdentityFile ~/user\nCertificateFile ~/good-cert.pub\n", attempts: 2},
		{name: "beside the key", config: "IdentityFile ~/user\n", beside: "good-cert.pub", attempts: 1},
		{name: "in the agent", agent: &agent.AddedKey{PrivateKey: &key, Certificate: good}, attempts: 1},
		{name: "key in the agent, certificate in a file", config: "CertificateFile ~/good-cert.pub\n", agent: &agent.AddedKey{PrivateKey: &key}, attempts: 1},
		{name: "ended", config: "IdentityFile ~/user\nCertificateFile ~/ended-cert.pub\n", want: remote.ClassAuthentication, says: `"operator" ended at`, attempts: 1},
		{name: "not yet", config: "IdentityFile ~/user\nCertificateFile ~/early-cert.pub\n", want: remote.ClassAuthentication, says: "is valid from", attempts: 1},
		{name: "missing", config: "IdentityFile ~/user\nCertificateFile ~/none-cert.pub\n", want: remote.ClassAuthentication, says: "no such file", attempts: 1},
		{name: "a plain key", config: "IdentityFile ~/user\nCertificateFile ~/user.pub\n", want: remote.ClassAuthentication, says: "not the certificate of a user", attempts: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.agent != nil {
				startAgentWith(t, *tt.agent)
			}
			if tt.beside != "" {
				write("user-cert.pub", good)
				defer os.Remove(filepath.Join(home, "user-cert.pub"))
			}
			var s *remotetest.Server
			s = remotetest.Start(t, remotetest.Options{Config: func(c *ssh.ServerConfig) {
				c.PublicKeyCallback = func(m ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
					s.Attempts.Add(1)
					return checker.Authenticate(m, k)
				}
			}})
			e := configured(t, tt.config)
			e.Address, e.Port, e.HostKeys = "127.0.0.1", s.Endpoint.Port, s.Endpoint.HostKeys
			d := &remote.Dialer{}
			defer d.Close()
			c, err := d.Connect(t.Context(), e)
			if remote.ClassOf(err) != tt.want || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("class %q, want %q: %v", remote.ClassOf(err), tt.want, err)
			}
			if err == nil {
				_ = c.Close()
			}
			if n := s.Attempts.Load(); n != tt.attempts {
				t.Errorf("%d keys were tried, want %d", n, tt.attempts)
			}
		})
	}
}
