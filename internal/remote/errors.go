package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"
)

// Class says what kind of thing went wrong, and so what may be done about it.
type Class string

// The classes of an [Error].
const (
	ClassDNS            Class = "dns"              // the address has no usable name record
	ClassRefused        Class = "refused"          // nothing listens there
	ClassUnreachable    Class = "unreachable"      // no route to the address
	ClassTimeout        Class = "timeout"          // no answer in time
	ClassThrottled      Class = "throttled"        // sshd closed before it named its version
	ClassHostKeyUnknown Class = "host key unknown" // no entry for this host; nothing was offered to it
	ClassHostKeyChanged Class = "host key changed" // another key than the known one, or a revoked one
	ClassAlgorithm      Class = "algorithm"        // no common algorithm
	ClassAuthentication Class = "authentication"   // no key of ours was accepted, or there is none
	ClassShell          Class = "shell"            // sshd did not start the shell, or has no SFTP
	ClassProhibited     Class = "prohibited"       // sshd forbids forwarding
	ClassProtocol       Class = "protocol"         // the other side does not speak what it should
	ClassLost           Class = "lost"             // the connection ended
	ClassUnknown        Class = "unknown outcome"  // sent, perhaps carried out, not answered: look again
	ClassConfiguration  Class = "configuration"    // a local file or value cannot be used
	ClassFile           Class = "file"             // the host refused a file operation
	ClassInterrupted    Class = "interrupted"      // the caller gave up
)

// ErrOutputLimit is wrapped by the error of a host that sent more than a limit allows.
var ErrOutputLimit = errors.New("the host sent more than the limit allows")

// Error is an error of this package. Its text holds no control character.
type Error struct {
	Class Class
	Host  string // inventory name
	Op    string // what was being done, such as "connecting"
	Err   error
	Hint  string // one line: what to do; may be empty
}

// Error returns host, operation and cause, without the hint.
func (e *Error) Error() string {
	cause := string(e.Class)
	if e.Err != nil {
		cause = clean(e.Err.Error(), 400)
	}
	return fmt.Sprintf("%s: %s: %s", e.Host, e.Op, cause)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of the first [Error] in err's chain, or "".
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

// clean makes text that a host may have written fit for one line: control,
// formatting and invalid characters are escaped, and it is cut at limit runes.
func clean(s string, limit int) string {
	var b strings.Builder
	n := 0
	for i, r := range s {
		if n == limit {
			b.WriteString("…")
			break
		}
		n++
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			fmt.Fprintf(&b, `\x%02x`, s[i])
			continue
		}
		// IsPrint of strconv is the rule of %q: it also refuses C1 and the
		// formatting characters that reorder text.
		if r != ' ' && !strconv.IsPrint(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// netClass classifies an error of dialing, reading or writing; what it cannot
// tell is otherwise.
func netClass(ctx context.Context, err error, otherwise Class) Class {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(ctx.Err(), context.Canceled):
		return ClassInterrupted
	case errors.As(err, &dns) && !dns.IsTimeout:
		return ClassDNS
	case errors.Is(err, syscall.ECONNREFUSED):
		return ClassRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return ClassUnreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT),
		errors.As(err, &timeout) && timeout.Timeout(), errors.Is(ctx.Err(), context.DeadlineExceeded):
		return ClassTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return ClassLost
	}
	return otherwise
}
