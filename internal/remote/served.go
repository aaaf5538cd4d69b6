package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Served is what a TLS listener showed to a client without a certificate. A
// look from the host itself gives the chain alone.
type Served struct {
	Chain    [][]byte // the peer's certificates in DER, leaf first; host data
	Version  uint16   // such as tls.VersionTLS13
	Finished bool     // the handshake ended well for us; with TLS 1.3 that is no acceptance
	Greeted  bool     // libvirtd's byte 0x01 came: it accepts this client
}

// Served connects from the host to addr and returns what is served there; where
// sshd forbids forwarding, a program on the host does it. It trusts nothing and judges nothing: that is the caller's part. A listener that
// wants a client certificate shows its own first, and that is enough.
//
// It takes two round trips, beside whatever else runs, and at most 45 s: a
// libvirtd that leaves because nobody uses it can take 30 s to end (11.3.0), and
// only then systemd starts it for this connection. Errors
// have the classes of [Conn.Forward], [ClassProhibited] only where the host has
// no such program either, [ClassTimeout] when the listener says
// nothing, and [ClassProtocol] when what it says is not TLS.
func (c *Conn) Served(ctx context.Context, addr, serverName string) (Served, error) {
	if c.noForward.Load() {
		return c.lookFromHost(ctx, "looking at what is served on "+addr, addr, serverName)
	}
	seen, err := c.look(ctx, addr, serverName, 0)
	if ClassOf(err) == ClassProhibited {
		c.noForward.Store(true)
		return c.lookFromHost(ctx, "looking at what is served on "+addr, addr, serverName)
	}
	return seen, err
}

// Greeted is like [Conn.Served] and then waits for libvirtd's byte 0x01, for at
// most the given time. That it did not come is no error: see Served.Greeted.
func (c *Conn) Greeted(ctx context.Context, addr, serverName string, wait time.Duration) (Served, error) {
	return c.look(ctx, addr, serverName, wait)
}

func (c *Conn) look(ctx context.Context, addr, serverName string, greeting time.Duration) (Served, error) {
	op := "looking at what is served on " + addr
	ctx, cancel := context.WithTimeout(ctx, servedTimeout+greeting)
	defer cancel()
	raw, err := c.Forward(ctx, "tcp", addr)
	if err != nil {
		return Served{}, err
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(servedTimeout))

	seen, client, err := c.handshake(ctx, op, raw, serverName)
	if err != nil || !seen.Finished || greeting == 0 {
		return seen, err
	}
	_ = raw.SetDeadline(time.Now().Add(greeting))
	var first [1]byte
	if _, err := io.ReadFull(client, first[:]); err == nil {
		seen.Greeted = first[0] == 1
	}
	return seen, nil
}

// handshake shakes hands and gives what the other end showed.
func (c *Conn) handshake(ctx context.Context, op string, raw net.Conn, serverName string) (Served, *tls.Conn, error) {
	var seen Served
	client := tls.Client(raw, &tls.Config{
		ServerName: serverName,
		MinVersion: tls.VersionTLS12,
		// Nothing is trusted and nothing is sent: this looks at what a listener
		// shows, also when that is expired or of another authority.
		InsecureSkipVerify: true, //nolint:gosec // G402: see above
		VerifyConnection: func(s tls.ConnectionState) error {
			seen.Version = s.Version
			for _, cert := range s.PeerCertificates {
				seen.Chain = append(seen.Chain, cert.Raw)
			}
			return nil
		},
	})
	err := client.HandshakeContext(ctx)
	if len(seen.Chain) == 0 {
		if err == nil {
			err = errors.New("no certificate was shown")
		}
		return Served{}, nil, c.tlsError(ctx, op, err)
	}
	seen.Finished = err == nil
	return seen, client, nil
}

func (c *Conn) tlsError(ctx context.Context, op string, err error) error {
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return &Error{Class: ClassProtocol, Host: c.host, Op: op, Err: fmt.Errorf("it does not speak TLS: %w", err)}
	}
	class := netClass(ctx, err, ClassProtocol)
	c.mu.Lock()
	alive := c.cause == nil
	c.mu.Unlock()
	if class == ClassLost && alive {
		// The listener closed, not the host's connection.
		class = ClassProtocol
		err = fmt.Errorf("it closed the connection during the TLS handshake: %w", err)
	}
	return &Error{Class: class, Host: c.host, Op: op, Err: err}
}
