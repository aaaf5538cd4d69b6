package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/syntax"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/integration/screen"
)

// screens draws the pictures of docs/screens from this run:
// go test ./integration/e2e -run TestGettingStarted -screens.
var screens = flag.Bool("screens", false, "draw docs/screens anew")

var shFence = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// commands are the commands of a page's sh blocks, one by one.
func commands(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range shFence.FindAllStringSubmatch(string(text), -1) {
		f, err := syntax.NewParser().Parse(strings.NewReader(m[1]), page)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range f.Stmts {
			end := len(m[1])
			if i+1 < len(f.Stmts) {
				end = int(f.Stmts[i+1].Pos().Offset())
			}
			out = append(out, strings.TrimSpace(m[1][s.Pos().Offset():end]))
		}
	}
	return out
}

// A typist works in a shell on a terminal of its own.
type typist struct {
	t       *testing.T
	tty     *os.File
	screen  bytes.Buffer // since the last command
	output  chan []byte
	answers []answer
}

// answer is what is typed when a question ends the screen.
type answer struct {
	question *regexp.Regexp
	text     string
}

var prompt = regexp.MustCompile(`\n?READY (\d+)> $`)

// newTypist starts bash inside the lab's network.
func newTypist(t *testing.T, l *lab.Lab, dir string, env []string, answers ...answer) *typist {
	t.Helper()
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetPointerInt(int(tty.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 80}); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	end, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := l.Command(t.Context(), "setsid", "--ctty", "--wait", "bash", "--noprofile", "--norc", "--noediting", "-i")
	cmd.Dir = dir
	cmd.Env = append(env, "PS1=READY $?> ", "PS2=", "TERM=xterm-256color")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = end, end, end
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end.Close()
	p := &typist{t: t, tty: tty, output: make(chan []byte, 64), answers: answers}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGHUP)
		_ = cmd.Wait()
	})
	go func() {
		defer close(p.output)
		for {
			b := make([]byte, 4096)
			n, err := tty.Read(b)
			if err != nil {
				return
			}
			p.output <- b[:n]
		}
	}()
	p.wait()
	return p
}

func (p *typist) key(text string) {
	p.t.Helper()
	if _, err := p.tty.WriteString(text + "\n"); err != nil {
		p.t.Fatal(err)
	}
}

// wait reads until the shell asks for the next command, and answers the
// questions on the way. It gives what was shown and the exit status.
func (p *typist) wait() (screen, status string) {
	p.t.Helper()
	late := time.After(4 * time.Minute)
	from := 0
	for {
		seen := p.screen.String()
		if m := prompt.FindStringSubmatch(seen); m != nil {
			p.screen.Reset()
			return strings.ReplaceAll(seen, "\r\n", "\n"), m[1]
		}
		for _, a := range p.answers {
			if at := a.question.FindStringIndex(seen[from:]); at != nil {
				from = len(seen)
				p.key(a.text)
				break
			}
		}
		select {
		case b, ok := <-p.output:
			if !ok {
				p.t.Fatalf("the shell ended:\n%s", p.screen.String())
			}
			p.screen.Write(b)
		case <-late:
			p.t.Fatalf("no end after four minutes:\n%s", p.screen.String())
		}
	}
}

// progressLine is what a later one or the result has written over.
var progressLine = regexp.MustCompile(`\r[^\r\n]*\x1b\[K`)

// draw makes a picture of what a command showed, and keeps the text beside it.
func draw(t *testing.T, name, text string) {
	t.Helper()
	text = progressLine.ReplaceAllString(text, "")
	text, _, _ = strings.Cut(text, "READY ")
	text = "$ " + strings.TrimLeft(strings.ReplaceAll(text, "\r", ""), "\n")
	svg, err := screen.SVG(screen.Clip(text, 40, 8))
	if err != nil {
		t.Fatalf("%s: %v\n%q", name, err, text)
	}
	if err := os.MkdirAll("../../docs/screens", 0o755); err != nil {
		t.Fatal(err)
	}
	for ext, content := range map[string][]byte{".svg": svg, ".ansi": []byte(text)} {
		if err := os.WriteFile(filepath.Join("../../docs/screens", name+ext), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGettingStarted types the commands of docs/getting-started.md, in their
// order, on two hosts. It gives the hosts' names and a key to log in with, and
// in place of make build the program that was built already.
func TestGettingStarted(t *testing.T) {
	t.Parallel()
	todo := commands(t, "../../docs/getting-started.md")
	if len(todo) < 15 {
		t.Fatalf("%d commands were found: this test would see too little", len(todo))
	}
	lab.Require(t)
	l, err := lab.New(t.Context(), lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := l.Start(t.Context(), lab.HostSpec{}, lab.HostSpec{}); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	shim := func(name, script string) {
		if err := os.WriteFile(filepath.Join(home, "bin", name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", ".ssh", "clone"} {
		if err := os.Mkdir(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	shim("make", `[ "$*" = build ] && exec cp '`+operator.Program()+`' virtrust`)
	shim("ssh", "exec /usr/bin/ssh -F /dev/null -o BatchMode=yes -i $HOME/.ssh/id_ed25519 -o UserKnownHostsFile=$HOME/.ssh/known_hosts \"$@\"")
	for from, to := range map[string]string{l.IdentityFile(): "id_ed25519", l.KnownHosts(): "known_hosts"} {
		if out, err := exec.Command("cp", from, filepath.Join(home, ".ssh", to)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	p := newTypist(t, l, filepath.Join(home, "clone"), []string{"HOME=" + home, "PATH=" + filepath.Join(home, "bin") + ":" + os.Getenv("PATH")},
		answer{regexp.MustCompile(`(Passphrase of authority [a-z]+|Once more): $`), "only for this test"},
		answer{regexp.MustCompile(`Only "yes" goes on: $`), "yes"},
	)
	shown := map[string][]string{}
	for _, c := range todo {
		began := time.Now()
		p.key(strings.ReplaceAll(c, "example.com", lab.Domain))
		screen, status := p.wait()
		first, _, _ := strings.Cut(c, "\n")
		t.Logf("%s %s: %s", time.Since(began).Round(10*time.Millisecond), first, status)
		if status != "0" {
			t.Fatalf("%s ended with %s:\n%s", c, status, screen)
		}
		if strings.Contains(screen, "\x1b]") {
			t.Errorf("%s asks the terminal something, which one that does not answer would show:\n%q", c, screen)
		}
		shown[first] = append(shown[first], screen)
	}
	if *screens {
		draw(t, "plan", shown["virtrust plan"][0])
		draw(t, "status", shown["virtrust status"][0])
	}
	for command, want := range map[string]string{
		"virtrust validate":                "The configuration is valid: 2 hosts",
		"virtrust apply":                   "2 changed",
		"virtrust status":                  "6 ok",
		"virtrust verify":                  "Verified:",
		"virtrust verify --migrate":        "kvm2",
		"virtrust migrate first --to kvm2": "encrypted",
	} {
		if s := shown[command]; len(s) == 0 || !strings.Contains(s[len(s)-1], want) {
			t.Errorf("%s does not say %q:\n%s", command, want, strings.Join(s, ""))
		}
	}
	if plans := shown["virtrust plan"]; len(plans) != 2 || !strings.Contains(plans[0], "2 hosts change") || !strings.Contains(plans[1], "Nothing to do") {
		t.Errorf("the plans before and after:\n%s", strings.Join(plans, "\n"))
	}
}
