// Demo secures three real hosts of three releases on this machine in front of
// the user, moves a guest between them, and leaves them there to try more on. It
// needs Debian and root, and is run from the root of the repository.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/virtrust/virtrust/integration/lab"
)

// Where everything is: the lab, the folder with the configuration and the
// wrappers, and what is built from this tree. A test has its own.
var (
	labID  = "demo"
	folder = "demo"
	binary = "virtrust"
)

const marker = "#!/bin/sh\n# Made by make demo; make demo-down removes this folder.\n"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 || args[0] != "up" && args[0] != "down" {
		return errors.New("say up or down")
	}
	if _, err := os.Stat("cmd/virtrust"); err != nil {
		return errors.New("run this in the root of the repository: make demo")
	}
	if os.Geteuid() != 0 {
		return errors.New("root is needed to start hosts on this machine: sudo make " + map[string]string{"up": "demo", "down": "demo-down"}[args[0]])
	}
	if args[0] == "down" {
		return down()
	}
	if err := packages(ctx); err != nil {
		return err
	}
	if err := remove(); err != nil {
		return err
	}
	err := up(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return errors.Join(err, remove())
}

// packages installs what the lab needs and this machine lacks.
func packages(ctx context.Context) error {
	missing := lab.MissingPackages()
	if len(missing) == 0 {
		return nil
	}
	fmt.Printf("Installing Debian packages that the hosts need: %s\n", join(missing))
	return lab.InstallDependencies(ctx, os.Stderr)
}

func down() error {
	if err := remove(); err != nil {
		return err
	}
	if err := os.Remove(binary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	fmt.Printf("The hosts, their networks and ./%s are gone.\n", folder)
	if _, err := os.Stat(filepath.Join(cache, "virtrust-lab", "base")); err == nil {
		fmt.Printf("Base systems stay for the next start; rm -r %s removes them.\n", filepath.Join(cache, "virtrust-lab"))
	}
	return nil
}

// remove takes away the lab and the folder of an earlier run.
func remove() error {
	l, err := lab.Open(labID, nil)
	switch {
	case err == nil:
		if err := l.Close(); err != nil {
			return err
		}
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if text, err := os.ReadFile(filepath.Join(folder, "virtrust")); err != nil || !strings.HasPrefix(string(text), marker) {
		return fmt.Errorf("./%s was not made by this demonstration: move it away first", folder)
	}
	return os.RemoveAll(folder)
}
