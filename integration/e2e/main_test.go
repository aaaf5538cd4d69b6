package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
)

// virtrust is the program under test, built once.
var virtrust string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if lab.CheckDependencies() != nil {
		return m.Run() // every test skips or fails, see lab.Require
	}
	// One of these tests only waits: it must not take a core's place.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+1)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "virtrust-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	virtrust = filepath.Join(dir, "virtrust")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", virtrust, "github.com/virtrust/virtrust/cmd/virtrust")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building virtrust: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
