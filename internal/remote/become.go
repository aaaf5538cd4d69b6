package remote

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Values of Endpoint.Become.
const (
	BecomeNone = "none" // the login user's rights are those that scripts have
	BecomeSudo = "sudo" // scripts run as root through sudo
)

// Classes of the errors of becoming root.
const (
	ClassSudo Class = "sudo" // sudo does not let the login user become root
	ClassTTY  Class = "tty"  // sudo wants a terminal, and there is none
)

// What is run on a host, to the letter: docs/sudo.md shows it, for whoever
// allows only this. The login shell may be of any kind, so it is plain words
// and one text in single quotes that every shell reads alike. The user's
// locale is set aside, because sudo's complaints are read.
const (
	shell     = "/bin/sh -s"
	begun     = "virtrust-began"
	rootShell = "/bin/sh -c 'echo " + begun + "; exec " + shell + "'"
	sudoPlain = "env LC_ALL=C sudo -n " + rootShell
	sudoAsks  = "env LC_ALL=C sudo -S -p %s " + rootShell
)

// shellHint is what to do where something else than our script ran.
const shellHint = "does `ssh HOST /bin/sh` start a POSIX shell? ForceCommand in sshd_config and command= in authorized_keys replace what is run"

// maxNoise is how much a login may print before a script begins.
const maxNoise = 64 << 10

// entry is the way to the shell that reads one script.
type entry struct {
	command  string
	marked   bool   // it says when it begins
	prompt   string // with which sudo asks; "" where it must not
	password *Password
	host     string
	user     string

	mu      sync.Mutex
	noise   bytes.Buffer // what was printed before it began
	early   bytes.Buffer // what was written to stderr before it began
	prompts int
	settle  func(verdict)
	sent    bool
	failure error // why it was given up

	began chan struct{} // closed when the shell reads
	over  chan struct{} // closed when it will not
	once  sync.Once
}

// enter prepares the way to a shell: root's where the endpoint says so.
func (c *Conn) enter(asRoot bool) *entry {
	e := &entry{command: shell, host: c.host, user: c.client.User(), settle: func(verdict) {}, began: make(chan struct{}), over: make(chan struct{})}
	switch {
	case !asRoot || c.become != BecomeSudo:
	case c.password == nil:
		e.command, e.marked = sudoPlain, true
	default:
		e.prompt, e.marked, e.password = "vt"+Nonce(), true, c.password
		e.command = fmt.Sprintf(sudoAsks, e.prompt)
	}
	return e
}

// give writes the script when it may be sent: at once where nobody asks for a
// password, else only to the shell.
func (e *entry) give(ch ssh.Channel, script []byte) {
	if e.prompt != "" {
		select {
		case <-e.began:
		case <-e.over:
			return
		}
	}
	if e.marked {
		script = append([]byte("HOME=/root\n"), script...)
	}
	// Its error is not looked at: a script may end without reading all of itself,
	// and the exit status says whether it did.
	_, _ = ch.Write(script)
	_ = ch.CloseWrite()
}

// stdout is the output of the script alone.
func (e *entry) stdout(ch ssh.Channel) io.Reader {
	if !e.marked {
		return ch
	}
	r := bufio.NewReader(ch)
	var line []byte
	for n := 0; n < maxNoise; n++ {
		b, err := r.ReadByte()
		if err != nil {
			break
		}
		e.mu.Lock()
		e.noise.WriteByte(b)
		e.mu.Unlock()
		if b != '\n' {
			// A start-up file may have printed half a line before.
			if line = append(line, b); len(line) > len(begun) {
				line = line[1:]
			}
			continue
		}
		if string(line) == begun {
			e.mu.Lock()
			settle := e.settle
			e.mu.Unlock()
			settle(accepted)
			close(e.began)
			return r
		}
		line = nil
	}
	e.stop(nil)
	return r
}

// stderr is what the script writes to stderr. Before it begins, sudo's prompt
// is looked for and answered; a lecture and the like stay out.
func (e *entry) stderr(ctx context.Context, ch ssh.Channel) io.Reader {
	if e.prompt == "" {
		return ch.Stderr()
	}
	return readerFunc(func(p []byte) (int, error) {
		n, err := ch.Stderr().Read(p)
		select {
		case <-e.began:
			return n, err
		default:
		}
		e.mu.Lock()
		if e.early.Len() < maxNoise {
			e.early.Write(p[:n])
		}
		before := e.prompts
		e.prompts = bytes.Count(e.early.Bytes(), []byte(e.prompt))
		first, again := before == 0 && e.prompts > 0, e.prompts > 1
		e.mu.Unlock()
		switch {
		case again:
			// It is not tried twice: accounts get locked by that.
			e.stop(errors.New("sudo asked again: the password is wrong, or sudo wants more than a password"))
			_ = ch.Close()
		case first:
			go e.answer(ctx, ch)
		}
		return 0, err
	})
}

// answer tells sudo the password.
func (e *entry) answer(ctx context.Context, ch ssh.Channel) {
	text, settle, err := e.password.take(ctx, e.host)
	if err != nil {
		e.stop(err)
		_ = ch.Close()
		return
	}
	line := append(append(make([]byte, 0, len(text)+1), text...), '\n')
	e.mu.Lock()
	e.settle, e.sent = settle, true
	e.mu.Unlock()
	select {
	case <-e.over: // nobody waits any more, so nobody would settle it
		settle(undecided)
		return
	default:
	}
	_, _ = ch.Write(line)
	clear(line)
}

// drowned reports whether more was printed than is looked at for the mark of
// the shell: whether there was one is not known.
func (e *entry) drowned() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.noise.Len() >= maxNoise && e.prompt == ""
}

// stop ends the wait for the shell; why is nil when the output ended.
func (e *entry) stop(why error) {
	e.once.Do(func() {
		e.mu.Lock()
		e.failure = why
		e.mu.Unlock()
		close(e.over)
	})
}

// hasBegun reports whether the shell was there.
func (e *entry) hasBegun() bool {
	select {
	case <-e.began:
		return true
	default:
		return !e.marked
	}
}

// end lets the password go to other hosts, whatever came of it here.
func (e *entry) end() {
	e.stop(nil)
	e.mu.Lock()
	settle := e.settle
	e.mu.Unlock()
	settle(undecided)
}

// failed says why no shell began; stderr is what was written there.
func (e *entry) failed(op string, stderr []byte, status int) *Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := &Error{Class: ClassSudo, Host: e.host, Op: op}
	text := e.early.String() + string(stderr)
	if e.prompt != "" {
		text = strings.ReplaceAll(text, e.prompt, "")
	}
	said := lastLine(text)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	wrong := e.sent && (e.prompts > 1 || has("incorrect", "try again", "Authentication fail"))
	if wrong {
		e.settle(rejected)
	}
	switch {
	case e.failure != nil && !wrong:
		out.Err, out.Hint = e.failure, "give the right password, or --exclude hosts that have another"
	case wrong:
		out.Err = errors.New("the password is wrong, or sudo wants more than a password; it was tried once")
		out.Hint = "`ssh HOST sudo -S true` must accept it after one prompt"
	case has("must have a tty"):
		out.Class, out.Err = ClassTTY, errors.New("sudo wants a terminal (requiretty): "+said)
		out.Hint = "on the host, with visudo: Defaults:" + e.user + " !requiretty"
	case has("a password is required", "a terminal is required", "interactive authentication is required", "Authentication required", "authentication required"):
		out.Err = errors.New("sudo asks for a password")
		out.Hint = `set become_password in the ssh block, or allow it without: docs/sudo.md has the line for sudoers`
	case has("not in the sudoers", "not allowed", "may not run", "afraid I can't do that"):
		out.Err = errors.New("sudo does not let this user become root: " + said)
		out.Hint = "docs/sudo.md has the line for sudoers"
	case has("sudo: command not found", "sudo: not found", "sudo: No such file", "sudo: Command not found", "Unknown command") || status == 127:
		out.Err = errors.New("there is no sudo: " + said)
		out.Hint = "install it, or log in as root"
	case status == 0 || said == "":
		out.Class = ClassShell
		out.Err = fmt.Errorf("the login did not run what was asked (status %d): %s", status, orNothing(e.noise.String()))
		out.Hint = shellHint
	default:
		out.Err = errors.New(said)
		out.Hint = "does `ssh HOST sudo -n true` work?"
	}
	return out
}

func orNothing(said string) string {
	if said = lastLine(said); said != "" {
		return "it said " + said
	}
	return "it said nothing"
}

// lastLine is the last line with something in it.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// gaveUp reports whether we ended the wait for the shell.
func (e *entry) gaveUp() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failure != nil
}
