package remote_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

// leaf makes a self-signed certificate.
func leaf(t testing.TB) tls.Certificate {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kvm1"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func listen(t testing.TB, serve func(net.Listener)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if serve == nil {
		_ = l.Close()
	} else {
		go serve(l)
	}
	return l.Addr().String()
}

// serveTLS handshakes, then says what is given and waits for the client to go.
func serveTLS(config *tls.Config, say []byte) func(net.Listener) {
	return func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				s := tls.Server(c, config)
				if s.Handshake() == nil {
					_, _ = s.Write(say)
					_, _ = s.Read(make([]byte, 1))
				}
				_ = s.Close()
			}()
		}
	}
}

func subject(t *testing.T, e remote.Endpoint) remotetest.Subject {
	cert := leaf(t)
	d := &remote.Dialer{}
	t.Cleanup(func() { _ = d.Close() })
	return remotetest.Subject{
		Endpoint: e, Dialer: d,
		TLSAddr:     listen(t, serveTLS(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert}, nil)),
		TLSLeaf:     cert.Certificate[0],
		RefusedAddr: listen(t, nil),
		PlainAddr:   listen(t, remotetest.Plain),
	}
}

func TestContractInProcess(t *testing.T) {
	remotetest.Contract(t, subject(t, remotetest.Start(t, remotetest.Options{}).Endpoint))
}

// Without SFTP, and with one session at a time.
func TestContractNarrow(t *testing.T) {
	remotetest.Contract(t, subject(t, remotetest.Start(t, remotetest.Options{RefuseSFTP: true}).Endpoint))
	remotetest.Contract(t, subject(t, remotetest.StartOpenSSH(t, "MaxSessions 1").Endpoint))
}

func TestContractOpenSSH(t *testing.T) {
	remotetest.Contract(t, subject(t, remotetest.StartOpenSSH(t, "").Endpoint))
}
