// Converge measures when live migrations end: a guest that keeps writing to
// its memory moves between two hosts of a lab, for each size, rate and option.
// It prints a table in Markdown. It needs root, and Debian.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/virtrust/virtrust/integration/dirtyguest"
	"github.com/virtrust/virtrust/integration/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	sizes := flag.String("sizes", "64,256", "guests' memory in MiB")
	delays := flag.String("delays", "100000,1", "turns of an empty loop between two writes to memory")
	limit := flag.Duration("limit", time.Minute, "after which a migration is aborted")
	flag.Parse()
	if err := run(ctx, *sizes, *delays, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "converge:", err)
		os.Exit(1)
	}
}

// options are what is compared; each is virsh's.
var options = []struct {
	name string
	args string
}{
	{"plain", ""},
	{"TLS", "--tls"},
	{"TLS, auto-converge", "--tls --auto-converge"},
	{"TLS, parallel 4", "--tls --parallel --parallel-connections 4"},
	{"TLS, post-copy", "--tls --postcopy --postcopy-after-precopy"},
}

func numbers(list string) ([]int, error) {
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no list of positive numbers", list)
		}
		out = append(out, n)
	}
	return out, nil
}

func run(ctx context.Context, sizeList, delayList string, limit time.Duration) (err error) {
	sizes, err := numbers(sizeList)
	if err != nil {
		return err
	}
	delays, err := numbers(delayList)
	if err != nil {
		return err
	}
	l, err := lab.New(ctx, lab.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	hosts, err := secured(ctx, l)
	if err != nil {
		return err
	}
	versions, err := out(ctx, hosts[0], `libvirtd --version | sed 's/.*(libvirt) //'; qemu-system-x86_64 --version | sed -n 's/.*version \([0-9.]*\).*/\1/p'`)
	if err != nil {
		return err
	}
	v := strings.Fields(versions)
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("libvirt %s, QEMU %s, emulated guests, both hosts on one machine whose load was %s at the start; at most %s for each migration.\n\n",
		v[0], v[len(v)-1], strings.Fields(string(load))[0], limit)
	fmt.Println("| guest | pages changed in 1 s | option | ended | seconds | sent |\n|---|---|---|---|---|---|")
	for _, size := range sizes {
		for _, delay := range delays {
			for _, o := range options {
				g := dirtyguest.Guest{Name: "dirty", MiB: size, Delay: uint32(delay), Machine: "pc-i440fx-7.2", Image: "/var/lib/libvirt/images/dirty.img"}
				line, err := measure(ctx, hosts, g, o.args, limit)
				if err != nil {
					return err
				}
				fmt.Printf("| %d MiB | %s | %s | %s |\n", size, line[0], o.name, strings.Join(line[1:], " | "))
			}
		}
	}
	return nil
}

// measure migrates a fresh guest once.
func measure(ctx context.Context, hosts []*lab.Host, g dirtyguest.Guest, args string, limit time.Duration) ([]string, error) {
	from, to := hosts[0], hosts[1]
	for _, h := range hosts {
		if err := h.WriteFile(ctx, g.Image, g.Floppy(), 0o644); err != nil {
			return nil, err
		}
	}
	if err := from.WriteFile(ctx, "/root/dirty.xml", []byte(g.XML()), 0o644); err != nil {
		return nil, err
	}
	// The rate is what the monitor counts over a second before the migration.
	text, err := out(ctx, from, fmt.Sprintf(`set +e; v="virsh -q -c qemu:///system"
$v create /root/dirty.xml >/dev/null; sleep 3
$v domdirtyrate-calc dirty --seconds 1 >/dev/null; sleep 2
echo "rate $($v domstats dirty --dirtyrate | sed -n 's/.*dirtyrate.megabytes_per_second=//p')"
rm -f /tmp/code; read -r a _ </proc/uptime
( $v migrate --live --p2p %s --migrateuri tcp://%[3]s dirty qemu+tls://%[2]s/system >/tmp/out 2>&1; echo $? >/tmp/code ) &
sent=
while [ ! -s /tmp/code ]; do
	read -r b _ </proc/uptime
	s=$($v domjobinfo dirty 2>/dev/null | sed -n 's/^Data processed: *//p'); [ -z "$s" ] || sent=$s
	[ $((${b%%.*} - ${a%%.*})) -lt %[4]d ] || $v domjobabort dirty >/dev/null 2>&1
	sleep 0.2
done
read -r b _ </proc/uptime
echo "took $a $b"; echo "sent $sent"; echo "code $(cat /tmp/code)"; echo "said $(grep ^error /tmp/out | head -n 1)"
`, strings.Replace(args, "--tls", "--tls --tls-destination "+to.FQDN, 1), to.FQDN, to.Addresses.Migration4, int(limit.Seconds())))
	if err != nil {
		return nil, err
	}
	got := map[string]string{}
	for l := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSpace(l), " ")
		got[k] = v
	}
	rate := "?"
	if n, err := strconv.Atoi(got["rate"]); err == nil {
		rate = strconv.Itoa(n * 256)
	}
	var a, b float64
	_, _ = fmt.Sscan(got["took"], &a, &b)
	ended := "yes"
	sent := got["sent"]
	where := to
	if got["code"] != "0" {
		ended, where = "no", from
		if !strings.Contains(got["said"], "cancel") {
			ended = "refused: " + strings.ReplaceAll(strings.TrimPrefix(got["said"], "error: "), "|", "/")
		}
	} else if s, err := out(ctx, to, `virsh -q -c qemu:///system domjobinfo dirty --completed | sed -n 's/^Data processed: *//p'`); err == nil && s != "" {
		sent = s
	}
	if _, err := out(ctx, where, "virsh -q -c qemu:///system destroy dirty >/dev/null"); err != nil {
		return nil, err
	}
	return []string{rate, ended, fmt.Sprintf("%.1f", b-a), sent}, nil
}

func out(ctx context.Context, h *lab.Host, script string) (string, error) {
	r, err := h.Script(ctx, "export LC_ALL=C\n"+script)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", h.Name, err)
	}
	return strings.TrimSpace(r.Stdout), nil
}

// secured starts two hosts and has the program secure them.
func secured(ctx context.Context, l *lab.Lab) ([]*lab.Host, error) {
	hosts, err := l.Start(ctx, lab.HostSpec{}, lab.HostSpec{})
	if err != nil {
		return nil, err
	}
	// Post-copy needs userfaultfd, which an unprivileged QEMU may not have.
	for _, h := range hosts {
		if _, err := out(ctx, h, `printf 'user = "root"\nclear_emulator_capabilities = 0\n' >>/etc/libvirt/qemu.conf`); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "converge")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "virtrust")
	if text, err := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", binary, "./cmd/virtrust").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building virtrust (run this in the repository's root): %w: %s", err, text)
	}
	inventory := fmt.Sprintf("ssh {\n  known_hosts = %q\n  identity = [%q]\n}\ncluster \"rack1\" {\n  policy = policy.standard\n  migration = \"available\"\n}\n", l.KnownHosts(), l.IdentityFile())
	for _, h := range hosts {
		inventory += fmt.Sprintf("host %q {\n  address = %q\n  cluster = cluster.rack1\n}\n", h.Name, h.FQDN)
	}
	policy := "policy \"standard\" {\n  template = \"libvirt\"\n}\n"
	for _, a := range []string{"libvirt", "qemu"} {
		policy += fmt.Sprintf("authority %q {\n  organization = \"Example\"\n  passphrase_from = \"file:pass\"\n}\n", a)
	}
	for name, text := range map[string]string{"inventory.hcl": inventory, "policy.hcl": policy, "pass": "only for this measurement\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	for _, args := range [][]string{{"ca", "init"}, {"apply", "--yes"}} {
		cmd := l.Command(ctx, binary, append([]string{"-C", dir}, args...)...)
		var text bytes.Buffer
		cmd.Stdout, cmd.Stderr = &text, &text
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("virtrust %s: %w: %s", strings.Join(args, " "), err, text.String())
		}
		log.Info("done", "command", "virtrust "+strings.Join(args, " "))
	}
	return hosts, nil
}
