// Package operator is who uses virtrust in tests on real hosts: it has a lab, a
// configuration and the program, runs it, and looks at the hosts by other ways.
package operator

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

// patience bounds one run of the program or of a script on a host.
const patience = 5 * time.Minute

// program is virtrust, once Main has built it.
var program string

// Main builds virtrust and runs the tests of a package; TestMain gives its result
// to os.Exit. Where no lab can run nothing is built: each test is skipped, or
// fails, see [lab.Require].
func Main(m *testing.M) int {
	flag.Parse()
	if testing.Short() || lab.CheckDependencies() != nil {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "virtrust-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "virtrust")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "github.com/virtrust/virtrust/cmd/virtrust")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building virtrust: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Program is the path of virtrust. It is empty without [Main].
func Program() string { return program }

// A Site is hosts and the configuration of who looks after them.
type Site struct {
	Lab   *lab.Lab
	Hosts []*lab.Host
	Dir   string          // of the configuration
	Env   []string        // of the program, beside this process's and NO_COLOR
	Began func(*exec.Cmd) // told of each program that was started, if set
	Said  bytes.Buffer    // all that the program wrote
}

// New starts hosts, which go with the test, and an empty configuration.
func New(t *testing.T, specs ...lab.HostSpec) *Site {
	t.Helper()
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
	s := &Site{Lab: l, Dir: t.TempDir()}
	if s.Hosts, err = l.Start(t.Context(), specs...); err != nil {
		t.Fatal(err)
	}
	return s
}

// Path is that of a file of the configuration.
func (s *Site) Path(name string) string { return filepath.Join(s.Dir, name) }

// Write writes a file of the configuration.
func (s *Site) Write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.Path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Inventory is hosts in cluster rack1, whose block holds what is given besides,
// and how to reach them.
func (s *Site) Inventory(cluster string, hosts ...*lab.Host) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster \"rack1\" {\n  policy = policy.standard\n%s}\n\nssh {\n  known_hosts = %q\n  identity    = [%q]\n}\n", cluster, s.Lab.KnownHosts(), s.Lab.IdentityFile())
	for _, h := range hosts {
		fmt.Fprintf(&b, "\nhost %q {\n  address = %q\n  cluster = cluster.rack1\n}\n", h.Name, h.FQDN)
	}
	return b.String()
}

// A Result is what a program left behind.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Exec runs virtrust in the lab's network with the configuration.
func (s *Site) Exec(t *testing.T, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := Exec(t, s.command(ctx, args...), s.Began)
	s.Said.WriteString(r.Stdout + r.Stderr)
	return r
}

func (s *Site) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := s.Lab.Command(ctx, program, append([]string{"-C", s.Dir}, args...)...)
	cmd.Env = append(append(os.Environ(), "NO_COLOR=1"), s.Env...)
	return cmd
}

// Begin starts virtrust; the returned function waits for its end.
func (s *Site) Begin(t *testing.T, args ...string) (*os.Process, func() Result) {
	t.Helper()
	cmd := s.command(t.Context(), args...)
	wait := begin(t, cmd)
	return cmd.Process, wait
}

// Exec runs a program, tells began of it, and logs how it ended.
func Exec(t *testing.T, cmd *exec.Cmd, began func(*exec.Cmd)) Result {
	t.Helper()
	wait := begin(t, cmd)
	if began != nil {
		began(cmd)
	}
	return wait()
}

func begin(t *testing.T, cmd *exec.Cmd) func() Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", said(cmd.Args), err)
	}
	return func() Result {
		t.Helper()
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Fatalf("%s: %v", said(cmd.Args), err)
		}
		code := cmd.ProcessState.ExitCode()
		t.Logf("%s %s: %d", time.Since(start).Round(10*time.Millisecond), said(cmd.Args), code)
		return Result{stdout.String(), stderr.String(), code}
	}
}

// said is a command as the operator would have typed it.
func said(args []string) string {
	for i, a := range args {
		if a == program && i+3 <= len(args) && args[i+1] == "-C" {
			return "virtrust " + strings.Join(args[i+3:], " ")
		}
	}
	return strings.Join(args, " ")
}

// Run is Exec with an exit status that must be met.
func (s *Site) Run(t *testing.T, code int, args ...string) Result {
	t.Helper()
	r := s.Exec(t, args...)
	r.Want(t, code, args...)
	return r
}

// Want ends the test where the exit status is another one.
func (r Result) Want(t *testing.T, code int, args ...string) {
	t.Helper()
	if r.Code != code {
		t.Fatalf("virtrust %s: exit status %d, want %d\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), r.Code, code, r.Stdout, r.Stderr)
	}
}

// Empty wants a plan with nothing to do.
func (s *Site) Empty(t *testing.T) {
	t.Helper()
	if r := s.Exec(t, "plan", "--detailed-exitcode"); r.Code != 0 || !strings.Contains(r.Stdout, "Nothing to do") {
		t.Fatalf("a plan with nothing to do ended with %d:\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}
