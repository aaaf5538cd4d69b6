package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

// bench is one measurement of everything.
type bench struct {
	dir, binary, self string
	lab               string // id of a lab to use, or none
	repeat            int
}

// sample is one run of a command.
type sample struct {
	what, command string
	wall, cpu     time.Duration // cpu of the command and what it started here
	there         time.Duration // of the hosts meanwhile; 0 where it is not known
	peak          int64         // KiB, of the largest process
	out, errs     string
}

// site is a configuration, and how to run commands near its hosts.
type site struct {
	*bench
	dir    string
	hosts  int
	lab    *lab.Lab // nil for a swarm
	prefix func(ctx context.Context, name string, args ...string) *exec.Cmd
}

const pass = "only for this measurement"

func (s *site) write(files map[string]string) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// time runs a command once. Codes are the exit codes that are as they should be.
func (s *site) time(ctx context.Context, what, shown string, stdin string, codes []int, name string, args ...string) (sample, error) {
	cmd := s.prefix(ctx, name, args...)
	cmd.Env = append(os.Environ(), "VT_PASSPHRASE="+pass, "NO_COLOR=1")
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	before := s.onHosts()
	began := time.Now()
	err := cmd.Start()
	var peak int64
	if err == nil {
		stop := make(chan struct{})
		watched := make(chan int64)
		go func() { watched <- watch(cmd.Process.Pid, stop) }()
		err = cmd.Wait()
		close(stop)
		peak = <-watched
	}
	r := sample{what: what, command: shown, wall: time.Since(began), out: out.String(), errs: errs.String()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return r, fmt.Errorf("%s: %w", shown, err)
	}
	if !slices.Contains(codes, cmd.ProcessState.ExitCode()) {
		return r, fmt.Errorf("%s ended with %d:\n%s%s", shown, cmd.ProcessState.ExitCode(), tail(r.out), tail(r.errs))
	}
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	r.peak = peak
	r.there = s.onHosts() - before
	fmt.Fprintf(os.Stderr, "%8s %s\n", r.wall.Round(time.Millisecond), shown)
	return r, nil
}

// watch reads a process's peak of resident memory, in KiB, until it ends. What
// wait4(2) tells of a child counts the memory of the parent it was forked from.
func watch(pid int, stop <-chan struct{}) (peak int64) {
	for {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, rest, ok := strings.Cut(string(text), "VmHWM:"); ok {
			var n int64
			_, _ = fmt.Sscan(rest, &n)
			peak = max(peak, n)
		}
		select {
		case <-stop:
			return peak
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func tail(s string) string { return s[max(0, len(s)-1500):] }

// virtrust times one command of the program, which must end with a code of
// codes; none means 0.
func (s *site) virtrust(ctx context.Context, what string, codes []int, args ...string) (sample, error) {
	if codes == nil {
		codes = []int{0}
	}
	return s.time(ctx, what, "virtrust "+strings.Join(args, " "), "", codes, s.binary, append([]string{"-C", s.dir}, args...)...)
}

// median runs samples in turn, so that what else the machine does falls on all
// of them, and gives the median of each.
func median(n int, runs ...func() (sample, error)) ([]sample, error) {
	all := make([][]sample, len(runs))
	for range n {
		for i, run := range runs {
			r, err := run()
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], r)
		}
	}
	var out []sample
	for _, list := range all {
		slices.SortFunc(list, func(a, b sample) int { return int(a.wall - b.wall) })
		out = append(out, list[len(list)/2])
	}
	return out, nil
}

// table prints samples, with their ratios to those of bases: of time and, where
// the hosts' part is known, of work, which is the processors' time on both ends.
func table(bases []sample, rows []sample) {
	work := func(r sample) time.Duration { return r.cpu + r.there }
	both := bases[0].there > 0
	columns := len(bases)
	fmt.Print("\n| |")
	for _, b := range bases {
		fmt.Printf(" time of %s |", b.what)
		if both {
			fmt.Printf(" work of %s |", b.what)
			columns++
		}
	}
	fmt.Print(" seconds | CPU s here |")
	if both {
		fmt.Print(" CPU s on the hosts |")
		columns++
	}
	fmt.Print(" peak MiB | command |\n|---|")
	fmt.Print(strings.Repeat("---|", columns), "---|---|---|---|\n")
	for _, r := range rows {
		fmt.Printf("| %s |", r.what)
		for _, b := range bases {
			fmt.Printf(" %.2f |", float64(r.wall)/float64(b.wall))
			if both {
				fmt.Printf(" %.2f |", float64(work(r))/float64(work(b)))
			}
		}
		fmt.Printf(" %.2f | %.2f |", r.wall.Seconds(), r.cpu.Seconds())
		if both {
			fmt.Printf(" %.2f |", r.there.Seconds())
		}
		fmt.Printf(" %d | `%s` |\n", r.peak>>10, r.command)
	}
	fmt.Println()
}

// filesOnly is the policy of hosts that have an sshd and no more.
const filesOnly = `authority "libvirt" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

policy "standard" {
  template = "libvirt"

  listener "libvirt" {
    enabled = false
  }

  firewall {
    backend = "none"
  }

  rollout {
    canary = 1
    batch  = "100%"
  }
}
`
