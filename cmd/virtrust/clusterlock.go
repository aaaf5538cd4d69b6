package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockCluster takes the lock of a cluster's scheduled runs, a file beside the
// ledger that lasts as long as this process. Where another process has it, who
// says what it wrote about itself.
func lockCluster(ledgerPath, cluster string) (release func(), who string, err error) {
	name := "renew.lock"
	if cluster != "" {
		name = "renew-" + cluster + ".lock"
	}
	path := filepath.Join(filepath.Dir(ledgerPath), name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("locking cluster %q: %w", cluster, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, "", fmt.Errorf("locking cluster %q: %s: %w", cluster, path, err)
		}
		text := make([]byte, 200)
		n, _ := f.ReadAt(text, 0)
		who = strings.TrimSpace(string(text[:n]))
		if who == "" {
			who = "another run"
		}
		return nil, who, nil
	}
	_ = f.Truncate(0)
	_, _ = f.WriteAt(fmt.Appendf(nil, "%s, process %d\n", owner(), os.Getpid()), 0)
	return func() { _ = f.Close() }, "", nil
}
