package authority

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
)

// exitPending is the status by which a signing program says that the request
// waits for somebody (EX_TEMPFAIL of sysexits.h).
const exitPending = 75

// A Command is a program that signs: it reads a certificate request in PEM from
// standard input and prints the chain in PEM, leaf first. What policy asks for is
// in its environment: VIRTRUST_HOST, VIRTRUST_CERTIFICATE, VIRTRUST_CN,
// VIRTRUST_DNS and VIRTRUST_IP (lists with commas), VIRTRUST_USAGES and
// VIRTRUST_DAYS. Exit status 75 means that the request waits for somebody; any
// other but 0 that it was refused, for the reason on standard error.
type Command struct {
	Argv    []string
	Dir     string        // where it runs
	Timeout time.Duration // 0 means a minute
	HideEnv []string      // variables that it does not inherit
	Allowed bool          // --allow-exec was given
}

// OpenCommand opens an authority that is reached through a program. It is
// ErrExec where running programs is not allowed.
func OpenCommand(ctx context.Context, name, dir, run string, c Command, l *ledger.Ledger) (*External, error) {
	if !c.Allowed {
		return nil, fmt.Errorf("authority %s: %w", name, ErrExec)
	}
	if len(c.Argv) == 0 {
		return nil, fmt.Errorf("authority %s: there is no command", name)
	}
	return openExternal(ctx, name, dir, run, c, l)
}

// maxAnswer bounds what a signer may answer, in bytes.
const maxAnswer = 1 << 20

func (c Command) request(ctx context.Context, r Request) ([]*x509.Certificate, error) {
	limit := c.Timeout
	if limit <= 0 {
		limit = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Dir = c.Dir
	cmd.WaitDelay = 2 * time.Second
	cmd.Stdin = bytes.NewReader(requestPEM(r))
	var out, told bounded
	out.limit, told.limit = maxAnswer, 4096
	cmd.Stdout, cmd.Stderr = &out, &told
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(c.HideEnv, name)
	}), wishes(r)...)
	err := cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("%s did not answer within %s", c.Argv[0], limit)
	}
	var status *exec.ExitError
	if errors.As(err, &status) && status.ExitCode() == exitPending {
		return nil, ErrPending
	}
	if err != nil {
		return nil, fmt.Errorf("running %s: %w%s", c.Argv[0], err, said(told.kept))
	}
	if out.over {
		return nil, fmt.Errorf("%s printed more than %d bytes", c.Argv[0], maxAnswer)
	}
	chain, err := parseChain(out.kept)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Argv[0], err)
	}
	return chain, nil
}

// wishes are a profile as variables of the environment.
func wishes(r Request) []string {
	p := r.Profile
	ips := make([]string, len(p.IPs))
	for i, ip := range p.IPs {
		ips[i] = ip.String()
	}
	usages := make([]string, len(p.Usages))
	for i, u := range p.Usages {
		usages[i] = string(u)
	}
	return []string{
		"VIRTRUST_HOST=" + r.Host, "VIRTRUST_CERTIFICATE=" + p.Name, "VIRTRUST_CN=" + p.CommonName,
		"VIRTRUST_DNS=" + strings.Join(p.DNSNames, ","), "VIRTRUST_IP=" + strings.Join(ips, ","),
		"VIRTRUST_USAGES=" + strings.Join(usages, ","), "VIRTRUST_DAYS=" + strconv.Itoa(max(1, int(p.Lifetime/(24*time.Hour)))),
	}
}

// said quotes the last line of what a program told on standard error.
func said(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return ": " + strconv.Quote(last)
	}
	return ""
}

// bounded keeps the first limit bytes written to it.
type bounded struct {
	kept  []byte
	limit int
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := len(p)
	if room := b.limit - len(b.kept); n > room {
		p, b.over = p[:max(room, 0)], true
	}
	b.kept = append(b.kept, p...)
	return n, nil
}
