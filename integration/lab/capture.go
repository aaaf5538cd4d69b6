package lab

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// A Capture is a tcpdump at work on one of the lab's networks.
type Capture struct {
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	said []string
	err  error
}

// Capture writes every packet on a network that matches a pcap filter ("" for
// all) to a file, from when it returns until Stop.
func (l *Lab) Capture(ctx context.Context, network Network, filter, file string) (*Capture, error) {
	args := []string{"-i", string(network), "-n", "-U", "--immediate-mode", "-s", "0", "-Z", "root", "-w", file}
	if filter != "" {
		args = append(args, filter)
	}
	c := &Capture{cmd: l.Command(ctx, "tcpdump", args...), done: make(chan struct{})}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("lab: capture on %s: %w", network, err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("lab: capture on %s: %w", network, err)
	}
	listening := make(chan struct{})
	go func() {
		defer close(c.done)
		ready := sync.OnceFunc(func() { close(listening) })
		for s := bufio.NewScanner(stderr); s.Scan(); {
			c.mu.Lock()
			c.said = append(c.said, s.Text())
			c.mu.Unlock()
			if strings.Contains(s.Text(), "listening on") {
				ready()
			}
		}
		c.err = c.cmd.Wait()
	}()
	select {
	case <-listening:
		return c, nil
	case <-c.done:
		return nil, fmt.Errorf("lab: capture on %s: %v: %s", network, c.err, strings.Join(c.said, "; "))
	}
}

// Stop ends the capture and returns when the file is complete.
func (c *Capture) Stop() error {
	c.cmd.Process.Signal(syscall.SIGINT)
	<-c.done
	if c.err != nil {
		return fmt.Errorf("lab: capture: %w: %s", c.err, strings.Join(c.said, "; "))
	}
	return nil
}
