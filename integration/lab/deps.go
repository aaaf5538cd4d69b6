package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// dependencies are the programs that the lab runs on this machine, and the
// Debian packages that bring them.
var dependencies = []struct{ program, pkg string }{
	{"debootstrap", "debootstrap"},
	{"systemd-nspawn", "systemd-container"},
	{"ip", "iproute2"},
	{"tcpdump", "tcpdump"},
	{"ssh", "openssh-client"},
	{"unshare", "util-linux"},
	{"nsenter", "util-linux"},
	{"tar", "tar"},
	{"strace", "strace"}, // the fault tests see with it what is synced
}

// MissingPackages lists the Debian packages that the lab needs and this machine lacks.
func MissingPackages() []string {
	var missing []string
	for _, d := range dependencies {
		if _, err := exec.LookPath(d.program); err != nil && !slices.Contains(missing, d.pkg) {
			missing = append(missing, d.pkg)
		}
	}
	return missing
}

// CheckDependencies says in one error what this machine lacks to run a lab.
func CheckDependencies() error {
	if os.Geteuid() != 0 {
		return errors.New("lab: root is needed to make namespaces and mounts: run as root")
	}
	if missing := MissingPackages(); len(missing) > 0 {
		return fmt.Errorf("lab: missing Debian packages: %[1]s: run 'labctl deps' or 'apt-get install %[1]s'", strings.Join(missing, " "))
	}
	return nil
}

// InstallDependencies installs what MissingPackages lists with apt-get, whose
// output goes to progress.
func InstallDependencies(ctx context.Context, progress io.Writer) error {
	missing := MissingPackages()
	if len(missing) == 0 {
		return nil
	}
	for _, args := range [][]string{
		{"-q", "update"},
		append([]string{"-q", "-y", "--no-install-recommends", "install"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = progress, progress
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("lab: apt-get %s: %w", strings.Join(args, " "), err)
		}
	}
	return CheckDependencies()
}
