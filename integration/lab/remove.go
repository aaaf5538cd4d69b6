package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Close removes every trace of the lab: processes, namespaces and with them the
// bridges and mounts, control groups, and the lab's directory. It can be called
// again after an error.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock, err := lockRuns()
	if err != nil {
		return err
	}
	defer lock.Close()
	return destroy(l.state)
}

// Sweep removes the labs whose owner process is gone, and what is left of labs
// that never came to be.
func Sweep(ctx context.Context, log *slog.Logger) error {
	lock, err := lockRuns()
	if err != nil {
		return err
	}
	defer lock.Close()
	runs, err := cacheDir("run")
	if err != nil {
		return err
	}
	unborn, _ := filepath.Glob(filepath.Join(runs, ".new-*"))
	for _, dir := range unborn {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("lab: sweep: %w", err)
		}
	}
	states, err := readStates()
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range states {
		if s.Owner == OwnerKept || s.Process.alive() {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if log != nil {
			log.Info("removing a lab whose owner is gone", "lab", s.ID, "owner", s.Process.PID)
		}
		if err := destroy(s); err != nil {
			errs = append(errs, fmt.Errorf("lab: sweep %s: %w", s.ID, err))
		}
	}
	return errors.Join(errs...)
}

// destroy removes all that a lab's state names. The state itself goes last, so
// that it can be tried again.
func destroy(s *state) error {
	dir, err := runDir(s.ID)
	if err != nil {
		return err
	}
	names := []string{controllerOf(s.ID)}
	var supervisors []process
	for _, h := range s.Hosts {
		names = append(names, netnsOf(s.ID, h.Index))
		supervisors = append(supervisors, h.Supervisor)
	}
	var paths []string
	for _, n := range names {
		paths = append(paths, filepath.Join(netnsDir, n))
	}
	// A supervisor that was started but not yet recorded is in its host's namespace.
	if err := killAll(context.Background(), supervisors, paths...); err != nil {
		return err
	}
	for _, n := range names {
		if err := removeNetns(n); err != nil {
			return err
		}
	}
	traces := []string{filepath.Join("/etc/netns", controllerOf(s.ID))}
	for _, h := range s.Hosts {
		for _, kind := range []string{"propagate", "unix-export"} {
			traces = append(traces, filepath.Join("/run/systemd/nspawn", kind, machineOf(s.ID, h.Name)))
		}
	}
	for _, h := range s.Hosts {
		removeNspawnLock(filepath.Join(dir, h.Name, "upper"))
	}
	for _, path := range append(traces, dir) {
		if path == dir {
			if err := removeCgroups(s.ID); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("lab: remove %s: %w", path, err)
		}
	}
	// Shared by all labs, and removed with the last.
	os.Remove("/etc/netns")
	return nil
}

// removeNspawnLock removes the lock file that a killed systemd-nspawn leaves. It is
// named after the root directory's inode, which an overlay takes from its upper
// layer. A lock that is held is another container's.
func removeNspawnLock(upper string) {
	var stat unix.Stat_t
	if err := unix.Stat(upper, &stat); err != nil {
		return
	}
	names, _ := filepath.Glob(fmt.Sprintf("/run/systemd/nspawn/locks/inode-*:%d", stat.Ino))
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.Remove(name)
		}
		f.Close()
	}
}

// removeCgroups removes a lab's control groups, which the kernel lets go a moment
// after their last process.
func removeCgroups(id string) error {
	for _, root := range cgroupRoots() {
		top := filepath.Join(root, "virtrust-lab")
		var err error
		for range 100 {
			if err = removeGroupTree(filepath.Join(top, id)); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("lab: remove control groups: %w", err)
		}
		os.Remove(top)
	}
	return nil
}

// removeGroupTree removes directories only, deepest first: the files of a control
// group go with it.
func removeGroupTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
