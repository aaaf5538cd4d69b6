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

// up starts the hosts and tells the story on them.
func up(ctx context.Context) error {
	began := time.Now()
	say("This starts three hosts with libvirt on this machine, Debian 12, 13 and testing, and has them exchange guests encrypted.")
	say("The first start builds their base systems, which takes some minutes; later ones take seconds.")
	l, err := lab.New(ctx, lab.Config{ID: labID, Owner: lab.OwnerKept, Log: slog.New(progress{})})
	if err != nil {
		return err
	}
	hosts, err := l.Start(ctx, lab.HostSpec{Suite: "bookworm"}, lab.HostSpec{Suite: "trixie"}, lab.HostSpec{Suite: "forky"})
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

  ./demo/virtrust status                                         days left, per certificate
  ./demo/virtrust apply --replace certificate.libvirt-server     renew: libvirtd keeps its process
  ./demo/virtrust peers                                          how a guest gets from each host to each other
  ./demo/shell kvm1 chmod 644 /etc/pki/qemu/server-key.pem       expose a key, then:
  ./demo/virtrust plan                                           see what would be done about it
  ./demo/virtrust rollback kvm1                                  undo what the last run changed there

Refuse every migration without TLS: write migration = "required" into demo/inventory.hcl, then
./demo/virtrust apply, and try the plain migration above again.

The configuration is demo/inventory.hcl and demo/policy.hcl.
make demo-down removes the hosts and ./demo.
`, time.Since(began).Round(time.Second))
	return nil
}

// part is some commands of the story and what they are for.
type part struct {
	what     string
	commands [][]string
}

// tour is the story, command by command.
func tour(ctx context.Context, l *lab.Lab, hosts []*lab.Host) error {
	program, shell := tool("virtrust"), tool("shell")
	initial := []string{program, "init", "--known-hosts", l.KnownHosts()}
	var versions, dials [][]string
	for _, h := range hosts {
		initial = append(initial, "--host", h.Name+"="+h.FQDN)
		versions = append(versions, []string{shell, h.Name, "libvirtd --version; qemu-system-x86_64 --version | head -n 1"})
		for _, to := range hosts {
			if to != h {
				dials = append(dials, []string{shell, h.Name, "virsh", "-c", tlsURI(to), "hostname"})
			}
		}
	}
	if err := play(ctx, part{"Three releases in one cluster:", versions}, part{"A first configuration, with the authorities and the policy that virtrust ships:", [][]string{initial}}); err != nil {
		return err
	}
	if err := configure(l); err != nil {
		return err
	}
	say("\nAdded: the key to log in with, and a file with the authorities' passphrase (mode 0600). This is all that was written:")
	err := play(ctx,
		part{"", [][]string{{"cat", filepath.Join(folder, "inventory.hcl"), filepath.Join(folder, "policy.hcl")}}},
		part{"Make the authorities, one for libvirtd and one for QEMU. Their keys are encrypted with the passphrase.", [][]string{{program, "ca", "init"}}},
		part{"Look at the hosts and show what would change. Nothing is changed.", [][]string{{program, "plan"}}},
		part{"Carry it out and prove it, one host first. Keys are made on the hosts and stay there.", [][]string{{program, "apply", "--yes"}}},
		part{"The plan has nothing left to do.", [][]string{{program, "plan"}}},
		part{"libvirt's own client between all pairs: without the certificate of its host none of these gets in.", dials},
	)
	if err != nil {
		return err
	}
	return journey(ctx, l, hosts)
}

// journey moves a guest, in clear and encrypted, and shows the difference on
// the wire.
func journey(ctx context.Context, l *lab.Lab, hosts []*lab.Host) error {
	a, b, c := hosts[0], hosts[1], hosts[2]
	shell := tool("shell")
	if err := a.WriteFile(ctx, "/root/tour.xml", []byte(tourGuest), 0o644); err != nil {
		return err
	}
	if err := play(ctx, part{"A guest, 64 MiB, on the oldest host:", [][]string{{shell, a.Name, "virsh", "create", "/root/tour.xml"}}}); err != nil {
		return err
	}
	plain, err := watch(ctx, l, func() error {
		return play(ctx, part{"First as it is everywhere by default: the two libvirtds talk encrypted, the guest's memory goes beside that in clear.",
			[][]string{{shell, a.Name, "virsh", "migrate", "--live", "--p2p", "tour", tlsURI(b)}}})
	})
	if err != nil {
		return err
	}
	say("\nOn the wire: " + plain.String())
	encrypted, err := watch(ctx, l, func() error {
		return play(ctx, part{"Now with virtrust, on to the newest release:", [][]string{{tool("virtrust"), "migrate", "tour", "--to", c.Name}}})
	})
	if err != nil {
		return err
	}
	say("\nOn the wire: " + encrypted.String())
	if plain.streams == 0 || encrypted.streams > 0 || encrypted.handshakes == 0 {
		return fmt.Errorf("the captures show %s, then %s", plain, encrypted)
	}
	return play(ctx,
		part{"", [][]string{{shell, c.Name, "virsh", "list"}}},
		part{"The proof that can be repeated at any time, without a guest of yours: a throw-away one goes there and back.",
			[][]string{{tool("virtrust"), "verify", "--migrate", "--from", a.Name, "--to", c.Name}}},
	)
}

// tool is a wrapper in the demonstration's folder, as it is typed.
func tool(name string) string { return "./" + filepath.Join(folder, name) }

func tlsURI(h *lab.Host) string { return "qemu+tls://" + h.FQDN + "/system" }

// tourGuest has a machine type that the oldest of the releases knows.
const tourGuest = `<domain type="qemu">
  <name>tour</name>
  <memory unit="MiB">64</memory>
  <os><type machine="pc-i440fx-7.2">hvm</type></os>
</domain>
`

// play types the commands of each part.
func play(ctx context.Context, parts ...part) error {
	for _, p := range parts {
		if p.what != "" {
			say("\n" + p.what)
		}
		for _, argv := range p.commands {
			if err := typed(ctx, argv...); err != nil {
				return err
			}
		}
	}
	return nil
}

func say(text string) { fmt.Println(text) }

func join(words []string) string { return strings.Join(words, " ") }

// typed shows a command as a person would type it, then runs it with its output
// in front of the user. It has to end well.
func typed(ctx context.Context, argv ...string) error {
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
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("%s ended with exit status %d", join(argv), code)
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
	program, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	enter := "exec ip netns exec " + l.Namespace() + " "
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	for _, f := range []struct{ name, text string }{
		{"virtrust", marker + "# virtrust with this folder's configuration, inside the hosts' network.\n" +
			enter + quote(program) + " -C " + quote(filepath.Join(root, folder)) + " \"$@\"\n"},
		{"shell", marker + "# ./shell HOST [COMMAND...]: a shell or a command on a host, over SSH.\nh=${1:?which host: kvm1, kvm2 or kvm3}; shift\n" +
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
