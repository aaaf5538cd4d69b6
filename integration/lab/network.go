package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

// ip runs a list of commands of ip(8) in a namespace, or on the machine for "".
func ip(ctx context.Context, netns string, commands ...string) error {
	args := []string{"-batch", "-"}
	if netns != "" {
		args = append([]string{"-n", netns}, args...)
	}
	cmd := exec.CommandContext(ctx, "ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: ip in namespace %q: %w: %s", netns, err, bytes.TrimSpace(out))
	}
	return nil
}

// makeController makes the controller namespace with its bridges and addresses.
func (l *Lab) makeController(ctx context.Context) error {
	if err := ip(ctx, "", "netns add "+l.controller()); err != nil {
		return err
	}
	commands := []string{"link set lo up"}
	for i, n := range networks {
		a := ControllerAddresses.list()
		commands = append(commands,
			fmt.Sprintf("link add %s type bridge", n.name),
			fmt.Sprintf("addr add %s/24 dev %s", a[2*i], n.name),
			fmt.Sprintf("addr add %s/64 dev %s nodad", a[2*i+1], n.name),
			fmt.Sprintf("link set %s up", n.name))
	}
	return ip(ctx, l.controller(), commands...)
}

// port names the controller's end of a host's cable.
func (h *Host) port(n Network) string { return fmt.Sprintf("h%d%s", h.index, n) }

// makeNetwork makes the host's namespace and its two cables.
func (h *Host) makeNetwork(ctx context.Context) error {
	if err := ip(ctx, "", "netns add "+h.netns()); err != nil {
		return err
	}
	var outside []string
	inside := []string{"link set lo up"}
	a := h.Addresses.list()
	for i, n := range networks {
		outside = append(outside,
			fmt.Sprintf("link add %s type veth peer name %s0 netns %s", h.port(n.name), n.name, h.netns()),
			fmt.Sprintf("link set %s master %s up", h.port(n.name), n.name))
		inside = append(inside,
			fmt.Sprintf("addr add %s/24 dev %s0", a[2*i], n.name),
			fmt.Sprintf("addr add %s/64 dev %s0 nodad", a[2*i+1], n.name),
			fmt.Sprintf("link set %s0 up", n.name))
	}
	if err := ip(ctx, h.lab.controller(), outside...); err != nil {
		return err
	}
	return ip(ctx, h.netns(), inside...)
}

// Pause cuts a host off both networks, as if its cables were pulled. The host
// itself runs on.
func (h *Host) Pause(ctx context.Context) error { return h.cables(ctx, "down") }

// Resume undoes Pause.
func (h *Host) Resume(ctx context.Context) error { return h.cables(ctx, "up") }

func (h *Host) cables(ctx context.Context, direction string) error {
	var commands []string
	for _, n := range networks {
		commands = append(commands, fmt.Sprintf("link set %s %s", h.port(n.name), direction))
	}
	return ip(ctx, h.lab.controller(), commands...)
}

// writeHosts brings the names of all hosts to the controller and to each host.
func (l *Lab) writeHosts(hosts []*Host) error {
	var text strings.Builder
	text.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	fmt.Fprintf(&text, "%s %s controller\n%s %[2]s controller\n",
		ControllerAddresses.Management4, ControllerName, ControllerAddresses.Management6)
	for _, h := range hosts {
		a := h.Addresses
		fmt.Fprintf(&text, "%s %s %s\n%s %[2]s %[3]s\n", a.Management4, h.FQDN, h.Name, a.Management6)
		fmt.Fprintf(&text, "%s %s-mig.%s %[2]s-mig\n%[4]s %[2]s-mig.%[3]s %[2]s-mig\n", a.Migration4, h.Name, Domain, a.Migration6)
	}
	paths := []string{filepath.Join("/etc/netns", l.controller(), "hosts")}
	for _, h := range hosts {
		paths = append(paths, filepath.Join(h.dir, "hosts"))
	}
	for _, path := range paths {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("lab: write the names of the hosts: %w", err)
		}
		// In place, because a running ip netns exec has the file bind-mounted.
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			return fmt.Errorf("lab: write the names of the hosts: %w", err)
		}
	}
	return nil
}

// Command prepares a program that will run in the controller namespace, where
// the names of the hosts resolve. It inherits this process's environment.
func (l *Lab) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", l.controller(), name}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Dial opens a connection from the controller namespace. The address may hold
// the name of a host, on either network, or an IP address.
func (l *Lab) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	target, err := l.resolve(network, address)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = inNetns(filepath.Join(netnsDir, l.controller()), func() (err error) {
		// For a literal address, the dialer makes its socket on this goroutine.
		conn, err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, target)
		return err
	})
	return conn, err
}

// Listen opens a listening socket in the controller namespace, at an IP address
// such as ControllerAddresses.Management4, so that hosts can reach this process.
func (l *Lab) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("lab: listen: %w", err)
	}
	var listener net.Listener
	err := inNetns(filepath.Join(netnsDir, l.controller()), func() (err error) {
		listener, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return listener, err
}

func (l *Lab) resolve(network, address string) (string, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("lab: dial: %w", err)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return address, nil
	}
	six := strings.HasSuffix(network, "6")
	pick := func(v4, v6 netip.Addr) string {
		if six {
			v4 = v6
		}
		return net.JoinHostPort(v4.String(), port)
	}
	for _, h := range l.Hosts() {
		a := h.Addresses
		switch name {
		case h.Name, h.FQDN:
			return pick(a.Management4, a.Management6), nil
		case h.Name + "-mig", h.Name + "-mig." + Domain:
			return pick(a.Migration4, a.Migration6), nil
		}
	}
	return "", fmt.Errorf("lab: dial: no host %q in lab %s", name, l.ID)
}

// inNetns runs f on a thread that is in another network namespace. A thread that
// cannot come back is never used again: its goroutine ends while locked to it.
func inNetns(path string, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("lab: open the thread's namespace: %w", err)
			return
		}
		defer home.Close()
		away, err := os.Open(path)
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("lab: open the namespace: %w", err)
			return
		}
		defer away.Close()
		if err := unix.Setns(int(away.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("lab: enter %s: %w", path, err)
			return
		}
		err = f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// removeNetns removes a namespace's name, and with its last process the namespace.
func removeNetns(name string) error {
	path := filepath.Join(netnsDir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("lab: remove namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab: remove namespace %s: %w", name, err)
	}
	return nil
}
