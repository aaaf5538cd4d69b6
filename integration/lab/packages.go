package lab

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed packages.sh
var packagesScript string

// Unpack puts the files of Debian packages, and of what they need, on the host,
// without their maintainer scripts: programs to try, not services. Packages are
// downloaded once and cached.
func (h *Host) Unpack(ctx context.Context, packages ...string) error {
	dir, err := h.download(ctx, packages)
	if err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		content, err := os.ReadFile(deb)
		if err != nil {
			return err
		}
		if err := h.WriteFile(ctx, "/var/tmp/lab-debs/"+filepath.Base(deb), content, 0o600); err != nil {
			return err
		}
	}
	r, err := h.Script(ctx, "for d in /var/tmp/lab-debs/*.deb; do dpkg-deb -x \"$d\" /; done; rm -rf /var/tmp/lab-debs")
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("lab: %s: unpack %s: %w", h.Name, strings.Join(packages, " "), err)
	}
	return nil
}

// download gives a directory with the packages for the host's base system.
func (h *Host) download(ctx context.Context, packages []string) (string, error) {
	sum := sha256.Sum256([]byte(packagesScript + "\x00" + strings.Join(packages, "\x00")))
	parent, err := cacheDir("packages")
	if err != nil {
		return "", err
	}
	target := filepath.Join(parent, filepath.Base(h.base)+"-"+hex.EncodeToString(sum[:6]))
	lock, err := lockFile(target + ".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	fresh := target + ".new"
	if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(fresh, 0o700)); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--propagation", "private", "sh", "-s", h.base, fresh}, packages...)...)
	cmd.Stdin = strings.NewReader(packagesScript)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("lab: download %s: %w\n%s", strings.Join(packages, " "), err, out)
	}
	return target, os.Rename(fresh, target)
}
