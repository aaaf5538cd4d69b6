package swarm_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/bench/swarm"
	"github.com/virtrust/virtrust/integration/lab"
)

// What one host may cost a run, in counts: they hold on any machine.
const (
	planTrips     = 10     // with TCP's own, of the median host: where an answer comes in pieces, more are counted
	planToHost    = 24_000 // bytes, the script among them
	planFromHost  = 48_000
	applyChannels = 7 // beside the plan's: lock, stage, upload, switch, prove, end
	applyToHost   = 120_000
	planKiB       = 600      // that the program allocates for a host, freed or not
	planPeakKiB   = 64 << 10 // that it takes from the system for few hosts
)

const policy = `authority "libvirt" {
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

var (
	tripsOf  = regexp.MustCompile(`round_trips=(\d+)`)
	memoryOf = regexp.MustCompile(`allocated_kib=(\d+) from_system_kib=(\d+)`)
)

// memory is what a run says that it allocated and took from the system, in KiB.
func memory(t *testing.T, log string) (allocated, system int) {
	t.Helper()
	m := memoryOf.FindStringSubmatch(log)
	if m == nil {
		t.Fatalf("no word of memory:\n%s", log)
	}
	allocated, _ = strconv.Atoi(m[1])
	system, _ = strconv.Atoi(m[2])
	return allocated, system
}

func TestBudgets(t *testing.T) {
	t.Parallel()
	lab.Require(t)
	const hosts = 16
	binary := filepath.Join(t.TempDir(), "virtrust")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "github.com/virtrust/virtrust/cmd/virtrust").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s, err := swarm.New(t.TempDir(), swarm.Config{Hosts: hosts, OneWay: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	dir := t.TempDir()
	for name, text := range map[string]string{"inventory.hcl": s.Inventory(), "policy.hcl": policy} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, string) {
		t.Helper()
		cmd := exec.Command(binary, append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "VT_PASSPHRASE=only for this test", "NO_COLOR=1")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("virtrust %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
		}
		return out.String(), errs.String()
	}
	run("ca", "init")
	run("apply", "--yes")
	counts := s.Counts()
	t.Logf("an apply of everything costs a host %.1f connections, %.1f channels, %d bytes to it, %d from it",
		float64(counts.Connections)/hosts, float64(counts.Channels)/hosts, counts.Received/hosts, counts.Sent/hosts)
	if counts.Connections != hosts {
		t.Errorf("%d connections to %d hosts: what planned is not what applied", counts.Connections, hosts)
	}
	if counts.Channels > applyChannels*hosts || counts.Received > applyToHost*hosts {
		t.Errorf("%.1f channels and %d bytes to a host, %d and %d are the budget", float64(counts.Channels)/hosts, counts.Received/hosts, applyChannels, applyToHost)
	}

	out, log := run("plan", "--verbose", "--detailed-exitcode")
	if !strings.Contains(out, "Nothing to do") {
		t.Fatalf("there was something to do:\n%s", out)
	}
	counts = s.Counts()
	t.Logf("a plan costs a host %.1f connections, %.1f channels, %.1f scripts, %d bytes to it, %d from it",
		float64(counts.Connections)/hosts, float64(counts.Channels)/hosts, float64(counts.Scripts)/hosts, counts.Received/hosts, counts.Sent/hosts)
	if counts.Connections != hosts || counts.Channels != hosts || counts.Scripts != hosts {
		t.Errorf("a plan over %d hosts: %+v, want one connection, one channel and one script for each", hosts, counts)
	}
	if counts.Received > planToHost*hosts || counts.Sent > planFromHost*hosts {
		t.Errorf("%d bytes to a host and %d from it, %d and %d are the budget", counts.Received/hosts, counts.Sent/hosts, planToHost, planFromHost)
	}
	looks := tripsOf.FindAllStringSubmatch(log, -1)
	if len(looks) != hosts {
		t.Fatalf("%d looks are logged:\n%s", len(looks), log)
	}
	var trips []int
	for _, l := range looks {
		n, _ := strconv.Atoi(l[1])
		trips = append(trips, n)
	}
	slices.Sort(trips)
	if n := trips[hosts/2]; n > planTrips {
		t.Errorf("a look took %d round trips, %d are the budget", n, planTrips)
	}

	allocated, system := memory(t, log)
	_, log = run("plan", "--verbose", "--limit", "node1")
	s.Counts()
	first, _ := memory(t, log)
	each := (allocated - first) / (hosts - 1)
	t.Logf("a plan allocates %d KiB for each further host and takes %d KiB from the system", each, system)
	if each > planKiB || system > planPeakKiB {
		t.Errorf("%d KiB for each further host and %d KiB from the system, %d and %d are the budget", each, system, planKiB, planPeakKiB)
	}

	// Said again from memory, a plan has the same answers and needs no shell.
	s.Replay(true)
	if out, _ := run("plan", "--detailed-exitcode"); !strings.Contains(out, "Nothing to do") {
		t.Errorf("played back:\n%s", out)
	}
	if counts = s.Counts(); counts.Scripts != 0 {
		t.Errorf("%d scripts ran", counts.Scripts)
	}
	s.Replay(false)

	// Fewer files than connections: fewer at once, or a word of what is needed.
	limited := func(files, parallel int) (string, error) {
		cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf(`ulimit -Sn %d; ulimit -Hn %[1]d; exec "$0" "$@"`, files), binary, "-C", dir, "plan", "--parallel", strconv.Itoa(parallel))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := limited(70, 4); err != nil {
		t.Errorf("70 files, 4 hosts at once: %v\n%s", err, out)
	}
	if out, err := limited(70, 64); err == nil || !strings.Contains(out, "need 80 open files and the limit is 70") {
		t.Errorf("70 files, 64 hosts at once: %v\n%s", err, out)
	}
	if counts = s.Counts(); counts.Connections != hosts {
		t.Errorf("%d connections: the limit is looked at before the first", counts.Connections)
	}
}
