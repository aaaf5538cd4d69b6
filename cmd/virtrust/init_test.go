package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virtrust/virtrust/inventory"
)

// terminal is a pair of ends: what a person types and sees, and what the
// program has for a terminal.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// dialogue runs a command on a terminal. Answers are typed one after the other,
// each when its question has appeared; the text of the last question without
// an answer ends ctx, as Ctrl-C does.
func dialogue(t *testing.T, args []string, steps [][2]string) (screen string, err error) {
	t.Helper()
	person, program := terminal(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	a := newApp(program, program, program)
	c := a.root()
	c.SetArgs(args)
	seen := make(chan string, 64)
	go func() {
		defer close(seen)
		b := make([]byte, 4096)
		for {
			n, err := person.Read(b)
			if err != nil {
				return
			}
			seen <- string(b[:n])
		}
	}()
	done := make(chan error, 1)
	go func() { done <- c.ExecuteContext(ctx) }()
	limit := time.After(time.Minute)
	from := 0
	for _, s := range steps {
		for !strings.Contains(screen[from:], s[0]) {
			select {
			case text := <-seen:
				screen += text
			case err := <-done:
				t.Fatalf("it ended (%v) before %q:\n%s", err, s[0], screen)
			case <-limit:
				t.Fatalf("%q does not appear:\n%s", s[0], screen)
			}
		}
		from = len(screen)
		if s[1] == "^C" {
			cancel(errInterrupted)
			continue
		}
		if _, err := person.WriteString(s[1] + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err = <-done:
	case <-limit:
		t.Fatalf("it does not end:\n%s", screen)
	}
	return screen, err
}

func TestInitAsks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	_, err := dialogue(t, []string{"-C", dir, "init"}, [][2]string{
		{"host 1: ", ""}, {"host 1: ", "kvm[1:3].example.com"}, {"host 4: ", "x@y"}, {"host 4: ", "kvm4=10.0.0.4"}, {"host 5: ", "kvm4"}, {"host 5: ", ""},
		{"user [root]: ", "No Body"}, {"user [root]: ", ""}, {"Cluster [rack1]: ", "R 2"}, {"Cluster [rack1]: ", "rack2"},
		{"Migration [available]: ", "maybe"}, {"Migration [available]: ", "off"}, {"[Example]: ", "ACME"}, {"[yes/no]", "what"}, {"[yes/no]", "yes"},
	})
	if err != nil {
		t.Fatal(err)
	}
	f, diags := inventory.Load(dir, inventory.Options{})
	if diags.HasErrors() || len(f.Hosts) != 4 || f.Hosts[3].Address != "10.0.0.4" || f.Clusters[0].Name != "rack2" || f.Clusters[0].Migration != "off" || f.Authorities[0].Organization != "ACME" {
		t.Errorf("it wrote %+v", f)
	}
}

func TestInitEndsWithoutATrace(t *testing.T) {
	for name, c := range map[string]struct {
		steps [][2]string
		code  int
	}{
		"at the first question": {[][2]string{{"host 1: ", "^C"}}, exitInterrupted},
		"at the last question":  {[][2]string{{"host 1: ", "kvm1"}, {"host 2: ", ""}, {"root]", ""}, {"rack1]", ""}, {"available]", ""}, {"Example]", ""}, {"[yes/no]", "^C"}}, exitInterrupted},
		"no":                    {[][2]string{{"host 1: ", "kvm1"}, {"host 2: ", ""}, {"root]", ""}, {"rack1]", ""}, {"available]", ""}, {"Example]", ""}, {"[yes/no]", "no"}}, exitNotApproved},
		"the end of the input":  {[][2]string{{"host 1: ", "\x04"}}, exitNotApproved},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new")
			_, err := dialogue(t, []string{"-C", dir, "init"}, c.steps)
			var code *exitCode
			if !errors.As(err, &code) || code.code != c.code {
				t.Errorf("it ended with %v", err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it left %s (%v)", dir, err)
			}
		})
	}
}

// TestPassphraseIsNotShown types at the very moment of the question.
func TestPassphraseIsNotShown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if _, _, err := program(t, "-C", dir, "init", "--host", "kvm1"); err != nil {
		t.Fatal(err)
	}
	screen, err := dialogue(t, []string{"-C", dir, "ca", "init", "libvirt"}, [][2]string{{"libvirt: ", "not to be seen"}, {"Once more: ", "not to be seen"}})
	if err != nil || strings.Contains(screen, "not to be") {
		t.Errorf("%v; the screen:\n%s", err, screen)
	}
}

// program runs a command without a terminal.
func program(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	file := func(name string) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	in, out, errs := file("in"), file("out"), file("err")
	a := newApp(in, out, errs)
	c := a.root()
	a.arrange(c)
	c.SetArgs(args)
	err = c.ExecuteContext(t.Context())
	read := func(f *os.File) string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return read(out), read(errs), err
}

func TestInitFrom(t *testing.T) {
	src := t.TempDir()
	for name, text := range map[string]string{
		"hosts": "[web]\nweb1\n[rack1]\nkvm[1:2].example.com ansible_port=2222 ntp=1 ansible_ssh_common_args=-4\n[rack2]\nkvm3 ansible_host=10.0.0.3\n[kvm:children]\nrack1\nrack2\n",
		"known": "kvm1.example.com,10.0.0.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n[kvm2.example.com]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\ngit.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ\n",
	} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		args            []string
		hosts, clusters int
		told            string
	}{
		"ansible":        {[]string{"--from-ansible", filepath.Join(src, "hosts"), "kvm"}, 3, 2, "ansible_ssh_common_args"},
		"ansible, names": {[]string{"--from-ansible", filepath.Join(src, "hosts"), "kvm[1:2].example.com", "kvm3", "--cluster", "one"}, 3, 1, "ntp"},
		"known hosts":    {[]string{"--known-hosts", filepath.Join(src, "known"), "--from-known-hosts", "kvm*"}, 2, 1, ""},
		"all known":      {[]string{"--known-hosts", filepath.Join(src, "known"), "--from-known-hosts"}, 3, 1, ""},
		"an address":     {[]string{"--known-hosts", filepath.Join(src, "known"), "--from-known-hosts=10.0.0.*"}, 1, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new")
			_, said, err := program(t, append([]string{"-C", dir, "init"}, c.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			f, diags := inventory.Load(dir, inventory.Options{})
			if diags.HasErrors() || len(f.Hosts) != c.hosts || len(f.Clusters) != c.clusters {
				t.Errorf("it wrote %d hosts in %d clusters", len(f.Hosts), len(f.Clusters))
			}
			if !strings.Contains(said, c.told) {
				t.Errorf("%q is not told:\n%s", c.told, said)
			}
			if _, _, err := program(t, "-C", dir, "fmt", "--check"); err != nil {
				t.Errorf("fmt --check: %v", err)
			}
			if _, _, err := program(t, append([]string{"-C", dir, "init"}, c.args...)...); err == nil || !strings.Contains(err.Error(), "exists already") {
				t.Errorf("a second time: %v", err)
			}
		})
	}
	for want, args := range map[string][]string{
		"no host of":             {"--from-ansible", filepath.Join(src, "hosts"), "nosuch"},
		"no such file":           {"--from-ansible", filepath.Join(src, "none")},
		"none of the others can": {"--from-ansible", "x", "--from-known-hosts"},
		"no hosts were given":    {},
		"belongs to no option":   {"kvm1"},
		"migration is":           {"--host", "kvm1", "--migration", "some"},
	} {
		dir := filepath.Join(t.TempDir(), "new")
		if _, _, err := program(t, append([]string{"-C", dir, "init"}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("init %v: %v, want %q", args, err, want)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("init %v wrote something", args)
		}
	}
}
