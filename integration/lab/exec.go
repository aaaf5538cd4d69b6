package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Result is what a command left behind.
type Result struct {
	Stdout, Stderr string
	Code           int // exit status; -1 if a signal ended it
}

// Err is nil if the command exited with 0, and else says what it wrote.
func (r Result) Err() error {
	if r.Code == 0 {
		return nil
	}
	said := strings.TrimSpace(r.Stderr)
	if said == "" {
		said = strings.TrimSpace(r.Stdout)
	}
	return fmt.Errorf("exit status %d: %s", r.Code, said)
}

// Run runs a command on the host as root, in all of the host's namespaces and
// with nothing in its environment but PATH, HOME and LANG. It works when the
// network is cut and sshd is down. An exit status other than 0 is no error:
// see Result.Err.
func (h *Host) Run(ctx context.Context, cmd string, args ...string) (Result, error) {
	return h.run(ctx, nil, cmd, args...)
}

// Script runs a POSIX shell script on the host, under set -eu, as Run does.
func (h *Host) Script(ctx context.Context, sh string) (Result, error) {
	return h.run(ctx, nil, "/bin/sh", "-euc", sh)
}

// WriteFile replaces a file on the host, owned by root, and makes its folder if
// needed.
func (h *Host) WriteFile(ctx context.Context, name string, content []byte, mode fs.FileMode) error {
	const script = `mkdir -p "$1"; umask 077; cat >"$2.lab-new"; chmod "$3" "$2.lab-new"; mv "$2.lab-new" "$2"`
	r, err := h.run(ctx, bytes.NewReader(content), "/bin/sh", "-euc", script, "sh",
		path.Dir(name), name, strconv.FormatUint(uint64(mode.Perm()), 8))
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("lab: %s: write %s: %w", h.Name, name, err)
	}
	return nil
}

// ReadFile reads a file on the host.
func (h *Host) ReadFile(ctx context.Context, name string) ([]byte, error) {
	r, err := h.run(ctx, nil, "/bin/cat", "--", name)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %s: read %s: %w", h.Name, name, err)
	}
	return []byte(r.Stdout), nil
}

func (h *Host) run(ctx context.Context, stdin io.Reader, name string, args ...string) (Result, error) {
	leader, err := h.leader()
	if err != nil {
		return Result{}, err
	}
	// --cgroup is left out: cheap hosts and cgroup v1 hosts have no such namespace of their own.
	full := append([]string{"--target", strconv.Itoa(leader.PID), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", full...)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LANG=C.UTF-8",
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	// The command inside is nsenter's child: both are in one process group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	r := Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if ctx.Err() != nil {
		return r, fmt.Errorf("lab: %s: %s: %w", h.Name, name, ctx.Err())
	}
	var exit *exec.ExitError
	// A daemon that the command started may hold its output open.
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return r, fmt.Errorf("lab: %s: %s: %w", h.Name, name, err)
	}
	return r, nil
}
