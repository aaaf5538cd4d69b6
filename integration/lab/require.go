package lab

import (
	"os"
	"testing"

	"github.com/virtrust/virtrust/internal/needed"
)

// Require skips a test on a machine that cannot run a lab. With CI=true or
// REQUIRE_LAB=1 in the environment the test fails instead, so that the proof on
// real hosts is never left out unseen.
func Require(t testing.TB) {
	t.Helper()
	err := CheckDependencies()
	if err == nil {
		return
	}
	if os.Geteuid() == 0 {
		t.Fatalf("%v (root may run labs, so this is not skipped)", err)
	}
	needed.Missing(t, "%v", err)
}
