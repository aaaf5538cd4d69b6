package remote

import (
	"bytes"
	"context"
	"errors"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/facts"
)

// Phase is one step on the way to a host.
type Phase string

// The phases of [Dialer.Connect] after name resolution, in their order.
const (
	PhaseTCP            Phase = "tcp"
	PhaseAlgorithms     Phase = "algorithms"
	PhaseHostKey        Phase = "host key"
	PhaseAuthentication Phase = "authentication"
)

type traceKey struct{}

// WithTrace gives a context with which [Dialer.Connect] tells of each phase
// when it is over, with what was found; host is whom the connection is to,
// which may be a host on the way. tell may be called from other goroutines.
func WithTrace(ctx context.Context, tell func(host string, p Phase, found string)) context.Context {
	return context.WithValue(ctx, traceKey{}, tell)
}

func trace(ctx context.Context, host string, p Phase, found string) {
	if tell, ok := ctx.Value(traceKey{}).(func(string, Phase, string)); ok {
		tell(host, p, found)
	}
}

// Algorithms names what the connection is protected with, for people.
func (c *Conn) Algorithms() string {
	m, ok := c.client.Conn.(ssh.AlgorithmsConnMetadata)
	if !ok {
		return ""
	}
	a := m.Algorithms()
	return clean(a.KeyExchange+", "+a.HostKey+", "+a.Write.Cipher, 160)
}

// Software is how the host's SSH server names itself.
func (c *Conn) Software() string { return clean(string(c.client.ServerVersion()), 80) }

// Login is what is true of the login user's shell.
type Login struct {
	User  string // by its id on the host
	Shell string // the login shell, such as /bin/bash
	Sh    string // what /bin/sh is, links followed
	Noise string // what start-up files print before a command's own output
}

// Login starts a shell as the login user, without sudo, and asks it who it is.
func (c *Conn) Login(ctx context.Context) (Login, error) {
	nonce := Nonce()
	out, err := c.run(ctx, c.enter(false), whole("N="+nonce+`
LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
say() { printf '%s %s %d %s\n%s\n' "$N" "$1" "${#3}" "$2" "$3"; }
say user '' "$(id -un)"
say shell '' "${SHELL-}"
say sh '' "$(readlink -f /bin/sh)"`), Limits{Stdout: 1 << 20})
	if err != nil {
		return Login{}, err
	}
	a := answer{frames: facts.Frames(nonce, out.Stdout)}
	text := func(kind string) string {
		f, _ := a.get(kind)
		return clean(string(f.Data), 80)
	}
	l := Login{User: text("user"), Shell: text("shell"), Sh: text("sh")}
	if l.User == "" {
		return l, &Error{Class: ClassShell, Host: c.host, Op: "starting /bin/sh", Err: errors.New("it did not read the script: " + orNothing(string(out.Stdout)+string(out.Stderr))),
			Hint: shellHint}
	}
	if at := bytes.Index(out.Stdout, []byte(nonce)); at > 0 {
		l.Noise = clean(lastLine(string(out.Stdout[:at])), 80)
	}
	return l, nil
}

// UID runs a script as virtrust does, through sudo where the endpoint says so,
// and gives its user id.
func (c *Conn) UID(ctx context.Context) (string, error) {
	nonce := Nonce()
	out, err := c.Run(ctx, whole("N="+nonce+`
say() { printf '%s %s %d %s\n%s\n' "$N" "$1" "${#3}" "$2" "$3"; }
say uid '' "$(id -u)"`), Limits{Stdout: 1 << 20})
	if err != nil {
		return "", err
	}
	f, _ := answer{frames: facts.Frames(nonce, out.Stdout)}.get("uid")
	return clean(string(f.Data), 20), nil
}

// SFTP starts the SFTP subsystem, unless it runs. Where that fails with
// [ClassShell], files go through scripts.
func (c *Conn) SFTP(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	defer c.guard(ctx)()
	_, done, err := c.openSFTP(ctx)
	if err == nil {
		done()
	}
	return err
}

// Forwards reports whether sshd lets connections start on the host; addr, as
// the host sees it, is tried for it.
func (c *Conn) Forwards(ctx context.Context, addr string) (bool, error) {
	conn, err := c.Forward(ctx, "tcp", addr)
	switch {
	case err == nil:
		_ = conn.Close()
		return true, nil
	case ClassOf(err) == ClassProhibited:
		return false, nil
	case ClassOf(err) == ClassRefused:
		return true, nil
	}
	return false, err
}
