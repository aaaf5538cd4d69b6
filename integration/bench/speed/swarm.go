package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/virtrust/virtrust/integration/bench/swarm"
)

const oneWay = 10 * time.Millisecond

// swarm measures many hosts that are far away and answer at once.
func (b *bench) swarm(ctx context.Context, n, renewed int) (err error) {
	if err := os.Mkdir(b.swarmDir(), 0o700); err != nil {
		return err
	}
	w, err := swarm.New(b.swarmDir(), swarm.Config{Hosts: n, OneWay: oneWay, Hang: max(1, n/100)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	s := &site{bench: b, dir: filepath.Join(b.dir, "swarm"), hosts: n, prefix: exec.CommandContext}
	if err := s.write(map[string]string{"inventory.hcl": w.Inventory(), "policy.hcl": filesOnly}); err != nil {
		return err
	}
	if _, err := s.virtrust(ctx, "", nil, "ca", "init"); err != nil {
		return err
	}
	fmt.Printf("\n### %d hosts in one process, 20 ms away, files only\n", n)
	everything, err := s.virtrust(ctx, "apply of everything", nil, "apply", "--yes")
	if err != nil {
		return err
	}
	// The first look of each host is answered by its shell.
	if _, err := s.virtrust(ctx, "", nil, "plan", "--detailed-exitcode"); err != nil {
		return err
	}
	w.Replay(true)
	fanout := func(what string, codes ...int) (sample, error) {
		return s.time(ctx, what, "speed fanout", strings.Join(w.Addresses(), "\n"), codes, s.self, "fanout", "-identity", w.Identity(), "-known-hosts", w.KnownHosts())
	}
	bare := func() (sample, error) { return fanout("a bare handshake", 0) }
	var counts swarm.Counts
	still, err := median(b.repeat, bare, func() (sample, error) {
		w.Counts()
		r, err := s.virtrust(ctx, "plan with nothing to do", nil, "plan", "--detailed-exitcode")
		counts = w.Counts()
		if err == nil && (counts.Scripts > 0 || !strings.Contains(r.out, "Nothing to do")) {
			err = fmt.Errorf("%d scripts ran:\n%s", counts.Scripts, r.out)
		}
		return r, err
	})
	if err != nil {
		return err
	}
	// Not measured: every step is logged.
	told, err := s.virtrust(ctx, "", nil, "plan", "--verbose", "--limit", "node?,node1?")
	if err != nil {
		return err
	}
	w.Hanging(true)
	hang := fmt.Sprintf(", %d hosts hang", max(1, n/100))
	hanging, err := s.virtrust(ctx, "plan"+hang, []int{3}, "plan")
	if err != nil {
		return err
	}
	bareHanging, err := fanout("a bare handshake"+hang, 1)
	if err != nil {
		return err
	}
	w.Hanging(false)
	w.Replay(false)
	limit := filepath.Join(s.dir, "renewed")
	var names strings.Builder
	for i := range renewed {
		fmt.Fprintf(&names, "node%d\n", i+1)
	}
	if err := os.WriteFile(limit, []byte(names.String()), 0o600); err != nil {
		return err
	}
	const replace = "certificate.libvirt-server,certificate.libvirt-client"
	renewal, err := s.virtrust(ctx, fmt.Sprintf("renewal, %d hosts", renewed), nil, "apply", "--yes", "--replace", replace, "--limit", "@"+limit)
	if err != nil {
		return err
	}
	one, err := s.virtrust(ctx, "renewal, 1 host", nil, "apply", "--yes", "--replace", replace, "--limit", "node1")
	if err != nil {
		return err
	}
	for _, r := range []*sample{&renewal, &one} {
		r.command = strings.ReplaceAll(r.command, "@"+limit, "@FILE")
	}
	table(still[:1], slices.Concat(still[1:], []sample{hanging, everything, renewal, one}, still[:1], []sample{bareHanging}))
	fmt.Printf("A plan costs a host %s round trips without TCP's own, %.1f channels, %d bytes to it and %d from it. ",
		trips(told.errs), per(counts.Channels, n), counts.Received/int64(n), counts.Sent/int64(n))
	fmt.Printf("Of a renewal's memory, opening the CA key takes what is the peak for one host.\n\n")
	return nil
}

func per(total int64, hosts int) float64 { return float64(total) / float64(hosts) }

var tripsOf = regexp.MustCompile(`round_trips=(\d+)`)

// trips is the median of the round trips that a log tells, TCP's own taken off.
func trips(log string) string {
	var all []int
	for _, m := range tripsOf.FindAllStringSubmatch(log, -1) {
		n, _ := strconv.Atoi(m[1])
		all = append(all, n-1)
	}
	if len(all) == 0 {
		return "an unknown number of"
	}
	slices.Sort(all)
	return strconv.Itoa(all[len(all)/2])
}
