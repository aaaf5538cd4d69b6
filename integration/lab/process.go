package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A process is a process id with the time at which it started, in clock ticks
// since boot (proc_pid_stat(5), field 22), so that a reused id is not mistaken.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	Boot  string `json:"boot"` // the machine's boot id
}

// bootID returns the id of the machine's present boot, or "" if unknown.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// findProcess identifies a process that runs now.
func findProcess(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, fmt.Errorf("lab: look at process %d: %w", pid, err)
	}
	// The command name is in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return process{}, fmt.Errorf("lab: look at process %d: its stat file has %d fields", pid, len(fields))
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return process{}, fmt.Errorf("lab: process %d has ended", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}, fmt.Errorf("lab: look at process %d: %w", pid, err)
	}
	return process{PID: pid, Start: start, Boot: bootID()}, nil
}

// alive reports whether this very process still runs.
func (p process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := findProcess(p.PID)
	return err == nil && now == p
}

// kill ends this very process, and no other that has its id since.
func (p process) kill() error {
	if p.PID <= 1 {
		return nil
	}
	// The handle pins the process (pidfd), the check after it settles whose it is.
	handle, err := os.FindProcess(p.PID)
	if err != nil {
		return nil
	}
	defer handle.Release()
	if !p.alive() {
		return nil
	}
	if err := handle.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("lab: end process %d: %w", p.PID, err)
	}
	return nil
}

// children lists the processes that p started and that still run.
func (p process) children() []process {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.PID))
	var found []process
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			pid, _ := strconv.Atoi(field)
			if child, err := findProcess(pid); err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

// isInit reports whether the process is the first of a PID namespace below ours.
func (p process) isInit() bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(ids)
			return len(f) > 1 && f[len(f)-1] == "1"
		}
	}
	return false
}

// processesIn lists every process in one of the network namespaces, given as
// files under /run/netns.
func processesIn(namespaces ...string) []process {
	var wanted []os.FileInfo
	for _, ns := range namespaces {
		if info, err := os.Stat(ns); err == nil {
			wanted = append(wanted, info)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	entries, _ := os.ReadDir("/proc")
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := findProcess(pid)
		if err != nil {
			continue
		}
		info, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			continue
		}
		for _, w := range wanted {
			if os.SameFile(info, w) {
				found = append(found, p)
				break
			}
		}
	}
	return found
}
