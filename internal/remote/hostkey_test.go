package remote_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

func ecdsaKey(t *testing.T) ssh.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func line(marker, host string, key ssh.PublicKey) string {
	return strings.TrimSpace(marker+" "+host+" "+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))) + "\n"
}

// Keys of ours are offered only to a host whose key is known: whatever
// known_hosts says, a refusal comes before any authentication.
func TestKnownHosts(t *testing.T) {
	ed, _ := remotetest.NewKey()
	other, _ := remotetest.NewKey()
	ca, _ := remotetest.NewKey()
	ec := ecdsaKey(t)
	certified := func(principal string) ssh.Signer {
		cert := &ssh.Certificate{Key: ed.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{principal}, ValidBefore: ssh.CertTimeInfinity}
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewCertSigner(cert, ed)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	at := func(host string, port int) string { return fmt.Sprintf("[%s]:%d", host, port) }
	tests := []struct {
		name  string
		host  []ssh.Signer
		lines func(port int) string
		want  remote.Class
	}{
		{"by address", []ssh.Signer{ed}, func(p int) string { return line("", at("127.0.0.1", p), ed.PublicKey()) }, ""},
		{"by name", []ssh.Signer{ed}, func(p int) string { return line("", at("kvm1", p), ed.PublicKey()) }, ""},
		{"hashed", []ssh.Signer{ed}, func(p int) string { return line("", knownhosts.HashHostname(at("127.0.0.1", p)), ed.PublicKey()) }, ""},
		{"the name goes before the address", []ssh.Signer{ed}, func(p int) string {
			return line("", at("127.0.0.1", p), ed.PublicKey()) + line("", at("kvm1", p), other.PublicKey())
		}, remote.ClassHostKeyChanged},
		{"empty", []ssh.Signer{ed}, func(int) string { return "" }, remote.ClassHostKeyUnknown},
		{"another port", []ssh.Signer{ed}, func(p int) string { return line("", at("127.0.0.1", p+1), ed.PublicKey()) }, remote.ClassHostKeyUnknown},
		{"port 22 is not this port", []ssh.Signer{ed}, func(int) string { return line("", "127.0.0.1", ed.PublicKey()) }, remote.ClassHostKeyUnknown},
		{"changed", []ssh.Signer{ed}, func(p int) string { return "# a comment\n" + line("", at("127.0.0.1", p), other.PublicKey()) }, remote.ClassHostKeyChanged},
		{"only Ed25519 is known of a host that has ECDSA, too", []ssh.Signer{ec, ed}, func(p int) string { return line("", at("127.0.0.1", p), ed.PublicKey()) }, ""},
		{"only ECDSA is known of a host that has Ed25519, too", []ssh.Signer{ed, ec}, func(p int) string { return line("", at("127.0.0.1", p), ec.PublicKey()) }, ""},
		{"a type that the host has not", []ssh.Signer{ed}, func(p int) string { return line("", at("127.0.0.1", p), ec.PublicKey()) }, remote.ClassAlgorithm},
		{"revoked", []ssh.Signer{ed}, func(p int) string {
			return line("", at("127.0.0.1", p), ed.PublicKey()) + line("@revoked", "*", ed.PublicKey())
		}, remote.ClassHostKeyChanged},
		{"certificate", []ssh.Signer{certified("127.0.0.1")}, func(p int) string { return line("@cert-authority", at("127.0.0.1", p), ca.PublicKey()) }, ""},
		{"certificate, name pattern", []ssh.Signer{certified("kvm1")}, func(int) string { return line("@cert-authority", "kvm*", ca.PublicKey()) }, ""},
		{"certificate for another name", []ssh.Signer{certified("kvm2")}, func(p int) string { return line("@cert-authority", at("127.0.0.1", p), ca.PublicKey()) }, remote.ClassHostKeyChanged},
		{"certificate of a revoked authority", []ssh.Signer{certified("127.0.0.1")}, func(p int) string {
			return line("@cert-authority", at("127.0.0.1", p), ca.PublicKey()) + line("@revoked", "*", ca.PublicKey())
		}, remote.ClassHostKeyChanged},
		{"not a known_hosts file", []ssh.Signer{ed}, func(int) string { return "no such thing\n" }, remote.ClassConfiguration},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := remotetest.Start(t, remotetest.Options{HostKeys: tt.host})
			e := s.Endpoint
			e.HostKeys = nil
			e.KnownHosts = []string{filepath.Join(t.TempDir(), "known_hosts")}
			if err := os.WriteFile(e.KnownHosts[0], []byte(tt.lines(e.Port)), 0o600); err != nil {
				t.Fatal(err)
			}
			d := &remote.Dialer{}
			c, err := d.Connect(t.Context(), e)
			if got := remote.ClassOf(err); got != tt.want {
				t.Fatalf("class %q, want %q: %v", got, tt.want, err)
			}
			if err == nil {
				_ = c.Close()
				return
			}
			if n := s.Attempts.Load(); n != 0 {
				t.Errorf("%d keys were offered to a host that is not known", n)
			}
			var re *remote.Error
			errors.As(err, &re)
			switch tt.want {
			case remote.ClassHostKeyUnknown:
				if !strings.Contains(err.Error(), ssh.FingerprintSHA256(ed.PublicKey())) || !strings.Contains(re.Hint, line("", at("127.0.0.1", e.Port), ed.PublicKey())[:40]) {
					t.Errorf("fingerprint or line missing: %v; %s", err, re.Hint)
				}
			case remote.ClassHostKeyChanged:
				if tt.name == "changed" && !strings.Contains(err.Error(), e.KnownHosts[0]+":2") {
					t.Errorf("file and line missing: %v", err)
				}
			}
		})
	}
	t.Run("missing file", func(t *testing.T) {
		e := remote.Endpoint{Name: "kvm1", Address: "127.0.0.1", KnownHosts: []string{"/nonexistent/known_hosts"}}
		if _, err := (&remote.Dialer{}).Connect(t.Context(), e); remote.ClassOf(err) != remote.ClassConfiguration {
			t.Error(err)
		}
	})
}

// The line that an error proposes is one that makes the host known.
func TestProposedLine(t *testing.T) {
	s := remotetest.Start(t, remotetest.Options{})
	e := s.Endpoint
	e.HostKeys = nil
	e.KnownHosts = []string{filepath.Join(t.TempDir(), "known_hosts")}
	if err := os.WriteFile(e.KnownHosts[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := (&remote.Dialer{}).Connect(t.Context(), e)
	var re *remote.Error
	if !errors.As(err, &re) {
		t.Fatal(err)
	}
	_, proposed, ok := strings.Cut(re.Hint, e.KnownHosts[0]+": ")
	if !ok {
		t.Fatalf("no line in %q", re.Hint)
	}
	if err := os.WriteFile(e.KnownHosts[0], []byte(proposed+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := (&remote.Dialer{}).Connect(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestDefaultKnownHosts(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	s := remotetest.Start(t, remotetest.Options{})
	e := s.Endpoint
	e.HostKeys = nil
	if _, err := (&remote.Dialer{}).Connect(t.Context(), e); remote.ClassOf(err) != remote.ClassHostKeyUnknown {
		t.Errorf("without a file: %v", err)
	}
	var re *remote.Error
	_, err := (&remote.Dialer{}).Connect(t.Context(), e)
	if !errors.As(err, &re) {
		t.Fatal(err)
	}
	file := filepath.Join(home, ".ssh", "known_hosts")
	_, proposed, ok := strings.Cut(re.Hint, file+": ")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil || !ok {
		t.Fatal(err, re.Hint)
	}
	if err := os.WriteFile(file, []byte(proposed+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := (&remote.Dialer{}).Connect(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
