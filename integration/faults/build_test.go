package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
)

// full is the whole sweep; without it a short one runs.
var full = os.Getenv("VIRTRUST_FAULTS") == "full"

// bin holds what TestMain built.
var bin struct{ dir, virtrust, observer, sftp string }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if lab.CheckDependencies() != nil {
		return m.Run() // every test asks lab.Require
	}
	dir, err := os.MkdirTemp("", "virtrust-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin.dir = dir
	bin.virtrust, bin.observer, bin.sftp = filepath.Join(dir, "virtrust"), filepath.Join(dir, "observer"), filepath.Join(dir, "sftp")
	for out, pkg := range map[string]string{bin.virtrust: "../../cmd/virtrust", bin.observer: "./observer", bin.sftp: "./sftpfault"} {
		if err := build(out, pkg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	code := m.Run()
	if err := writeTable(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

func build(out, pkg string, flags ...string) error {
	args := append([]string{"build", "-o", out}, flags...)
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// mutant builds virtrust with one text of one file of internal/remote replaced.
func mutant(t testing.TB, file string, pairs ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../internal/remote", file))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(changed, pairs[i]) {
			t.Fatalf("%s has no %q: the planted bug has to follow the code", file, pairs[i])
		}
		changed = strings.ReplaceAll(changed, pairs[i], pairs[i+1])
	}
	dir := t.TempDir()
	copied := filepath.Join(dir, file)
	overlay, _ := json.Marshal(map[string]any{"Replace": map[string]string{path: copied}})
	if err := errors.Join(os.WriteFile(copied, []byte(changed), 0o600), os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600)); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "virtrust")
	if err := build(out, "../../cmd/virtrust", "-overlay", filepath.Join(dir, "overlay.json")); err != nil {
		t.Fatal(err)
	}
	return out
}

// startHosts makes a lab of n hosts, each with its own configuration, proxy
// and observer, and with the firewalls in turn.
func startHosts(t testing.TB, n int) []*site {
	t.Helper()
	walls := []lab.Firewall{lab.FirewallNftables, lab.FirewallFirewalld, lab.FirewallUFW, lab.FirewallIptables}
	specs := make([]lab.HostSpec, n)
	for i := range specs {
		specs[i].Firewall = walls[i%len(walls)]
	}
	return startSpecs(t, specs...)
}

func startSpecs(t testing.TB, specs ...lab.HostSpec) []*site {
	t.Helper()
	lab.Require(t)
	ctx := context.WithoutCancel(t.Context())
	l, err := lab.New(ctx, lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	hosts, err := l.Start(ctx, specs...)
	if err != nil {
		t.Fatal(err)
	}
	sites := make([]*site, len(hosts))
	for i, h := range hosts {
		sites[i] = newSite(t, l, h)
	}
	return sites
}
