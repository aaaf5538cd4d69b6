package remote_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

// sudo plays sudo's part of the dialogue as sudo 1.9 does; the lab has the
// real one. It counts the passwords it is told.
type sudo struct {
	password string // "" asks for none
	lecture  string
	noise    string // of a start-up file, on stdout
	told     atomic.Int64
	heard    atomic.Value // all that came before the password was right
}

func (s *sudo) exec(command string, ch ssh.Channel) int {
	_, _ = io.WriteString(ch, s.noise)
	in := bufio.NewReader(ch)
	if s.password != "" {
		_, prompt, asks := strings.Cut(command, " sudo -S -p ")
		if !asks {
			_, _ = io.WriteString(ch.Stderr(), "sudo: a password is required\n")
			return 1
		}
		prompt, _, _ = strings.Cut(prompt, " ")
		_, _ = io.WriteString(ch.Stderr(), s.lecture)
		heard := ""
		for try := 1; ; try++ {
			if try == 4 {
				_, _ = io.WriteString(ch.Stderr(), "sudo: 3 incorrect password attempts\n")
				return 1
			}
			_, _ = io.WriteString(ch.Stderr(), prompt)
			line, err := in.ReadString('\n')
			heard += line
			s.heard.Store(heard)
			if err != nil {
				_, _ = io.WriteString(ch.Stderr(), "\nsudo: no password was provided\n")
				return 1
			}
			s.told.Add(1)
			if line == s.password+"\n" {
				break
			}
			_, _ = io.WriteString(ch.Stderr(), "Sorry, try again.\n")
		}
	}
	if strings.Contains(command, "echo virtrust-began; exec /bin/sh -s") {
		_, _ = io.WriteString(ch, "virtrust-began\n")
	}
	script, _ := io.ReadAll(in)
	if strings.Contains(string(script), s.password) && s.password != "" {
		_, _ = io.WriteString(ch, "the script holds the password\n")
	}
	_, _ = fmt.Fprintf(ch, "%d lines", strings.Count(string(script), "\n"))
	return 0
}

// timed connects, runs a script of two lines, and gives the round trips.
func timed(t *testing.T, d *remote.Dialer, e remote.Endpoint) (trips float64, said string) {
	t.Helper()
	start := time.Now()
	c, err := d.Connect(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out, err := c.Run(t.Context(), []byte("id\nid\n"), remote.Limits{})
	if err != nil {
		t.Error(err)
	}
	return float64(time.Since(start)) / float64(2*oneWay), string(out.Stdout)
}

func fixed(text string) *remote.Password {
	return remote.NewPassword(func(context.Context) ([]byte, error) { return []byte(text), nil })
}

func TestSudoRoundTrips(t *testing.T) {
	tests := map[string]struct {
		sudo     *sudo
		password *remote.Password
		elapsed  float64
	}{
		"asks nothing":                     {&sudo{}, nil, 9},
		"asks nothing, password at hand":   {&sudo{}, fixed("right"), 10},
		"asks":                             {&sudo{password: "right"}, fixed("right"), 11},
		"asks after a lecture and a motto": {&sudo{password: "right", lecture: strings.Repeat("With great power ...\n", 30), noise: "welcome"}, fixed("right"), 11},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, remotetest.Options{Exec: tt.sudo.exec}, func(t *testing.T, d *remote.Dialer, e remote.Endpoint) {
				e.Become, e.SudoPassword = remote.BecomeSudo, tt.password
				elapsed, out := timed(t, d, e)
				if out != "3 lines" {
					t.Errorf("the script said %q", out)
				}
				if elapsed != tt.elapsed {
					t.Errorf("took %.1f round trips, want %.0f", elapsed, tt.elapsed)
				}
			})
		})
	}
}

// A wrong password is told to one host once, and the script to nobody.
func TestSudoWrongPassword(t *testing.T) {
	one, two := &sudo{password: "right"}, &sudo{password: "right"}
	wrong := fixed("wrong")
	for i, s := range []*sudo{one, two} {
		e := remotetest.Start(t, remotetest.Options{Exec: s.exec}).Endpoint
		e.Name = fmt.Sprintf("kvm%d", i+1)
		e.Become, e.SudoPassword = remote.BecomeSudo, wrong
		c, err := (&remote.Dialer{}).Connect(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Run(t.Context(), []byte("echo secret of the script\n"), remote.Limits{})
		if remote.ClassOf(err) != remote.ClassSudo || strings.Contains(fmt.Sprint(err), "echo secret") {
			t.Errorf("kvm%d: %v (class %q)", i+1, err, remote.ClassOf(err))
		}
		_ = c.Close()
	}
	if one.told.Load() != 1 || two.told.Load() != 0 {
		t.Errorf("kvm1 was told %d passwords, kvm2 %d; want 1 and 0", one.told.Load(), two.told.Load())
	}
	if heard := fmt.Sprint(one.heard.Load(), two.heard.Load()); strings.Contains(heard, "echo") {
		t.Errorf("sudo heard %q", heard)
	}
}

// What answers in place of a shell is an error that says that nothing ran.
func TestSudoRefuses(t *testing.T) {
	tests := map[string]struct {
		stdout, stderr string
		status         int
		class          remote.Class
		text           string
	}{
		"no password":       {"", "sudo: a password is required\n", 1, remote.ClassSudo, "asks for a password"},
		"no password, rust": {"", "sudo: interactive authentication is required\n", 1, remote.ClassSudo, "asks for a password"},
		"requiretty":        {"", "sudo: sorry, you must have a tty to run sudo\n", 1, remote.ClassTTY, "requiretty"},
		"not a sudoer":      {"", "deploy is not in the sudoers file.\n", 1, remote.ClassSudo, "not in the sudoers"},
		"not this command":  {"", "Sorry, user deploy is not allowed to execute '/bin/sh -s' as root on kvm1.\n", 1, remote.ClassSudo, "not allowed"},
		"no sudo":           {"", "env: 'sudo': No such file or directory\n", 127, remote.ClassSudo, "there is no sudo"},
		"a menu":            {"1) status\n2) reboot\nchoose: ", "", 0, remote.ClassShell, "choose:"},
		"endless":           {strings.Repeat("x", 100_000), "", 0, remote.ClassUnknown, "more than the limit"},
		"control":           {"", "sudo: \x1b[2J\u202egone\n", 1, remote.ClassSudo, `\u001b[2J`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := remotetest.Start(t, remotetest.Options{Exec: func(_ string, ch ssh.Channel) int {
				_, _ = io.WriteString(ch, tt.stdout)
				_, _ = io.WriteString(ch.Stderr(), tt.stderr)
				_, _ = io.Copy(io.Discard, ch)
				return tt.status
			}}).Endpoint
			e.Become = remote.BecomeSudo
			c, err := (&remote.Dialer{}).Connect(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Run(t.Context(), []byte("id\n"), remote.Limits{})
			var re *remote.Error
			if !errors.As(err, &re) || re.Class != tt.class || !strings.Contains(err.Error(), tt.text) || re.Hint == "" {
				t.Errorf("%v (class %q), want class %q and %q", err, remote.ClassOf(err), tt.class, tt.text)
			}
		})
	}
}

// Many hosts wait for the first one's verdict and then go on together.
func TestPasswordIsAskedOnce(t *testing.T) {
	var asked atomic.Int64
	p := remote.NewPassword(func(context.Context) ([]byte, error) {
		asked.Add(1)
		return []byte("right"), nil
	})
	done := make(chan error, 20)
	for range cap(done) {
		s := &sudo{password: "right"}
		e := remotetest.Start(t, remotetest.Options{Exec: s.exec}).Endpoint
		e.Become, e.SudoPassword = remote.BecomeSudo, p
		go func() {
			c, err := (&remote.Dialer{}).Connect(context.Background(), e)
			if err == nil {
				_, err = c.Run(context.Background(), []byte("id\n"), remote.Limits{})
				_ = c.Close()
			}
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
	p.Wipe()
	if err := p.Load(t.Context()); err == nil {
		t.Error("a password that was wiped is still given")
	}
}
