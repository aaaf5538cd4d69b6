package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/virtrust/virtrust/plan"
)

// note puts an event that is no sweep into the table.
func note(t testing.TB, s *site, sc scenario, kind string, n int, results []result, findings ...string) {
	t.Helper()
	o := &outcome{trial: trial{scenario: sc, fault: fault{kind: kind, n: n}}, site: s.host.Name, struck: true, result: results[0], beside: results[1:]}
	for _, f := range findings {
		o.violate("O4", "%s", f)
	}
	record(t, o)
}

func (s *site) fence() int {
	n, _ := strconv.Atoi(strings.TrimSpace(s.must(`sed -n 's/^fence //p' /run/virtrust/lease 2>/dev/null || :`)))
	return n
}

// settledState says what is wrong with a host on which nothing is at work.
func (s *site) settledState() []string {
	var out []string
	if r := s.apply(); r.code != 0 {
		out = append(out, "apply afterwards: "+r.String()+"\n"+r.stderr)
	}
	if p := s.run(programLimit, "plan", "--detailed-exitcode"); p.code != 0 {
		out = append(out, "plan afterwards: "+p.stdout+p.stderr)
	}
	if left := s.leftovers(); len(left) > 0 {
		out = append(out, "left: "+strings.Join(left, "; "))
	}
	return out
}

// TestReboot takes the host down between switch and confirmation.
func TestReboot(t *testing.T) {
	t.Parallel()
	const kind = "host goes down between switch and confirmation"
	s := alone(t)
	list := []scenario{renewal, onboarding, settings, adoption, firewall}
	rounds := 2
	if !full {
		list, rounds = list[:1], 1
	}
	for _, sc := range list {
		done := 0
		for n := 1; n <= 5 && done < rounds; n++ {
			s.proxy.reset(fault{})
			sc.prepare(s)
			was, stood := s.snapshot(), s.standing()
			c := s.start(programLimit, applyArgs("2m")...)
			var there sync.WaitGroup
			there.Go(func() { s.onceArmed(stood, func() { _ = c.cmd.Process.Kill() }) })
			killed := c.wait()
			there.Wait()
			s.must(settleScript)
			st := s.standing()
			if st.armed == "" || st.run == stood.run {
				s.must(expireScript)
				if bad := s.settledState(); len(bad) > 0 {
					note(t, s, sc, kind+" (not switched)", n, []result{killed}, bad...)
				}
				continue
			}
			done++
			var bad []string
			var err error
			// A process from outside would keep the host from going down.
			s.stop()
			s.stop = nil
			if done%2 == 0 {
				if err = s.host.Kill(t.Context()); err == nil {
					err = s.host.Start(t.Context())
				}
			} else {
				err = s.host.Reboot(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			s.observe()
			end := s.standing()
			if end.armed != "" || !end.says("reverting for boot at") || !end.says("reverted at") {
				bad = append(bad, fmt.Sprintf("the boot did not revert: %+v", end))
			}
			now := s.snapshot()
			if moved := differences(was, now); moved != "" {
				bad = append(bad, "differs from before: "+moved)
			}
			order := strings.Fields(s.must(`for u in virtrust-revert.service libvirtd.socket libvirtd.service libvirtd-tls.socket; do systemctl show -p InactiveExitTimestampMonotonic --value $u; done; systemctl show -p ActiveEnterTimestampMonotonic,InactiveEnterTimestampMonotonic,ExecMainExitTimestampMonotonic --value virtrust-revert.service | sort -n | tail -n 1`))
			if len(order) == 5 {
				ended, _ := strconv.ParseInt(order[4], 10, 64)
				for i, unit := range []string{"", "libvirtd.socket", "libvirtd.service", "libvirtd-tls.socket"} {
					if began, _ := strconv.ParseInt(order[i], 10, 64); i > 0 && began > 0 && began < ended {
						bad = append(bad, fmt.Sprintf("%s was started %d us before the reverter had ended", unit, ended-began))
					}
				}
			} else {
				bad = append(bad, fmt.Sprintf("the boot's order is not known: %q", order))
			}
			bad = append(bad, s.settledState()...)
			note(t, s, sc, kind, n, []result{killed}, bad...)
		}
		if done < rounds {
			t.Errorf("%s: no run was caught between switch and confirmation", sc.name)
		}
	}
}

// TestTwoRuns starts two runs at once: exactly one writes.
func TestTwoRuns(t *testing.T) {
	t.Parallel()
	const kind = "two runs at once"
	s := alone(t)
	rounds := 12
	if !full {
		rounds = 2
	}
	for i := range rounds {
		sc := []scenario{renewal, settings, firewall}[i%3]
		sc.prepare(s)
		before := s.fence()
		a := s.start(programLimit, applyArgs("1m")...)
		time.Sleep(time.Duration(i%10) * 60 * time.Millisecond)
		b := s.start(programLimit, applyArgs("1m")...)
		var bad []string
		changed := 0
		var results [2]result
		results[0], results[1] = a.wait(), b.wait()
		for _, r := range results {
			h := r.host()
			switch {
			case h == nil && r.code == 5 && strings.Contains(r.stderr, "another virtrust on this machine holds the ledger"):
				// The other's writes were slow to reach the disk.
			case h == nil:
				bad = append(bad, "no report: "+r.String()+r.stderr)
			case h.Result == plan.Changed:
				changed++
			case h.Result == plan.Held && h.Failure != nil && h.Failure.Class == "lock":
				// While the other's script waits for a daemon there is no more to say.
				busy := strings.Contains(h.Failure.Text, "another script holds")
				if r.code != 5 || !busy && (!strings.Contains(h.Failure.Text, "@") || !strings.Contains(h.Failure.Hint, "unlock")) {
					bad = append(bad, "the second is not told who holds the lock: "+r.String())
				}
			case h.Result == plan.Held, h.Result == plan.Unchanged:
			default:
				bad = append(bad, "unexpected: "+r.String())
			}
		}
		if changed != 1 {
			bad = append(bad, fmt.Sprintf("%d runs changed the host: %s; %s", changed, results[0], results[1]))
		}
		if after := s.fence(); after <= before {
			bad = append(bad, fmt.Sprintf("the fence did not grow: %d, then %d", before, after))
		}
		bad = append(bad, s.settledState()...)
		s.round++
		note(t, s, sc, kind, i, results[:], bad...)
	}
}

// TestFrozen stops a run for longer than its lease, lets another run finish,
// and wakes the first: it must write nothing.
func TestFrozen(t *testing.T) {
	t.Parallel()
	s := alone(t)
	sizes := measure(t, s, []scenario{renewal})
	first, step := 12, 4
	if !full {
		// One moment, in the middle of the host's transaction.
		first, step = sizes["renewal"].chunks*3/5, sizes["renewal"].chunks
	}
	for n := first; n < sizes["renewal"].chunks+2; n += step {
		for _, other := range []string{"done", "staging"} {
			s.proxy.reset(fault{})
			renewal.prepare(s)
			stood := s.standing()
			begun := make(chan *child, 1)
			stopped := make(chan bool, 1)
			s.proxy.reset(fault{kind: freeze, n: n, hit: func() {
				c := <-begun
				begun <- c
				_ = c.cmd.Process.Signal(syscall.SIGSTOP)
				stopped <- true
			}})
			c := s.start(programLimit, applyArgs("15s")...)
			begun <- c
			over := make(chan result, 1)
			go func() { over <- c.wait() }()
			select {
			case <-stopped:
			case r := <-over:
				t.Logf("n=%d: not frozen: %s", n, r)
				s.round++
				continue
			}
			s.must(settleFrozen)
			// Before that it has promised nothing: woken it looks and plans as any
			// run that begins now.
			leased := strings.Contains(s.must("cat /run/virtrust/lease"), "run ")
			// Time passes: the reverter acts, the lease ends.
			s.must(timerScript)
			s.must(expireScript)
			committed := s.standing()
			already := committed.run != stood.run && committed.says("committed at")
			var bad []string
			var was map[string]string
			if other == "done" || already {
				r := s.apply()
				if r.code == 5 && strings.Contains(r.stderr, "ledger") {
					// Frozen in the middle of a transaction of the ledger:
					// the second run is told so and has touched no host.
					t.Logf("n=%d: frozen with the ledger: %s", n, r.stderr)
				} else if r.code != 0 {
					bad = append(bad, "the second run: "+r.String()+r.stderr)
				}
				was = s.snapshot()
			} else {
				// The second run stands between staging and switch while the first wakes.
				s.must(`umask 077; mkdir -p /run/virtrust /var/lib/virtrust /etc/pki/libvirt/.virtrust/server/.virtrust-other
f=$(sed -n 's/^fence //p' /run/virtrust/lease); b=$(cat /proc/sys/kernel/random/boot_id)
printf 'owner other@test\nrun other\nboot %s\nexpires 999999999\nfence %d\n' "$b" $((f+1)) >/run/virtrust/lease
rm -f /var/lib/virtrust/staging; echo 'other /etc/pki/libvirt/.virtrust/server/.virtrust-other' >/var/lib/virtrust/staging
mkdir -p /var/lib/virtrust/run-other`)
				was = s.snapshot()
			}
			_ = c.cmd.Process.Signal(syscall.SIGCONT)
			r := <-over
			s.must(settleScript)
			if moved := differences(was, s.snapshot()); moved != "" && leased {
				bad = append(bad, "the woken run wrote: "+moved)
			}
			if h := r.host(); h != nil && h.Result == plan.Changed && !already && leased {
				bad = append(bad, "the woken run says: "+r.String())
			}
			if other == "staging" && !already {
				if out := s.must(`cat /var/lib/virtrust/staging; ls -d /var/lib/virtrust/run-other /etc/pki/libvirt/.virtrust/server/.virtrust-other; cat /run/virtrust/lease`); strings.Count(out, "other") < 5 {
					bad = append(bad, "the woken run took away what the other run had: "+out)
				}
				s.must(expireScript)
			}
			bad = append(bad, s.settledState()...)
			s.round++
			note(t, s, renewal, freeze+", other run "+other, n, []result{r}, bad...)
		}
	}
}

// TestStale changes a host between plan and apply.
func TestStale(t *testing.T) {
	t.Parallel()
	s := alone(t)
	s.onboarded()
	cases := []struct {
		name, make, undo string
		scenario         scenario
		codes            []int
	}{
		{"content", "echo '# other' >>" + conf, "", settings, []int{4}},
		{"mode", "chmod 0600 " + conf, "chmod 0644 " + conf, settings, []int{4}},
		{"owner", "chown nobody " + conf, "chown root " + conf, settings, []int{4}},
		{"file becomes a link", "mv " + conf + " /var/tmp/kept; ln -s /var/tmp/kept " + conf, "mv -T /var/tmp/kept " + conf, settings, []int{4}},
		{"link", "ln -sfn x /etc/pki/libvirt/.virtrust/server/current.t; mv -T /etc/pki/libvirt/.virtrust/server/current /var/tmp/current; mv -T /etc/pki/libvirt/.virtrust/server/current.t /etc/pki/libvirt/.virtrust/server/current",
			"mv -T /var/tmp/current /etc/pki/libvirt/.virtrust/server/current", renewal, []int{4}},
		{"added file", "h=$(ls /etc/pki/libvirt/.virtrust/server | grep -x '[0-9]*' | sort -n | tail -n 1); mkdir /etc/pki/libvirt/.virtrust/server/$((h+1))", "h=$(ls /etc/pki/libvirt/.virtrust/server | grep -x '[0-9]*' | sort -n | tail -n 1); rmdir /etc/pki/libvirt/.virtrust/server/$h", renewal, []int{3, 4}},
		{"machine id", "cp /etc/machine-id /var/tmp/id; tr 0-9a-f 1-9a-f0 </var/tmp/id >/etc/machine-id", "cat /var/tmp/id >/etc/machine-id", renewal, []int{3, 4}},
		{"host key", "mkdir -p /var/tmp/keys; cp -a /etc/ssh/ssh_host_ed25519_key* /var/tmp/keys; rm /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh",
			"cp -a /var/tmp/keys/* /etc/ssh/; systemctl restart ssh", renewal, []int{3, 4}},
	}
	for i, c := range cases {
		c.scenario.prepare(s)
		file := filepath.Join(s.dir, fmt.Sprintf("plan%d", i))
		if r := s.run(programLimit, "plan", "--out", file); r.code != 0 {
			t.Fatalf("plan: %s %s", r, r.stderr)
		}
		s.must(c.make)
		was := s.snapshot()
		r := s.run(programLimit, "apply", "--json", file)
		var bad []string
		ok := false
		for _, code := range c.codes {
			ok = ok || r.code == code
		}
		if !ok {
			bad = append(bad, fmt.Sprintf("want exit %v: %s\n%s", c.codes, r, r.stderr))
		}
		if moved := differences(was, s.snapshot()); moved != "" {
			bad = append(bad, "it was changed all the same: "+moved)
		}
		if c.undo != "" {
			s.must(c.undo)
		}
		bad = append(bad, s.settledState()...)
		os.Remove(file)
		note(t, s, c.scenario, "changed between plan and apply: "+c.name, i, []result{r}, bad...)
	}
}
