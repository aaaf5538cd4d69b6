package lab

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
)

// Whole hosts take about seven inotify instances each, all of one machine's
// limit; without one left, systemd or libvirtd on the next host dies at once.
const (
	instancesFile   = "/proc/sys/fs/inotify/max_user_instances"
	instancesWanted = 1024
)

// raiseLimits raises the machine's limit of inotify instances where it is too
// low for a lab, until the next boot, and says so.
func raiseLimits(log *slog.Logger) error {
	raw, err := os.ReadFile(instancesFile)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	have, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || have >= instancesWanted {
		return nil //nolint:nilerr // a limit that is no number is none
	}
	if err := os.WriteFile(instancesFile, []byte(strconv.Itoa(instancesWanted)), 0o644); err != nil {
		return fmt.Errorf("lab: %d inotify instances are too few and cannot be raised: sysctl fs.inotify.max_user_instances=%d: %w", have, instancesWanted, err)
	}
	log.Info("raised fs.inotify.max_user_instances until the next boot", "from", have, "to", instancesWanted)
	return nil
}
