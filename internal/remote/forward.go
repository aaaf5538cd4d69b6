package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Forward opens a connection from the host: network is "tcp" with "host:port",
// which the host resolves, or "unix" with the path of a socket. It takes one
// round trip and at most 10 s. Deadlines work on the connection, and its end
// leaves c as it is.
//
// The class of an error is [ClassRefused] when nothing listens,
// [ClassProhibited] when sshd forbids forwarding.
func (c *Conn) Forward(ctx context.Context, network, addr string) (net.Conn, error) {
	op := "connecting from the host to " + addr
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	kind, payload, err := forwardRequest(network, addr)
	if err != nil {
		return nil, &Error{Class: ClassConfiguration, Host: c.host, Op: op, Err: err}
	}
	ch, reqs, err := c.open(ctx, kind, payload)
	if err != nil {
		return nil, c.forwardError(ctx, op, err)
	}
	go ssh.DiscardRequests(reqs)
	go discard(ch.Stderr())

	// A channel has no deadlines; a pipe has.
	ours, theirs := net.Pipe()
	go func() {
		_, _ = io.Copy(ch, theirs)
		_ = ch.Close()
		_ = theirs.Close()
	}()
	go func() {
		_, _ = io.Copy(theirs, ch)
		_ = theirs.Close()
	}()
	return ours, nil
}

func forwardRequest(network, addr string) (kind string, payload []byte, err error) {
	switch network {
	case "tcp":
		host, service, err := net.SplitHostPort(addr)
		if err != nil {
			return "", nil, err
		}
		port, err := strconv.ParseUint(service, 10, 16)
		if err != nil {
			return "", nil, err
		}
		return "direct-tcpip", ssh.Marshal(struct { // RFC 4254, 7.2
			Host       string
			Port       uint32
			Origin     string
			OriginPort uint32
		}{host, uint32(port), "127.0.0.1", 0}), nil
	case "unix":
		return "direct-streamlocal@openssh.com", ssh.Marshal(struct { // OpenSSH's PROTOCOL, 2.4
			Path     string
			Reserved string
			Port     uint32
		}{addr, "", 0}), nil
	}
	return "", nil, fmt.Errorf("network %q is neither tcp nor unix", network)
}

func (c *Conn) forwardError(ctx context.Context, op string, err error) error {
	var refused *ssh.OpenChannelError
	if !errors.As(err, &refused) {
		return c.fail(ctx, ClassProtocol, op, err, "")
	}
	said := fmt.Errorf("%s (%s)", clean(refused.Message, 120), refused.Reason)
	text := strings.ToLower(refused.Message)
	switch {
	case refused.Reason == ssh.Prohibited, refused.Reason == ssh.UnknownChannelType:
		return &Error{Class: ClassProhibited, Host: c.host, Op: op, Err: said, Hint: "sshd_config of the host: AllowTcpForwarding, PermitOpen, DisableForwarding"}
	case refused.Reason == ssh.ResourceShortage:
		return &Error{Class: ClassThrottled, Host: c.host, Op: op, Err: said}
	case strings.Contains(text, "timed out"):
		return &Error{Class: ClassTimeout, Host: c.host, Op: op, Err: said}
	case strings.Contains(text, "unreachable"), strings.Contains(text, "no route"):
		return &Error{Class: ClassUnreachable, Host: c.host, Op: op, Err: said}
	}
	return &Error{Class: ClassRefused, Host: c.host, Op: op, Err: said}
}

// discard drops what a channel's stderr says, lest its window fill up.
func discard(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
