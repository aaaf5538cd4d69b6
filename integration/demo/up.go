package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

// up starts the hosts and shows a first run on them.
func up(ctx context.Context) error {
	began := time.Now()
	say("This starts two Debian 13 hosts with libvirt on this machine and secures them.")
	say("The first start builds their base system, which takes a few minutes.")
	l, err := lab.New(ctx, lab.Config{ID: labID, Owner: lab.OwnerKept, Log: slog.New(progress{})})
	if err != nil {
		return err
	}
	hosts, err := l.Start(ctx, lab.HostSpec{}, lab.HostSpec{})
	if err != nil {
		return err
	}
	if err := build(ctx); err != nil {
		return err
	}
	if err := wrappers(l); err != nil {
		return err
	}
	if err := tour(ctx, l, hosts); err != nil {
		return err
	}
	fmt.Printf(`
That took %s. The hosts run on. What to try next, as root:

  ./demo/virtrust status                                           days left, per certificate
  ./demo/virtrust apply --replace certificate.libvirt-server       renew: libvirtd keeps its process
  ./demo/shell kvm1                                                a shell on a host
  ./demo/shell kvm1 chmod 600 /etc/pki/CA/cacert.pem               make a host differ, then:
  ./demo/virtrust plan                                             see what would be mended
  ./demo/virtrust show --host kvm1                                 every value and where it comes from

The configuration is demo/inventory.hcl and demo/policy.hcl.
make demo-down removes the hosts and ./demo.
`, time.Since(began).Round(time.Second))
	return nil
}

// tour is the first run, command by command.
func tour(ctx context.Context, l *lab.Lab, hosts []*lab.Host) error {
	a, b := hosts[0].FQDN, hosts[1].FQDN
	say("\nA first configuration: two hosts, the authorities, the policy that virtrust ships.")
	if err := typed(ctx, 0, "./demo/virtrust", "init", "--host", "kvm1="+a, "--host", "kvm2="+b, "--known-hosts", l.KnownHosts()); err != nil {
		return err
	}
	if err := configure(l); err != nil {
		return err
	}
	say("Added: the key to log in with, and a file with the authorities' passphrase (mode 0600).")
	if err := typed(ctx, 0, "cat", "demo/inventory.hcl", "demo/policy.hcl"); err != nil {
		return err
	}
	for _, s := range []struct {
		what string
		code int
		argv []string
	}{
		{"Check it. Nothing is contacted.", 0, []string{"./demo/virtrust", "validate"}},
		{"A plan needs the authorities' certificates, which are not made yet: this is refused.", 1, []string{"./demo/virtrust", "plan"}},
		{"Make the authorities. Their keys are encrypted with the passphrase.", 0, []string{"./demo/virtrust", "ca", "init"}},
		{"Look at both hosts and show what would change. Nothing is changed.", 0, []string{"./demo/virtrust", "plan"}},
		{"Carry it out and prove it. Keys are made on the hosts and stay there.", 0, []string{"./demo/virtrust", "apply", "--yes"}},
		{"Ask again, from the outside: what is served, and do the hosts accept each other?", 0, []string{"./demo/virtrust", "verify"}},
		{"The same with libvirt's own client, both ways.", 0, []string{"./demo/shell", "kvm1", "virsh", "-c", "qemu+tls://" + b + "/system", "hostname"}},
		{"", 0, []string{"./demo/shell", "kvm2", "virsh", "-c", "qemu+tls://" + a + "/system", "hostname"}},
		{"And the plan has nothing left to do.", 0, []string{"./demo/virtrust", "plan"}},
	} {
		if s.what != "" {
			say("\n" + s.what)
		}
		if err := typed(ctx, s.code, s.argv...); err != nil {
			return err
		}
	}
	return nil
}

func say(text string) { fmt.Println(text) }

func join(words []string) string { return strings.Join(words, " ") }

// typed shows a command as a person would type it, then runs it with its output
// in front of the user. It has to end with the given exit status.
func typed(ctx context.Context, code int, argv ...string) error {
	fmt.Println("\n$ " + join(argv))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// An interrupted virtrust brings its hosts to an end first.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return err
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		return fmt.Errorf("%s ended with exit status %d, %d was expected", join(argv), got, code)
	}
	return nil
}

func build(ctx context.Context) error {
	fmt.Println("\n$ go build -o virtrust ./cmd/virtrust")
	// Without the state of the checkout, which git may refuse to tell root.
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-o", binary, "./cmd/virtrust")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building virtrust: %w", err)
	}
	return nil
}

// wrappers makes ./demo with a virtrust that runs inside the lab's network and
// a shell on the hosts.
func wrappers(l *lab.Lab) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	enter := "exec ip netns exec " + l.Namespace() + " "
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	for _, f := range []struct{ name, text string }{
		{"virtrust", marker + "# virtrust with this folder's configuration, inside the hosts' network.\n" +
			enter + quote(filepath.Join(root, binary)) + " -C " + quote(filepath.Join(root, folder)) + " \"$@\"\n"},
		{"shell", marker + "# ./shell HOST [COMMAND...]: a shell or a command on a host, over SSH.\nh=${1:?which host: kvm1 or kvm2}; shift\n" +
			enter + "ssh -F /dev/null -q -i " + quote(l.IdentityFile()) + " -o IdentitiesOnly=yes -o UserKnownHostsFile=" + quote(l.KnownHosts()) +
			" root@\"$h\"." + lab.Domain + " \"$@\"\n"},
	} {
		if err := os.WriteFile(filepath.Join(folder, f.name), []byte(f.text), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// configure fills in what init cannot know: how to log in to the lab's hosts,
// and a passphrase.
func configure(l *lab.Lab) error {
	if err := os.WriteFile(filepath.Join(folder, "passphrase"), []byte(rand.Text()+"\n"), 0o600); err != nil {
		return err
	}
	// All of this folder is left out of git, not only what virtrust leaves out.
	if err := os.WriteFile(filepath.Join(folder, ".gitignore"), []byte("*\n"), 0o644); err != nil {
		return err
	}
	known := fmt.Sprintf("known_hosts = %q\n", l.KnownHosts())
	if err := edit("inventory.hcl", known, known+fmt.Sprintf("  identity    = [%q]\n", l.IdentityFile())); err != nil {
		return err
	}
	return edit("policy.hcl", `"prompt"`, `"file:passphrase"`)
}

func edit(name, from, to string) error {
	path := filepath.Join(folder, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), from) {
		return fmt.Errorf("%s: %q should be there", path, from)
	}
	return os.WriteFile(path, []byte(strings.ReplaceAll(string(text), from, to)), 0o644)
}
