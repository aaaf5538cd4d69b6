package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

const wholePolicy = `authority "libvirt" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

authority "qemu" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

policy "standard" {
  template = "libvirt"

  rollout {
    canary   = 1
    batch    = "100%"
    restarts = 10
  }
}
`

// whole measures hosts with systemd, libvirt and a firewall, and where a look
// spends its time on them.
func (b *bench) whole(ctx context.Context, n int) (err error) {
	s, end, err := b.inLab(ctx, "whole", wholePolicy, "  migration = \"available\"\n", slices.Repeat([]lab.HostSpec{{Firewall: lab.FirewallFirewalld}}, n))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	fmt.Printf("\n### %d whole hosts, the whole policy\n", s.hosts)
	if err := s.compare(ctx, "certificate.libvirt-server,certificate.libvirt-client,certificate.qemu"); err != nil {
		return err
	}
	return s.onTheHost(ctx, s.lab.Hosts()[0])
}

// look is the script that asks a host of the site everything.
func (s *site) look() ([]byte, error) {
	inv, diags := inventory.Load(s.dir, inventory.Options{})
	if diags.HasErrors() {
		return nil, errors.New("the configuration has errors")
	}
	var trust pki.Trust
	for _, a := range inv.Authorities {
		p, err := authority.Read(a.Name, a.Directory)
		if err != nil {
			return nil, err
		}
		trust.Authorities = append(trust.Authorities, p)
	}
	all, err := tasks.For(&inv.Hosts[0], trust, tasks.Options{Hosts: inv.Hosts})
	if err != nil {
		return nil, err
	}
	return facts.Script(remote.Nonce(), plan.Queries(all))
}

// onTheHost tells which programs a look waits for on a host: bash tells the
// time before each command, and the one before it took what lies between.
func (s *site) onTheHost(ctx context.Context, h *lab.Host) error {
	script, err := s.look()
	if err != nil {
		return err
	}
	const file = "/root/look.sh"
	if err := h.WriteFile(ctx, file, script, 0o600); err != nil {
		return err
	}
	const rounds = 20
	// Bash takes no PS4 from the environment where it runs as root.
	r, err := h.Script(ctx, fmt.Sprintf(`for i in $(seq %d); do bash -c 'PS4="+ \$EPOCHREALTIME "; BASH_XTRACEFD=7; set -x; . %s' 7>>/root/trace >/dev/null 2>&1; echo '+ end' >>/root/trace; done
cat /root/trace; rm -f /root/trace %[2]s`, rounds, file))
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return err
	}
	spent := map[string]float64{}
	last, name, total := 0.0, "", 0.0
	for lines := bufio.NewScanner(strings.NewReader(r.Stdout)); lines.Scan(); {
		f := strings.Fields(strings.TrimLeft(lines.Text(), "+"))
		if !strings.HasPrefix(lines.Text(), "+") || len(f) < 1 {
			continue
		}
		if f[0] == "end" {
			last = 0
			continue
		}
		at, err := strconv.ParseFloat(f[0], 64)
		if err != nil || len(f) < 2 {
			continue
		}
		if last > 0 {
			spent[name] += at - last
			total += at - last
		}
		last, name = at, "the shell itself"
		if slices.Contains(programs, f[1]) {
			name = f[1]
		}
	}
	var names []string
	for n := range spent {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int { return int(1e6 * (spent[b] - spent[a])) })
	fmt.Printf("A look on one host that does nothing else takes %.0f ms (bash tracing, mean of %d):\n\n| program | ms | share |\n|---|---|---|\n", total/rounds*1e3, rounds)
	for _, n := range names {
		fmt.Printf("| %s | %.1f | %.0f %% |\n", n, spent[n]/rounds*1e3, 100*spent[n]/total)
	}
	fmt.Println()
	return nil
}

var programs = []string{"date", "id", "grep", "dpkg-query", "rpm", "ss", "ip", "stat", "readlink", "systemctl", "tr", "head", "busctl", "nft",
	"iptables-save", "ip6tables-save", "cat", "openssl", "certtool", "sed", "busybox"}

// swarmDir is where the hosts of a swarm live.
func (b *bench) swarmDir() string { return filepath.Join(b.dir, "hosts") }
