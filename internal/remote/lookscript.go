package remote

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
)

// lookScript looks at a TLS listener A, on host H and port P, as S, from the
// host itself. It needs no rights and does not want the listener's trust.
const lookScript = `LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH
umask 077
say() { printf '%s %s %d %s\n%s\n' "$N" "$1" "${#3}" "$2" "$3"; }
if command -v openssl >/dev/null 2>&1; then
	x=$(timeout "$T" openssl s_client -connect "$A" ${S:+-servername "$S"} -showcerts -prexit </dev/null 2>&1 | head -c 200000)
elif command -v gnutls-cli >/dev/null 2>&1; then
	x=$(timeout "$T" gnutls-cli --insecure --print-cert ${S:+--sni-hostname "$S"} --port "$P" "$H" </dev/null 2>&1 | head -c 200000)
else
	say without '' ''
	exit 0
fi
say served '' "$x"
`

// lookFromHost is [Conn.Served] on a host whose sshd forbids forwarding: a
// program there connects in our place.
func (c *Conn) lookFromHost(ctx context.Context, op, addr, serverName string) (Served, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Served{}, &Error{Class: ClassConfiguration, Host: c.host, Op: op, Err: err}
	}
	nonce, q := Nonce(), facts.Quote
	head := fmt.Sprintf("N=%s A=%s H=%s P=%s S=%s T=%d\n", nonce, q(addr), q(host), q(port), q(serverName), int(servedTimeout.Seconds()))
	out, err := c.run(ctx, c.enter(false), whole(head+lookScript), Limits{Stdout: 1 << 20, Timeout: servedTimeout + 10*time.Second})
	if err != nil {
		return Served{}, err
	}
	a := answer{frames: facts.Frames(nonce, out.Stdout)}
	if _, ok := a.get("without"); ok {
		return Served{}, &Error{Class: ClassProhibited, Host: c.host, Op: op, Err: errors.New("sshd forbids forwarding, and the host has neither openssl nor gnutls-cli to look with"),
			Hint: "install openssl there, or allow forwarding: AllowTcpForwarding, PermitOpen, DisableForwarding in sshd_config"}
	}
	f, ok := a.get("served")
	if !ok {
		return Served{}, &Error{Class: ClassShell, Host: c.host, Op: op, Err: fmt.Errorf("the script ended with status %d: %s", out.Exit, orNothing(string(out.Stderr)))}
	}
	return c.shown(op, f.Data)
}

// shown reads what openssl s_client or gnutls-cli printed: the certificates in
// PEM, or why there is none. Both may print the leaf twice.
func (c *Conn) shown(op string, text []byte) (Served, error) {
	var seen Served
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		again := false
		for _, have := range seen.Chain {
			again = again || string(have) == string(block.Bytes)
		}
		if block.Type == "CERTIFICATE" && !again && len(seen.Chain) < 16 {
			seen.Chain = append(seen.Chain, block.Bytes)
		}
	}
	if len(seen.Chain) > 0 {
		if _, err := x509.ParseCertificate(seen.Chain[0]); err != nil {
			return Served{}, &Error{Class: ClassProtocol, Host: c.host, Op: op, Err: err}
		}
		return seen, nil
	}
	said := strings.ToLower(string(text))
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(said, p) {
				return true
			}
		}
		return false
	}
	out := &Error{Class: ClassProtocol, Host: c.host, Op: op, Err: errors.New("no certificate was shown: " + orNothing(firstProblem(string(text))))}
	switch {
	case has("connection refused", "errno=111"):
		out.Class, out.Err = ClassRefused, errors.New("nothing listens there")
	case has("no route to host", "network is unreachable", "errno=113", "errno=101"):
		out.Class = ClassUnreachable
	case has("connection timed out", "errno=110"), strings.TrimSpace(said) == "":
		out.Class, out.Err = ClassTimeout, fmt.Errorf("no answer within %s", servedTimeout)
	}
	return Served{}, out
}

// firstProblem is the first line that looks like an error.
func firstProblem(text string) string {
	for l := range strings.Lines(text) {
		if low := strings.ToLower(l); strings.Contains(low, "error") || strings.Contains(low, "alert") {
			return l
		}
	}
	return text
}
