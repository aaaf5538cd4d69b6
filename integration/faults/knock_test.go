package faults

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

// knocker is an address of the controller that nothing else uses.
const knocker = "10.77.0.250"

// knocks opens SSH on a host all the time.
type knocks struct {
	in     io.Writer
	mu     sync.Mutex
	opened int
	failed map[time.Time]string
}

func startKnocking(t testing.TB, l *lab.Lab, h *lab.Host) *knocks {
	t.Helper()
	if out, err := l.Command(t.Context(), "ip", "addr", "replace", knocker+"/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("a second address: %v\n%s", err, out)
	}
	cmd := l.Command(context.WithoutCancel(t.Context()), bin.observer, "knock", net.JoinHostPort(h.Addresses.Management4.String(), "22"), knocker)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k := &knocks{in: in, failed: map[time.Time]string{}}
	var read sync.WaitGroup
	read.Go(func() { k.read(out) })
	t.Cleanup(func() { stopKnocking(in, &read, cmd) })
	return k
}

func stopKnocking(in io.Closer, read *sync.WaitGroup, cmd *exec.Cmd) {
	in.Close()
	read.Wait()
	_ = cmd.Wait()
}

func (k *knocks) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		at, why, failed := strings.Cut(lines.Text(), " ")
		us, _ := strconv.ParseInt(at, 10, 64)
		k.mu.Lock()
		if failed {
			k.failed[time.UnixMicro(us)] = why
		} else {
			k.opened++
		}
		k.mu.Unlock()
	}
}

// begin has it knock until since is asked.
func (k *knocks) begin() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened = 0
	clear(k.failed)
	fmt.Fprintln(k.in, "on")
	return time.Now()
}

// since is what did not open from then on.
func (k *knocks) since(began time.Time) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	fmt.Fprintln(k.in, "off")
	var out []string
	for at, why := range k.failed {
		if at.After(began) {
			out = append(out, fmt.Sprintf("%.2f s: %s", at.Sub(began).Seconds(), why))
		}
	}
	if k.opened == 0 {
		out = append(out, "it never did: nobody knocks")
	}
	return out
}
