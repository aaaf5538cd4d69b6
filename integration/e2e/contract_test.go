package e2e

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

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

// The OpenSSH of the hosts keeps to what the in-process server promises.
func TestContract(t *testing.T) {
	t.Parallel()
	for _, suite := range lab.Suites {
		t.Run(suite, func(t *testing.T) {
			s := newSite(t, lab.HostSpec{Suite: suite, Cheap: true})
			public, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kvm1"}, NotAfter: time.Now().Add(time.Hour)}
			leaf, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
			if err != nil {
				t.Fatal(err)
			}
			d := &remote.Dialer{Dial: s.Lab.Dial}
			t.Cleanup(func() { d.Close() })
			remotetest.Contract(t, remotetest.Subject{
				Endpoint: remote.Endpoint{Name: "kvm1", Address: s.Hosts[0].FQDN, Port: 22, User: "root",
					KnownHosts: []string{s.Lab.KnownHosts()}, Identity: []string{s.Lab.IdentityFile()}},
				Dialer:      d,
				TLSAddr:     s.listen(t, tlsServer(tls.Certificate{Certificate: [][]byte{leaf}, PrivateKey: key})),
				TLSLeaf:     leaf,
				RefusedAddr: "127.0.0.1:1",
				PlainAddr:   s.listen(t, remotetest.Plain),
			})
		})
	}
}

// listen serves at the lab's own address, which the hosts reach.
func (s *site) listen(t *testing.T, serve func(net.Listener)) string {
	t.Helper()
	l, err := s.Lab.Listen(t.Context(), "tcp", lab.ControllerAddresses.Management4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serve(l)
	return l.Addr().String()
}

// tlsServer asks for a client certificate, as libvirtd does, and then waits.
func tlsServer(cert tls.Certificate) func(net.Listener) {
	return func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert})
				if s.Handshake() == nil {
					_, _ = s.Read(make([]byte, 1))
				}
			}()
		}
	}
}
