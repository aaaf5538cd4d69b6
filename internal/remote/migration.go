package remote

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
)

//go:embed migration.sh
var migrationScript string

// Migration is one run of `virsh migrate` on a guest's host. It runs there
// apart from the connection: what ends it is its own end, its limit or Abort.
type Migration struct {
	ID    string        // of this job: [a-z0-9-], unique
	Guest string        // UUID
	URI   string        // of the destination, as the source's libvirt opens it
	Args  []string      // virsh migrate's further options
	Limit time.Duration // after which the job is aborted on the host
	// Watch slows the job until its parameters were read from the guest's
	// monitor, which taints the guest: for throw-away guests alone.
	Watch bool
}

// MigrationState is what is known of a running or finished Migration.
type MigrationState struct {
	Done    bool
	Exit    int               // of virsh, once done
	Output  string            // what virsh said, at most 4 KiB
	Stopped string            // "limit" or "asked" when the job was told to end
	Took    time.Duration     // once done, by the host's uptime
	Job     map[string]string // domjobinfo while it runs
	// Watched tells that the monitor was asked while the job was active and
	// showed credentials: Creds and Hostname are its tls-creds and tls-hostname.
	Watched         bool
	Creds, Hostname string
}

var jobName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

const migrationHead = "LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH\numask 077\n" +
	"say() { printf '%s %s %d %s\\n%s\\n' \"$N\" \"$1\" \"${#3}\" \"$2\" \"$3\"; }\n"

func jobDir(id string) string { return "/run/virtrust/migration-" + id }

// jobScript is a script with the framing of answers and D, the job's directory.
func jobScript(nonce, id, body string) []byte {
	return whole("N="+nonce+" D="+facts.Quote(jobDir(id)), migrationHead, body)
}

// Start starts the job on the host that c leads to. A class of [ClassUnknown]
// means that it may run: look with Poll.
func (m Migration) Start(ctx context.Context, c *Conn) error {
	if !jobName.MatchString(m.ID) || strings.HasPrefix(m.Guest, "-") || m.Guest == "" || m.Limit < time.Second {
		return &Error{Class: ClassConfiguration, Host: c.host, Op: "migrating", Err: fmt.Errorf("job %q, guest %q, limit %s cannot be used", m.ID, m.Guest, m.Limit)}
	}
	watch := ""
	if m.Watch {
		watch = "yes"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "D=%s U=%s LIMIT=%d WATCH=%s\nmigrate() { virsh -q -c qemu:///system migrate", facts.Quote(jobDir(m.ID)), facts.Quote(m.Guest), int(m.Limit.Seconds()), watch)
	for _, a := range m.Args {
		b.WriteString(" " + facts.Quote(a))
	}
	fmt.Fprintf(&b, " %s %s; }\n%s", facts.Quote(m.Guest), facts.Quote(m.URI), migrationScript)
	unit := "virtrust-migration-" + m.ID
	// A program that was killed left its job's result. Whoever lives reads it at
	// once.
	body := `for j in /run/virtrust/migration-*; do
	[ -z "$(find "$j/done" -mmin +10 2>/dev/null)" ] || rm -rf -- "$j"
done
mkdir -p -m 0700 /run/virtrust && mkdir "$D" && printf %s ` + facts.Quote(b.String()) + ` >"$D/job.sh" || exit 70
if [ -d /run/systemd/system ]; then
	systemd-run --quiet --collect --unit=` + unit + ` /bin/sh "$D/job.sh" </dev/null >/dev/null 2>&1 || { rm -rf "$D"; exit 71; }
else
	setsid /bin/sh "$D/job.sh" </dev/null >/dev/null 2>&1 &
fi
`
	out, err := c.Run(ctx, jobScript(Nonce(), m.ID, body), Limits{Timeout: 20 * time.Second})
	if err != nil {
		return err
	}
	if out.Exit != 0 {
		return &Error{Class: ClassScript, Host: c.host, Op: "migrating", Err: fmt.Errorf("the job could not be started (status %d): %s", out.Exit, clean(string(out.Stderr), 200)), Hint: "is there room in /run, and does systemd-run work?"}
	}
	return nil
}

const pollScript = `[ -d "$D" ] || { say gone '' ''; exit 0; }
cd "$D" || exit 1
if [ -e done ]; then
	say done '' "$(cat done)"
	say took '' "$(cat took)"
else
	read -r p <pid 2>/dev/null && ! kill -0 "$p" 2>/dev/null && [ ! -e done ] && say dead '' ''
	[ -z "$U" ] || say job '' "$(timeout 10 virsh -q -c qemu:///system domjobinfo "$U" 2>/dev/null </dev/null | head -c 4096)"
fi
[ ! -e why ] || say why '' "$(cat why)"
say out '' "$(tail -c 4096 out 2>/dev/null)"
[ ! -e parameters ] || say parameters '' "$(head -c 16384 parameters)"
`

var (
	tlsCreds    = regexp.MustCompile(`"tls-creds": ?"([^"\\]*)"`)
	tlsHostname = regexp.MustCompile(`"tls-hostname": ?"([^"\\]*)"`)
)

// Poll looks how far the job is.
func (m Migration) Poll(ctx context.Context, c *Conn) (MigrationState, error) {
	nonce := Nonce()
	out, err := c.Run(ctx, jobScript(nonce, m.ID, "U="+facts.Quote(m.Guest)+"\n"+pollScript), Limits{Timeout: 20 * time.Second})
	if err != nil {
		return MigrationState{}, err
	}
	return m.state(c.host, facts.Frames(nonce, out.Stdout))
}

func (m Migration) state(host string, frames []facts.Frame) (MigrationState, error) {
	var s MigrationState
	known := false
	for _, f := range frames {
		text := string(f.Data)
		switch f.Kind {
		case "gone", "dead":
			return s, &Error{Class: ClassScript, Host: host, Op: "migrating", Err: errors.New("the job's script ended without a result"), Hint: "look where the guest runs: virsh list on both hosts"}
		case "done":
			n, err := strconv.Atoi(text)
			if err != nil {
				n = 255
			}
			s.Done, s.Exit, known = true, n, true
		case "took":
			n, _ := strconv.Atoi(text)
			s.Took = time.Duration(n) * 10 * time.Millisecond
		case "job":
			s.Job = pairs(text)
		case "why":
			s.Stopped = strings.TrimSpace(text)
		case "out":
			s.Output, known = text, true
		case "parameters":
			if x := tlsCreds.FindStringSubmatch(text); x != nil {
				s.Watched, s.Creds = true, x[1]
			}
			if x := tlsHostname.FindStringSubmatch(text); x != nil {
				s.Hostname = x[1]
			}
		}
	}
	if !known {
		return s, &Error{Class: ClassScript, Host: host, Op: "migrating", Err: errors.New("the job's state could not be read")}
	}
	return s, nil
}

// pairs reads virsh's "Name:   value" lines.
func pairs(text string) map[string]string {
	out := map[string]string{}
	for l := range strings.Lines(text) {
		if k, v, ok := strings.Cut(l, ":"); ok && len(out) < 64 {
			out[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return out
}

// Why is the line of virsh's output that says why a migration failed.
func (s MigrationState) Why() string {
	text := clean(strings.TrimPrefix(lastError(s.Output), "error: "), 300)
	if text == "" {
		return fmt.Sprintf("virsh ended with status %d", s.Exit)
	}
	return text
}

// Abort tells the job to end. A guest in post-copy goes on: ending it there
// would lose it.
func (m Migration) Abort(ctx context.Context, c *Conn) error {
	_, err := c.Run(ctx, jobScript(Nonce(), m.ID, `[ ! -d "$D" ] || : >"$D/abort"`), Limits{Timeout: 20 * time.Second})
	return err
}

// Forget removes what the finished job left on its host.
func (m Migration) Forget(ctx context.Context, c *Conn) error {
	_, err := c.Run(ctx, jobScript(Nonce(), m.ID, `[ ! -e "$D/done" ] || rm -rf "$D"`), Limits{Timeout: 20 * time.Second})
	return err
}

// GuestState is what libvirt of one host says of a guest.
type GuestState struct {
	UUID       string
	State      string // "running", "paused", "shut off"; "" where the host does not know it
	Reason     string
	Persistent bool
	Job        string            // "none", "migration out" … from the status file
	Completed  map[string]string // domjobinfo --completed
}

const guestScript = `f=/run/libvirt/qemu/$G.xml u=$U
if [ -z "$u" ] && [ -f "$f" ]; then
	u=$(sed -n "s|^ *<uuid>\([0-9a-f-]*\)</uuid>.*|\1|p" "$f" | head -n 1)
fi
[ -n "$u" ] || exit 0
v='timeout 20 virsh -q -c qemu:///system'
s=$($v domstate "$u" --reason 2>/dev/null </dev/null) || exit 0
say uuid '' "$u"
say state '' "$s"
say persistent '' "$($v dominfo "$u" 2>/dev/null </dev/null | sed -n 's/^Persistent: *//p')"
[ ! -f "$f" ] || say job '' "$(sed -n "s/.* async='\([^']*\)'.*/\1/p" "$f" | head -n 1)"
say completed '' "$($v domjobinfo "$u" --completed 2>/dev/null </dev/null | head -c 4096)"
`

// FindGuest asks a host's libvirt for a guest: by UUID or, where that is "",
// by the name of a running one. The zero state means that it has none.
func FindGuest(ctx context.Context, c *Conn, name, uuid string) (GuestState, error) {
	if name == "" || strings.ContainsAny(name, "/\n\x00") {
		return GuestState{}, &Error{Class: ClassConfiguration, Host: c.host, Op: "looking for a guest", Err: fmt.Errorf("%q is no guest's name", name)}
	}
	nonce := Nonce()
	script := whole("N="+nonce+" G="+facts.Quote(name)+" U="+facts.Quote(uuid), migrationHead, guestScript)
	out, err := c.Run(ctx, script, Limits{Timeout: 60 * time.Second})
	if err != nil {
		return GuestState{}, err
	}
	var g GuestState
	for _, f := range facts.Frames(nonce, out.Stdout) {
		text := strings.TrimSpace(string(f.Data))
		switch f.Kind {
		case "uuid":
			g.UUID = text
		case "state":
			state, reason, _ := strings.Cut(text, " (")
			g.State, g.Reason = state, strings.TrimSuffix(reason, ")")
		case "persistent":
			g.Persistent = text == "yes"
		case "job":
			g.Job = text
		case "completed":
			g.Completed = pairs(text)
		}
	}
	return g, nil
}
