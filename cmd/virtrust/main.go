// Command virtrust secures fleets of KVM hosts with TLS, over SSH, with no
// agent on them. See docs/ for what it does; `virtrust help` for its commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/virtrust/virtrust/internal/ledger"
)

// Exit codes, as docs and scripts know them.
const (
	exitDone        = 0
	exitError       = 1
	exitDifferences = 2
	exitIncomplete  = 3
	exitRefused     = 4
	exitLocked      = 5
	exitNotApproved = 6
	exitInterrupted = 130
)

// softMemory is where memory is collected more often, in bytes.
const softMemory = 160 << 20

// exitCode ends the program with a code. A nil Err means that everything was
// already said.
type exitCode struct {
	code int
	err  error
}

func (e *exitCode) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitCode) Unwrap() error { return e.err }

// hinted is an error with one line of what to do.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

func main() { os.Exit(run()) }

func run() (code int) {
	// Keys and passphrases are in this memory: no core file, no ptrace by others.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "virtrust: a bug in virtrust: %v\n\n%s\nPlease report this with the command that you ran.\n", p, debug.Stack())
			code = exitError
		}
	}()
	// A run lives for seconds and keeps little: collecting less often costs
	// some tens of MiB and saves a tenth of the processor's time.
	debug.SetGCPercent(500)
	debug.SetMemoryLimit(softMemory)
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	ctx, stop := interruptible(context.Background(), func() bool { return a.asking.Load() > 0 })
	defer stop()
	root := a.root()
	a.arrange(root)
	err := root.ExecuteContext(ctx)
	var ec *exitCode
	switch {
	case errors.As(err, &ec):
		if ec.err != nil {
			a.fail(ec.err)
		}
		return ec.code
	case ledger.IsBusy(err):
		a.fail(&hinted{err, "another virtrust on this machine holds the ledger: wait for it, or end it if it is stopped (ps, fg)"})
		return exitLocked
	case err != nil && context.Cause(ctx) != nil:
		a.fail(context.Cause(ctx))
		return exitInterrupted
	case err != nil:
		a.fail(err)
		return exitError
	}
	return exitDone
}

var errInterrupted = errors.New("interrupted")

// interruptible ends ctx at the first signal, so that hosts that have begun
// are brought to an end, and the program at the second. While a question waits
// for its answer nothing is at work, and nothing is said of it.
func interruptible(parent context.Context, asking func() bool) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			if !asking() {
				fmt.Fprintln(os.Stderr, "virtrust: interrupted: hosts that have begun are brought to an end; once more ends at once (their reverter acts)")
			}
			cancel(errInterrupted)
		case <-done:
			return
		}
		select {
		case <-signals:
			os.Exit(exitInterrupted)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
