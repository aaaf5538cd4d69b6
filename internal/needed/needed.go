// Package needed answers what a test needs of the machine that it runs on, and
// what to do where that is missing. Tests import it; the program does not.
package needed

import (
	"os"
	"os/exec"
	"testing"
)

// Everything reports whether nothing may be left out: with CI=true or
// REQUIRE_LAB=1 in the environment a test that cannot run is a failure.
func Everything() bool { return os.Getenv("CI") == "true" || os.Getenv("REQUIRE_LAB") == "1" }

// Missing ends the test: as skipped, or as failed where nothing may be left out.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if Everything() {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Program is the path of a program that Debian's package brings.
func Program(t testing.TB, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "%s is not installed: apt-get install %s", name, debian)
	}
	return path
}
