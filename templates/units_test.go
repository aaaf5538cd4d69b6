package templates_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/needed"
	"github.com/virtrust/virtrust/templates"
)

func TestRevertServiceRunsBeforeLibvirt(t *testing.T) {
	values := map[string][]string{}
	for line := range strings.Lines(string(templates.RevertService())) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(k, "#") {
			values[k] = append(values[k], strings.Fields(v)...)
		}
	}
	has := func(key, want string) {
		t.Helper()
		for _, v := range values[key] {
			if v == want {
				return
			}
		}
		t.Errorf("%s=%q does not name %s", key, values[key], want)
	}
	for _, unit := range []string{"sysinit.target", "libvirtd.service", "libvirtd.socket", "libvirtd-tls.socket", "virtproxyd-tls.socket", "virtqemud.service"} {
		has("Before", unit)
	}
	has("DefaultDependencies", "no")
	has("ConditionPathExists", "/var/lib/virtrust/armed")
	has("ConditionPathExists", "!/run/virtrust/lock")
	has("WantedBy", "sysinit.target")
	has("ExecStart", "boot")
}

func TestRevertServiceIsAValidUnit(t *testing.T) {
	analyze := needed.Program(t, "systemd-analyze", "systemd")
	unit := filepath.Join(t.TempDir(), "virtrust-revert.service")
	if err := os.WriteFile(unit, templates.RevertService(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", unit).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze verify: %v\n%s", err, out)
	}
	// A directive that systemd does not know is only a warning to it.
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, filepath.Base(unit)) {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
}
