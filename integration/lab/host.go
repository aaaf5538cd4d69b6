package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed supervise.sh
var superviseScript string

// A Host is one host of a lab. Its files outlive Reboot, PowerOff and Kill.
type Host struct {
	Name      string // kvm1
	FQDN      string // kvm1.example.test
	Addresses Addresses
	Suite     string
	Firewall  Firewall
	Login     Login
	Cheap     bool

	lab   *Lab
	index int
	base  string
	dir   string
}

func newHost(l *Lab, s hostState) *Host {
	return &Host{
		Name: s.Name, FQDN: s.Name + "." + Domain, Addresses: addressesOf(10 + s.Index),
		Suite: s.Suite, Firewall: s.Firewall, Login: s.Login, Cheap: s.Cheap,
		lab: l, index: s.Index, base: s.Base, dir: filepath.Join(l.dir, s.Name),
	}
}

func (h *Host) names() []string {
	return []string{h.Name, h.FQDN, h.Name + "-mig", h.Name + "-mig." + Domain}
}

func (h *Host) netns() string { return netnsOf(h.lab.ID, h.index) }

func (h *Host) console() string { return filepath.Join(h.dir, "console.log") }

// supervisor is the process that was recorded for the host, running or not.
func (h *Host) supervisor() process {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	return h.lab.state.Hosts[h.index-1].Supervisor
}

// Running reports whether the host is powered on.
func (h *Host) Running() bool { return h.supervisor().alive() }

// Start powers the host on and waits until it is ready. Lab.Start has done this
// already for a new host.
func (h *Host) Start(ctx context.Context) error {
	if h.Running() {
		return fmt.Errorf("lab: %s runs already", h.Name)
	}
	if h.supervisor() != (process{}) {
		// A supervisor that was killed may have left its container.
		if err := h.Kill(ctx); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(h.console(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("lab: %s: open its console log: %w", h.Name, err)
	}
	defer log.Close()
	kind := "systemd"
	if h.Cheap {
		kind = "cheap"
	}
	netns := filepath.Join(netnsDir, h.netns())
	// Both programs exec the next one, so that the process is the supervisor.
	cmd := exec.Command("nsenter", "--net="+netns, "unshare", "--mount", "--propagation", "slave",
		"sh", "supervise.sh", kind, h.Name, machineOf(h.lab.ID, h.Name), netns, h.base,
		strings.Join(hostCgroups(h.lab.ID, h.Name), ":"))
	cmd.Dir = h.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	if h.Suite != "bookworm" && h.Suite != "trixie" {
		// Newer systemd does not boot on cgroup v1.
		cmd.Env = append(cmd.Env, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("lab: start %s: %w", h.Name, err)
	}
	p, err := findProcess(cmd.Process.Pid)
	go cmd.Wait()
	if err != nil {
		return fmt.Errorf("lab: start %s: it ended at once: %s", h.Name, tail(h.console(), 10))
	}
	if err := h.record(p); err != nil {
		return errors.Join(err, p.kill())
	}
	return h.waitReady(ctx, process{})
}

func (h *Host) record(p process) error {
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	h.lab.state.Hosts[h.index-1].Supervisor = p
	return h.lab.state.write(h.lab.dir)
}

// leader finds the host's first process, once it is inside the host's own root.
func (h *Host) leader() (process, error) {
	supervisor := h.supervisor()
	if !supervisor.alive() {
		return process{}, fmt.Errorf("lab: %s is powered off", h.Name)
	}
	candidates := supervisor.children()
	for _, child := range slices.Clone(candidates) {
		candidates = append(candidates, child.children()...)
	}
	outside, err := os.Stat("/")
	if err != nil {
		return process{}, fmt.Errorf("lab: %s: %w", h.Name, err)
	}
	for _, c := range candidates {
		if !c.isInit() {
			continue
		}
		inside, err := os.Stat(fmt.Sprintf("/proc/%d/root/", c.PID))
		if err == nil && !os.SameFile(inside, outside) {
			return c, nil
		}
	}
	return process{}, fmt.Errorf("lab: %s has not started its first process", h.Name)
}

// Reboot restarts the host's system and waits until it is ready. A cheap host is
// killed and started.
func (h *Host) Reboot(ctx context.Context) error {
	if h.Cheap {
		if err := h.Kill(ctx); err != nil {
			return err
		}
		return h.Start(ctx)
	}
	before, err := h.leader()
	if err != nil {
		return err
	}
	// The host may go down before the command has its answer.
	if _, err := h.Run(ctx, "systemctl", "reboot"); err != nil {
		return fmt.Errorf("lab: reboot %s: %w", h.Name, err)
	}
	return h.waitReady(ctx, before)
}

// PowerOff shuts the host's system down, at most for a minute. Start brings it back.
func (h *Host) PowerOff(ctx context.Context) error {
	if h.Cheap {
		return h.Kill(ctx)
	}
	supervisor := h.supervisor()
	if _, err := h.Run(ctx, "systemctl", "poweroff"); err != nil {
		return fmt.Errorf("lab: power off %s: %w", h.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for supervisor.alive() {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("lab: %s did not power off: %w\n%s", h.Name, err, tail(h.console(), 10))
		}
	}
	return nil
}

// Kill ends every process of the host at once, as a loss of power does. What the
// host wrote stays, synced or not. Start brings it back.
func (h *Host) Kill(ctx context.Context) error {
	return killAll(ctx, []process{h.supervisor()}, filepath.Join(netnsDir, h.netns()))
}

// killAll ends processes, whatever they started, and whatever runs in the
// namespaces, and waits until they are gone.
func killAll(ctx context.Context, roots []process, namespaces ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	// Gathered before anything ends: a child whose parent is gone belongs to nobody.
	all := map[process]bool{}
	var gather func(process)
	gather = func(p process) {
		if p.alive() && !all[p] {
			all[p] = true
			for _, c := range p.children() {
				gather(c)
			}
		}
	}
	for {
		for _, p := range roots {
			gather(p)
		}
		for _, p := range processesIn(namespaces...) {
			all[p] = true
		}
		running := false
		for p := range all {
			if !p.alive() {
				delete(all, p)
				continue
			}
			running = true
			if err := p.kill(); err != nil {
				return err
			}
		}
		if !running {
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("lab: %d processes do not end: %w", len(all), err)
		}
	}
}

// refreshNames gives a running host the present names of the lab.
func (h *Host) refreshNames(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(h.dir, "hosts"))
	if err != nil {
		return fmt.Errorf("lab: %s: read the names of the hosts: %w", h.Name, err)
	}
	return h.WriteFile(ctx, "/etc/hosts", text, 0o644)
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// cgroupRoots are the hierarchies in which the service manager of a host makes
// its groups: the one of cgroup v2, or the named one and the hybrid one of v1.
func cgroupRoots() []string {
	const root = "/sys/fs/cgroup"
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{root}
	}
	var roots []string
	for _, name := range []string{"systemd", "unified"} {
		if _, err := os.Stat(filepath.Join(root, name, "cgroup.procs")); err == nil {
			roots = append(roots, filepath.Join(root, name))
		}
	}
	return roots
}

func hostCgroups(id, name string) []string {
	var dirs []string
	for _, root := range cgroupRoots() {
		dirs = append(dirs, filepath.Join(root, "virtrust-lab", id, name))
	}
	return dirs
}
