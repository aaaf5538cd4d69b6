package remote_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

func TestServed(t *testing.T) {
	c, err := (&remote.Dialer{}).Connect(t.Context(), remotetest.Start(t, remotetest.Options{}).Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cert := leaf(t)
	config := func(version uint16, auth tls.ClientAuthType) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, MaxVersion: version, ClientAuth: auth}
	}
	tests := []struct {
		name     string
		config   *tls.Config
		say      []byte
		finished bool
		greeted  bool
	}{
		{"TLS 1.3, greets", config(tls.VersionTLS13, tls.NoClientCert), []byte{1}, true, true},
		{"TLS 1.3, says another byte", config(tls.VersionTLS13, tls.NoClientCert), []byte{0}, true, false},
		{"TLS 1.3, says nothing", config(tls.VersionTLS13, tls.NoClientCert), nil, true, false},
		{"TLS 1.3, wants a certificate", config(tls.VersionTLS13, tls.RequireAnyClientCert), []byte{1}, true, false},
		{"TLS 1.2", config(tls.VersionTLS12, tls.NoClientCert), []byte{1}, true, true},
		{"TLS 1.2, wants a certificate", config(tls.VersionTLS12, tls.RequireAnyClientCert), []byte{1}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := listen(t, serveTLS(tt.config, tt.say))
			got, err := c.Greeted(t.Context(), addr, "kvm1", 300*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Chain) != 1 || !bytes.Equal(got.Chain[0], cert.Certificate[0]) || got.Version != tt.config.MaxVersion || got.Finished != tt.finished || got.Greeted != tt.greeted {
				t.Errorf("%d certificates, version %x, finished %v, greeted %v", len(got.Chain), got.Version, got.Finished, got.Greeted)
			}
			again, err := c.Served(t.Context(), addr, "")
			if err != nil || again.Greeted || !bytes.Equal(again.Chain[0], cert.Certificate[0]) {
				t.Errorf("Served: %+v, %v", again, err)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		addr := listen(t, func(l net.Listener) {
			var kept []net.Conn // one that is collected as garbage is closed
			for {
				c, err := l.Accept()
				if err != nil {
					runtime.KeepAlive(kept)
					return
				}
				kept = append(kept, c)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := c.Served(ctx, addr, ""); remote.ClassOf(err) != remote.ClassTimeout {
			t.Errorf("class %q: %v", remote.ClassOf(err), err)
		}
	})
	t.Run("closes at once", func(t *testing.T) {
		addr := listen(t, speak(""))
		if _, err := c.Served(t.Context(), addr, ""); remote.ClassOf(err) != remote.ClassProtocol {
			t.Errorf("class %q: %v", remote.ClassOf(err), err)
		}
	})
	if out, err := c.Run(t.Context(), []byte("echo alive"), remote.Limits{}); err != nil || string(out.Stdout) != "alive\n" {
		t.Errorf("afterwards: %q, %v", out.Stdout, err)
	}
}

// Where sshd forbids forwarding, the host's own openssl looks.
func TestServedFromTheHost(t *testing.T) {
	c, err := (&remote.Dialer{}).Connect(t.Context(), remotetest.StartOpenSSH(t, "DisableForwarding yes\nMaxSessions 1").Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cert := leaf(t)
	config := func(version uint16, auth tls.ClientAuthType) func(net.Listener) {
		return serveTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, MaxVersion: version, ClientAuth: auth}, nil)
	}
	tests := map[string]struct {
		serve func(net.Listener)
		class remote.Class
	}{
		"TLS 1.3":                      {config(tls.VersionTLS13, tls.NoClientCert), ""},
		"TLS 1.3, wants a certificate": {config(tls.VersionTLS13, tls.RequireAnyClientCert), ""},
		"TLS 1.2, wants a certificate": {config(tls.VersionTLS12, tls.RequireAnyClientCert), ""},
		"not TLS":                      {remotetest.Plain, remote.ClassProtocol},
		"nothing":                      {nil, remote.ClassRefused},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			seen, err := c.Served(t.Context(), listen(t, tt.serve), "kvm1.example.test")
			if remote.ClassOf(err) != tt.class {
				t.Fatalf("%v (class %q), want class %q", err, remote.ClassOf(err), tt.class)
			}
			if err == nil && (len(seen.Chain) != 1 || !bytes.Equal(seen.Chain[0], cert.Certificate[0])) {
				t.Errorf("saw %d certificates, not the one served", len(seen.Chain))
			}
		})
	}
}
