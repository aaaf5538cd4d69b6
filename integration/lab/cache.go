package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// cacheDir returns the folder that holds base systems and the state of labs,
// made on first use.
func cacheDir(elem ...string) (string, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("lab: find the user's cache directory: %w", err)
	}
	dir := filepath.Join(append([]string{user, "virtrust-lab"}, elem...)...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("lab: make the cache directory: %w", err)
	}
	return dir, nil
}

// lockFile takes an exclusive lock on a file and waits for it. The lock ends
// when the file, and every copy that a child inherited, is closed.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lab: open lock: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lab: lock %s: %w", path, err)
	}
	return f, nil
}
