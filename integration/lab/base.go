package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sync/errgroup"
)

// What builds a base system: functions, then one of two recipes.
var (
	//go:embed base_common.sh
	commonScript string
	//go:embed base.sh
	debianScript string
	//go:embed base_modular.sh
	modularScript string
)

// Suites are the Debian releases that hosts can run, oldest first.
var Suites = []string{"bookworm", "trixie", "forky"}

// Modular is trixie with its version of libvirt built from source, as the
// modular daemons that EL 9, Fedora and SUSE run.
const Modular = "modular"

// recipe is the script that builds a suite, and what its name's digest is made of.
func recipe(suite string) (script, identity string) {
	debian := commonScript + debianScript
	if suite == Modular {
		return commonScript + modularScript, debian + modularScript
	}
	return debian, debian
}

// builderSuite is the base whose debootstrap builds suites that the machine's
// own does not know.
const builderSuite = "trixie"

// basePath names the root tree of a suite. The name carries a digest of the
// recipe, so a changed recipe builds a new tree and leaves running hosts theirs.
func basePath(suite string) (string, error) {
	if err := checkSuite(suite); err != nil {
		return "", err
	}
	dir, err := cacheDir("base")
	if err != nil {
		return "", err
	}
	_, identity := recipe(suite)
	sum := sha256.Sum256([]byte(identity))
	return filepath.Join(dir, suite+"-"+hex.EncodeToString(sum[:6])), nil
}

func checkSuite(suite string) error {
	if suite != Modular && !slices.Contains(Suites, suite) {
		return fmt.Errorf("lab: unknown suite %q: choose one of %s, %s", suite, strings.Join(Suites, ", "), Modular)
	}
	return nil
}

// Build makes the base system of a suite unless it is cached, and returns its
// root tree. Two processes never build the same suite at once: the second waits.
func Build(ctx context.Context, suite string, log *slog.Logger) (string, error) {
	target, err := basePath(suite)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	if err := CheckDependencies(); err != nil {
		return "", err
	}
	builder := ""
	if _, err := os.Stat("/usr/share/debootstrap/scripts/" + suite); errors.Is(err, os.ErrNotExist) {
		// Of the modular base it is also what the new one is made of.
		if suite == builderSuite {
			return "", fmt.Errorf("lab: this machine's debootstrap does not know %s: install a newer one", suite)
		}
		if builder, err = Build(ctx, builderSuite, log); err != nil {
			return "", err
		}
	}
	lock, err := lockFile(filepath.Join(filepath.Dir(target), suite+".lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	if err := buildLocked(ctx, suite, target, builder, lock, log); err != nil {
		return "", err
	}
	removeOldBases(suite, target, log)
	return target, nil
}

// BuildAll builds suites side by side, since one downloads while another
// unpacks, and returns their root trees by suite.
func BuildAll(ctx context.Context, suites []string, log *slog.Logger) (map[string]string, error) {
	roots := make([]string, len(suites))
	g, gctx := errgroup.WithContext(ctx)
	for i, suite := range suites {
		g.Go(func() (err error) {
			roots[i], err = Build(gctx, suite, log)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	bases := map[string]string{}
	for i, suite := range suites {
		bases[suite] = roots[i]
	}
	return bases, nil
}

func buildLocked(ctx context.Context, suite, target, builder string, lock *os.File, log *slog.Logger) error {
	base := filepath.Dir(target)
	stale, _ := filepath.Glob(filepath.Join(base, ".building-"+suite+"-*"))
	for _, dir := range stale {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("lab: remove an unfinished base: %w", err)
		}
	}
	work, err := os.MkdirTemp(base, ".building-"+suite+"-")
	if err != nil {
		return fmt.Errorf("lab: make a build directory: %w", err)
	}
	defer os.RemoveAll(work)
	debs, err := cacheDir("debs", suite)
	if err != nil {
		return err
	}
	logs, err := cacheDir("log")
	if err != nil {
		return err
	}
	logPath := filepath.Join(logs, "base-"+suite+".log")
	out, err := os.Create(logPath)
	if err != nil {
		return fmt.Errorf("lab: make the build log: %w", err)
	}
	defer out.Close()

	began := time.Now()
	log.Info("building a base system", "suite", suite, "log", logPath)
	root := filepath.Join(work, "root")
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
		"sh", "-s", suite, root, debs, builder)
	script, _ := recipe(suite)
	cmd.Stdin = strings.NewReader(script)
	cmd.Stdout, cmd.Stderr = out, out
	// The lock outlives this process if the build does.
	cmd.ExtraFiles = []*os.File{lock}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("lab: build the %s base: %w; end of %s:\n%s", suite, err, logPath, tail(logPath, 15))
	}
	// Whatever the umask was.
	if err := os.Chmod(root, 0o755); err != nil {
		return fmt.Errorf("lab: finish the %s base: %w", suite, err)
	}
	if err := os.Rename(root, target); err != nil {
		return fmt.Errorf("lab: put the %s base in place: %w", suite, err)
	}
	log.Info("built a base system", "suite", suite, "took", time.Since(began).Round(time.Second))
	return nil
}

// removeOldBases removes trees of older recipes that no lab uses.
func removeOldBases(suite, current string, log *slog.Logger) {
	lock, err := lockRuns()
	if err != nil {
		log.Warn("old base systems are kept", "suite", suite, "error", err)
		return
	}
	defer lock.Close()
	used := map[string]bool{current: true}
	states, err := readStates()
	if err != nil {
		log.Warn("old base systems are kept", "suite", suite, "error", err)
		return
	}
	for _, s := range states {
		for _, h := range s.Hosts {
			used[h.Base] = true
		}
	}
	trees, _ := filepath.Glob(filepath.Join(filepath.Dir(current), suite+"-*"))
	for _, tree := range trees {
		if used[tree] {
			continue
		}
		if err := os.RemoveAll(tree); err != nil {
			log.Warn("remove an old base system", "path", tree, "error", err)
		}
	}
}

// tail returns the last lines of a file, for error messages.
func tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 64<<10 {
		f.Seek(-64<<10, io.SeekEnd)
	}
	var last []string
	for s := bufio.NewScanner(f); s.Scan(); {
		// A host may write anything: nothing of it may steer a terminal.
		line := strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return -1
		}, s.Text())
		if strings.TrimSpace(line) == "" {
			continue
		}
		if last = append(last, line); len(last) > lines {
			last = last[1:]
		}
	}
	return strings.Join(last, "\n")
}
