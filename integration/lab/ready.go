package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// bootLimit is how long a host may take to be ready.
const bootLimit = 2 * time.Minute

// sshLimit is how long sshd may take to answer once the system has started.
const sshLimit = 15 * time.Second

// waitReady waits until the host's system has started and sshd answers on the
// management network. before is the first process of an earlier boot.
func (h *Host) waitReady(ctx context.Context, before process) error {
	began := time.Now()
	started := func(ctx context.Context) error {
		leader, err := h.leader()
		if err != nil {
			return err
		}
		if leader == before {
			return errors.New("its system has not gone down")
		}
		return h.probeSystem(ctx)
	}
	err := h.retry(ctx, bootLimit, started)
	if err == nil && !h.Cheap {
		h.warnDegraded(ctx)
	}
	if err == nil {
		err = h.retry(ctx, sshLimit, h.probeSSH)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("lab: start %s: %w", h.Name, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("lab: %s is not ready after %s: %w; end of %s:\n%s",
			h.Name, time.Since(began).Round(100*time.Millisecond), err, h.console(), tail(h.console(), 25))
	}
	h.lab.log.Debug("host is ready", "host", h.Name, "took", time.Since(began).Round(10*time.Millisecond))
	return nil
}

// retry repeats a probe until it is nil, the time is up or the host has ended.
func (h *Host) retry(ctx context.Context, limit time.Duration, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		if !h.Running() {
			return fmt.Errorf("the host ended: %w", err)
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// probeSystem is nil once all units have started or failed.
func (h *Host) probeSystem(ctx context.Context) error {
	if h.Cheap {
		return nil
	}
	r, err := h.Run(ctx, "systemctl", "is-system-running", "--wait")
	if err != nil {
		return err
	}
	switch state := strings.TrimSpace(r.Stdout); state {
	case "running", "degraded":
		return nil
	default:
		return fmt.Errorf("its system is %q: %s", state, strings.TrimSpace(r.Stderr))
	}
}

func (h *Host) warnDegraded(ctx context.Context) {
	units, err := h.FailedUnits(ctx)
	if err != nil {
		h.lab.log.Warn("host may be degraded", "host", h.Name, "error", err)
	} else if len(units) > 0 {
		h.lab.log.Warn("host is degraded", "host", h.Name, "failed", strings.Join(units, " "))
	}
}

// probeSSH is nil once sshd greets.
func (h *Host) probeSSH(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := h.lab.Dial(ctx, "tcp", h.FQDN+":22")
	if err != nil {
		return fmt.Errorf("sshd does not answer: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	greeting := make([]byte, 4)
	if _, err := conn.Read(greeting); err != nil || string(greeting) != "SSH-" {
		return fmt.Errorf("sshd does not greet: %q, %w", greeting, err)
	}
	return nil
}

// FailedUnits lists the units that have failed on the host.
func (h *Host) FailedUnits(ctx context.Context) ([]string, error) {
	r, err := h.Run(ctx, "systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("lab: %s: list failed units: %w", h.Name, err)
	}
	var units []string
	for line := range strings.Lines(r.Stdout) {
		if f := strings.Fields(line); len(f) > 0 {
			units = append(units, f[0])
		}
	}
	return units, nil
}
