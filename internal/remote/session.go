package remote

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// Scripts of the host transaction. Each is read whole by the shell before its
// first line runs: a script that arrives cut does nothing.
var (
	//go:embed lease.sh
	leaseScript string
	//go:embed lock.sh
	lockScript string
	//go:embed switch.sh
	switchScript string
	//go:embed revert.sh
	revertBody string
	//go:embed console.sh
	consoleScript string
	//go:embed reload.sh
	reloadScript string
	//go:embed end.sh
	endScript string
)

// revertScript is the reverter as it lies on the host, with all that it calls.
var revertScript = consoleScript + reloadScript + revertBody

// Classes of the host transaction's errors.
const (
	ClassLock   Class = "lock"   // another run is at work on the host
	ClassMoved  Class = "moved"  // the host is not as the plan saw it
	ClassScript Class = "script" // a step of a script on the host failed
	ClassProof  Class = "proof"  // the host does not show what it should
)

// Durations of the host transaction, in the host's uptime.
const (
	leaseMargin = 3 * time.Minute // that a lease outlasts the reverter

	// DefaultRevertAfter is how long after the switch the reverter acts when
	// nobody confirmed; MinRevertAfter the shortest that leaves time to prove.
	DefaultRevertAfter = 2 * time.Minute
	MinRevertAfter     = 15 * time.Second
)

// SessionConfig is what the transactions of a run need to know.
type SessionConfig struct {
	Run   string // id of the run: [a-z0-9-], unique
	Owner string // user@machine of this program, shown to whom the lease keeps out
	// RevertService is the unit that runs the reverter at boot.
	RevertService []byte
	// RevertAfter is how long the host waits for the confirmation; zero means
	// DefaultRevertAfter.
	RevertAfter time.Duration
	// Render makes a file's new content from an operation with edits.
	Render func(o plan.WriteFile, have []byte) ([]byte, error)
	// Keep makes the files that let the firewall's rules last, from what the
	// host has. Nil where no operation changes a firewall.
	Keep func(ops plan.Ops, seen *facts.Host) ([]plan.Kept, error)
	Now  func() time.Time
}

// Session is the transaction of one host; it implements plan.Session.
type Session struct {
	cfg     SessionConfig
	dialer  *Dialer
	end     Endpoint
	serving Serving

	mu   sync.Mutex
	conn *Conn

	fence    int
	asked    bool // for the lease, and the answer was lost
	seen     *facts.Host
	ops      plan.Ops
	staged   *staged
	switched bool
	checked  map[string]string // certificate to what QEMU on the host said of it
	// consoles are the guests that were told to read their console's
	// certificate again, and why one goes on with the old; empty for done.
	consoles map[string]string
	// Recovered says what an earlier run left and what was done about it.
	Recovered []string
	// NotKept says which firewall rules are live and will be lost at a reboot.
	NotKept string
}

// Serving says which certificate a host's listener shows; the zero value is a
// host without listener.
type Serving struct {
	Port        int
	Certificate string // task's certificate name
	Path        string // of the certificate file
	// Consoles is what the VNC consoles of guests show; nil where the policy
	// has no certificate for them.
	Consoles *Serving
}

// NewSession prepares a transaction over a connection, which the session uses
// but does not close, and replaces when it is lost.
func NewSession(d *Dialer, c *Conn, e Endpoint, serving Serving, cfg SessionConfig) *Session {
	if cfg.RevertAfter == 0 {
		cfg.RevertAfter = DefaultRevertAfter
	}
	return &Session{cfg: cfg, dialer: d, end: e, conn: c, serving: serving, checked: map[string]string{}, consoles: map[string]string{}}
}

// Conn is the connection that the session uses now.
func (s *Session) Conn() *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// Nonce is 32 fresh hexadecimal digits that frame a script's output.
func Nonce() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)
}

// whole makes a shell read a script to its end before it runs a line of it.
func whole(parts ...string) []byte {
	return []byte("{\n" + strings.Join(parts, "\n") + "\n}\n")
}

// head is the head of every changing script.
func (s *Session) head(nonce string) string {
	return fmt.Sprintf("trap '' PIPE HUP\nN=%s R=%s O=%s F=%d T=%d\n%s", nonce, facts.Quote(s.cfg.Run), facts.Quote(s.cfg.Owner), s.fence, int((s.cfg.RevertAfter + leaseMargin).Seconds()), leaseScript)
}

// answer is what a changing script said.
type answer struct {
	frames []facts.Frame
	exit   int
}

func (a answer) get(kind string) (facts.Frame, bool) {
	for _, f := range a.frames {
		if f.Kind == kind {
			return f, true
		}
	}
	return facts.Frame{}, false
}

// run runs a changing script and turns its own complaints into errors.
func (s *Session) run(ctx context.Context, op string, limit time.Duration, nonce string, script []byte) (answer, error) {
	out, err := s.Conn().Run(ctx, script, Limits{Timeout: limit})
	a := answer{frames: facts.Frames(nonce, out.Stdout), exit: out.Exit}
	if err != nil {
		return a, err
	}
	return a, s.explain(a, op, out)
}

// explain turns what a script complained of into an error; nil when it ended
// well.
func (s *Session) explain(a answer, op string, out Output) error {
	if a.exit == 0 {
		return nil
	}
	for _, f := range a.frames {
		switch f.Kind {
		case "locked":
			var run, secs, owner string
			fields := strings.SplitN(string(f.Data), " ", 3)
			if len(fields) == 3 {
				run, secs, owner = fields[0], fields[1], fields[2]
			}
			n, _ := strconv.Atoi(secs)
			return &plan.LockedError{Host: s.end.label(), Owner: clean(owner, 80), Run: clean(run, 40), Expires: time.Duration(n) * time.Second}
		case "failed", "busy", "notours", "pending":
			return &Error{Class: scriptClass(f.Kind, string(f.Data)), Host: s.end.label(), Op: op, Err: errors.New(string(f.Data)), Hint: scriptHint(f.Kind, string(f.Data))}
		}
	}
	text := fmt.Sprintf("the script ended with status %d", a.exit)
	if tail := strings.TrimSpace(string(out.Stderr)); tail != "" {
		text += ": " + tail
	}
	return &Error{Class: ClassScript, Host: s.end.label(), Op: op, Err: errors.New(text)}
}

func scriptClass(kind, text string) Class {
	switch {
	case kind == "busy" || kind == "notours" || kind == "pending":
		return ClassLock
	case strings.HasPrefix(text, "moved: "):
		return ClassMoved
	}
	return ClassScript
}

func scriptHint(kind, text string) string {
	switch {
	case kind == "busy":
		return "another script is at work on this host: try again in a minute"
	case kind == "notours":
		return "another run took over: plan again"
	case kind == "pending":
		return "read the journal on the host, mend what it names, then run `sh /var/lib/virtrust/revert.sh` there"
	case strings.HasPrefix(text, "moved: "):
		return "make a new plan"
	case strings.Contains(text, "does not start") || strings.Contains(text, "come back") || strings.Contains(text, "new files"):
		return "look at `journalctl -u libvirtd -u virtproxyd -u virtqemud` on the host"
	case strings.HasSuffix(text, "is full"), strings.HasSuffix(text, "no inodes left"):
		return "make room on the host, then apply again"
	case strings.HasSuffix(text, "is read-only"):
		return "mount it for writing, then apply again"
	case strings.HasPrefix(text, "cannot "):
		return "log in to the host and try that there"
	}
	return ""
}

// Gather looks at a host: the facts script and, beside it, what is served on
// the ports of 127.0.0.1.
func Gather(ctx context.Context, c *Conn, name string, queries []facts.Query, ports ...int) (*facts.Host, error) {
	return gather(ctx, c, name, "", queries, ports)
}

func gather(ctx context.Context, c *Conn, name, prefix string, queries []facts.Query, ports []int) (*facts.Host, error) {
	h, out, err := gatherFramed(ctx, c, name, prefix, Nonce(), queries, ports)
	if err == nil && h == nil {
		err = &Error{Class: ClassShell, Host: name, Op: "reading the host", Err: fmt.Errorf("the script ended early (status %d): %s", out.Exit, orNothing(string(out.Stderr))), Hint: shellHint}
	}
	return h, err
}

// gatherFramed runs prefix and the facts script as one.
func gatherFramed(ctx context.Context, c *Conn, name, prefix, nonce string, queries []facts.Query, ports []int) (*facts.Host, Output, error) {
	script, err := facts.Script(nonce, queries)
	if err != nil {
		return nil, Output{}, err
	}
	served := map[string]facts.Served{}
	var mu sync.Mutex
	var looks sync.WaitGroup
	for _, p := range ports {
		looks.Go(func() {
			addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(p))
			seen, err := c.Served(ctx, addr, "")
			mu.Lock()
			defer mu.Unlock()
			served[addr] = facts.Served{Chain: seen.Chain}
			if err != nil {
				served[addr] = facts.Served{Problem: servedProblem(err)}
			}
		})
	}
	out, err := c.Run(ctx, whole(prefix, string(script)), Limits{})
	looks.Wait()
	if err != nil {
		return nil, out, err
	}
	if out.Exit != 0 {
		return nil, out, nil
	}
	h, err := facts.Parse(nonce, out.Stdout)
	if err != nil {
		class, hint := ClassShell, shellHint
		if errors.Is(err, facts.ErrTorn) {
			class, hint = ClassMoved, "something writes the host's configuration right now: try again"
		}
		return nil, out, &Error{Class: class, Host: name, Op: "reading the host", Err: err, Hint: hint}
	}
	h.Name, h.HostKey, h.Served = name, c.HostKey(), served
	lookAtConsoles(ctx, c, h)
	return h, out, nil
}

// servedProblem is one word for why no certificate was seen.
func servedProblem(err error) string {
	var e *Error
	if errors.As(err, &e) {
		switch e.Class {
		case ClassRefused:
			return "refused"
		case ClassProhibited:
			return "prohibited"
		case ClassTimeout:
			return "timeout"
		}
		return clean(e.Err.Error(), 200)
	}
	return clean(err.Error(), 200)
}

// Look is Gather with the skew of the host's clock and one retry when a file
// changed in between.
func Look(ctx context.Context, c *Conn, name string, queries []facts.Query, now func() time.Time, ports ...int) (*facts.Host, error) {
	for try := 0; ; try++ {
		before := now()
		h, err := Gather(ctx, c, name, queries, ports...)
		if errors.Is(err, facts.ErrTorn) && try == 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		setSkew(h, before, now())
		return h, nil
	}
}

// setSkew compares the host's clock, known to the second, with ours.
func setSkew(h *facts.Host, before, after time.Time) {
	switch {
	case h.Clock.Before(before.Add(-time.Second)):
		h.Skew = h.Clock.Sub(before)
	case h.Clock.After(after.Add(time.Second)):
		h.Skew = h.Clock.Sub(after)
	}
}

// Lock takes the lease, settles what an earlier run left, and looks again.
func (s *Session) Lock(ctx context.Context, queries []facts.Query) (*facts.Host, error) {
	nonce := Nonce()
	var ports []int
	if s.serving.Port != 0 {
		ports = []int{s.serving.Port}
	}
	before := s.cfg.Now()
	h, out, err := gatherFramed(ctx, s.Conn(), s.end.label(), s.head(nonce)+lockScript, nonce, queries, ports)
	for _, f := range facts.Frames(nonce, out.Stdout) {
		switch f.Kind {
		case "fence":
			s.fence, _ = strconv.Atoi(string(f.Data))
		case "recovered":
			s.Recovered = append(s.Recovered, clean(f.Arg+" "+string(f.Data), 80))
		}
	}
	if err != nil {
		s.asked = s.fence == 0 && lost(err)
		return nil, err
	}
	if h == nil {
		// The head of the script refused: let run's table explain it.
		a := answer{frames: facts.Frames(nonce, out.Stdout), exit: out.Exit}
		return nil, s.explain(a, "locking the host", out)
	}
	setSkew(h, before, s.cfg.Now())
	s.seen = h
	return h, nil
}

// Stage is in stage.go, Switch in switch.go, Prove in prove.go, End in end.go.
var _ plan.Session = (*Session)(nil)
