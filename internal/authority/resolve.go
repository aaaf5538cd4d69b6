package authority

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"mvdan.cc/sh/v3/shell"
)

// maxSecret bounds a secret, in bytes.
const maxSecret = 4096

// ErrExec means that a reference runs a command and that was not allowed.
var ErrExec = errors.New("running commands is not allowed; give --allow-exec to let the configuration run this one")

// Options say how references to secrets are resolved.
type Options struct {
	// Prompt asks a person; nil means that there is none. label says what for,
	// confirm that the answer is to be typed twice.
	Prompt func(ctx context.Context, label string, confirm bool) (Secret, error)
	// Label is handed to Prompt, such as "Passphrase of authority libvirt".
	Label string
	// Confirm is handed to Prompt: the secret is a new one.
	Confirm bool
	// AllowExec allows command: references.
	AllowExec bool
	// Dir is where relative paths start and commands run.
	Dir string
	// HideEnv names environment variables that a command does not inherit: all
	// that other references of the configuration name, see EnvReference.
	HideEnv []string
	// Stderr is where a command's messages go; nil drops them.
	Stderr io.Writer
}

// EnvReference gives the variable that an env: reference names.
func EnvReference(ref string) (name string, ok bool) { return strings.CutPrefix(ref, "env:") }

// Resolve finds the secret that a reference names:
//
//	prompt        a person is asked
//	env:NAME      an environment variable
//	file:PATH     a regular file that only its owner may read
//	command:ARGV  what a program prints; quoting as in a shell and $HOME are
//	              understood, nothing else of a shell is
//
// One line end at the end is cut. An empty secret and one above 4 KiB are
// refused. Errors never hold the secret or what a program printed.
func Resolve(ctx context.Context, ref string, o Options) (Secret, error) {
	secret, err := resolve(ctx, ref, o)
	if err == nil && secret.Empty() {
		err = errors.New("it is empty")
	}
	if err == nil && len(secret.Bytes()) > maxSecret {
		err = fmt.Errorf("it is longer than %d bytes", maxSecret)
	}
	if err != nil {
		secret.Wipe()
		if !referenceKinds.MatchString(ref) {
			// Somebody may have written the secret itself.
			ref = "reference"
		}
		return Secret{}, fmt.Errorf("secret %s: %w", ref, err)
	}
	return secret, nil
}

var referenceKinds = regexp.MustCompile(`^(prompt$|env:|file:|command:)`)

func resolve(ctx context.Context, ref string, o Options) (Secret, error) {
	if err := ctx.Err(); err != nil {
		return Secret{}, err
	}
	kind, rest, _ := strings.Cut(ref, ":")
	switch {
	case ref == "prompt":
		if o.Prompt == nil {
			return Secret{}, errors.New("there is no terminal to ask at; use env:NAME, file:PATH or command:…")
		}
		return o.Prompt(ctx, o.Label, o.Confirm)
	case kind == "env" && rest != "":
		value, ok := os.LookupEnv(rest)
		if !ok {
			return Secret{}, fmt.Errorf("environment variable %s is not set", rest)
		}
		return trimmed([]byte(value)), nil
	case kind == "file" && rest != "":
		if !filepath.IsAbs(rest) {
			rest = filepath.Join(o.Dir, rest)
		}
		return readSecret(rest)
	case kind == "command" && rest != "":
		if !o.AllowExec {
			return Secret{}, ErrExec
		}
		return runSecret(ctx, rest, o)
	}
	return Secret{}, errors.New("a secret is prompt, env:NAME, file:PATH or command:…")
}

// trimmed cuts one line end at the end of b.
func trimmed(b []byte) Secret {
	if t, ok := bytes.CutSuffix(b, []byte("\n")); ok {
		b, _ = bytes.CutSuffix(t, []byte("\r"))
	}
	return NewSecret(b)
}

// readSecret reads a secret file. A symbolic link is followed: what counts is
// the file that it leads to.
func readSecret(path string) (Secret, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Secret{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Secret{}, err
	}
	if !info.Mode().IsRegular() {
		return Secret{}, fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return Secret{}, fmt.Errorf("%s has mode %04o, others than its owner may use it; run chmod 600 %s", path, mode, path)
	}
	return readBounded(f)
}

// readBounded reads one byte more than allowed, for the caller to see, into a
// buffer that never moves.
func readBounded(r io.Reader) (Secret, error) {
	b := make([]byte, maxSecret+3) // a line end and the byte too many
	n, err := io.ReadFull(r, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		clear(b)
		return Secret{}, err
	}
	return trimmed(b[:n]), nil
}

func runSecret(ctx context.Context, line string, o Options) (Secret, error) {
	var refused []string
	argv, err := shell.Fields(line, func(name string) string {
		if name == "HOME" {
			return os.Getenv(name)
		}
		refused = append(refused, name)
		return ""
	})
	if err != nil {
		return Secret{}, fmt.Errorf("it cannot be split into arguments (nothing of a shell but quotes and $HOME is understood): %w", err)
	}
	// The splitter also asks for names that the line does not have, such as IFS.
	refused = slices.DeleteFunc(refused, func(name string) bool { return !strings.Contains(line, name) })
	if len(refused) > 0 {
		return Secret{}, fmt.Errorf("only $HOME is replaced, not $%s", refused[0])
	}
	if len(argv) == 0 {
		return Secret{}, errors.New("there is no command")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = o.Dir
	cmd.Stderr = o.Stderr
	cmd.WaitDelay = 2 * time.Second
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(o.HideEnv, name)
	})
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Secret{}, err
	}
	if err := cmd.Start(); err != nil {
		return Secret{}, err
	}
	secret, err := readBounded(out)
	if err == nil && len(secret.Bytes()) > maxSecret {
		// Resolve refuses it; do not wait for a program that prints for ever.
		cancel()
		_ = cmd.Wait() // it was ended by us
		return secret, nil
	}
	if waited := cmd.Wait(); err == nil {
		err = waited
	}
	if err != nil {
		secret.Wipe()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return Secret{}, fmt.Errorf("running %s: %w", argv[0], err)
	}
	return secret, nil
}
