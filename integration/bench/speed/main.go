// Speed measures plan, apply and renewal over many hosts, beside what OpenSSH
// and a bare SSH client take for the same hosts in the same run. It prints
// tables in Markdown. It needs root, and Debian.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "fanout" {
		err = fanout(os.Args[2:])
	} else {
		err = measureAll(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "speed:", err)
		os.Exit(1)
	}
}

func measureAll(ctx context.Context) (err error) {
	parts := flag.String("parts", "cheap,whole,swarm", "what to measure")
	cheapHosts := flag.Int("cheap", 50, "hosts that have an sshd and nothing else")
	wholeHosts := flag.Int("whole", 10, "hosts with systemd, libvirt and firewalld")
	swarmHosts := flag.Int("swarm", 1000, "hosts in one process, 20 ms away")
	renewed := flag.Int("renewed", 200, "hosts of the swarm whose certificates are made anew")
	repeat := flag.Int("repeat", 3, "samples of what changes nothing; the median counts")
	labID := flag.String("lab", "", "id of a lab to use, whose hosts are fresh, instead of starting one")
	binary := flag.String("binary", "", "the program, instead of building it")
	flag.Parse()
	dir, err := os.MkdirTemp("/dev/shm", "speed")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{dir: dir, binary: filepath.Join(dir, "virtrust"), repeat: *repeat, lab: *labID}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if *binary != "" {
		b.binary = *binary
	} else if text, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", b.binary, "./cmd/virtrust").CombinedOutput(); err != nil {
		return fmt.Errorf("building virtrust (run this in the repository's root): %w: %s", err, text)
	}
	ssh, _ := exec.CommandContext(ctx, "ssh", "-V").CombinedOutput()
	load, _ := os.ReadFile("/proc/loadavg")
	version, _, _ := strings.Cut(string(ssh), ",")
	fmt.Printf("%s, %s, %d cores for everything, load %s at the start; %s.\n", time.Now().UTC().Format("2006-01-02"), runtime.Version(), runtime.NumCPU(), strings.Fields(string(load))[0], version)
	for _, p := range strings.Split(*parts, ",") {
		switch p {
		case "cheap":
			err = b.cheap(ctx, *cheapHosts)
		case "whole":
			err = b.whole(ctx, *wholeHosts)
		case "swarm":
			err = b.swarm(ctx, *swarmHosts, min(*renewed, *swarmHosts))
		default:
			err = fmt.Errorf("there is no part %q", p)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}
