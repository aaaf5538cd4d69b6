package faults

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/plan"
)

// recovery is how a host comes back after its run has died.
type recovery string

const (
	byTimer   recovery = "the timer, brought forward"
	byWaiting recovery = "the timer, waited for"
	byNextRun recovery = "the next run"
)

// trial is one faulted run.
type trial struct {
	scenario scenario
	fault    fault
	recovery recovery
	// canAsk says that the host can be asked at the end of the run: then
	// "unknown" is no answer.
	canAsk bool
	before func(s *site)      // the fault begins before the run
	early  func(s *site)      // the fault begins before the operation passes
	after  func(s *site)      // takes the fault away
	struck func(s *site) bool // nil: the proxy knows
	ignore []string           // paths that the fault itself changes
	args   []string
	watch  []string // for the observer, on top
}

// finding is one violation.
type finding struct{ class, text string }

// outcome is what came of a trial.
type outcome struct {
	trial
	site     string
	struck   bool
	result   result
	beside   []result // of other runs at the same time
	findings []finding
	seen     watched
	records  string // journal after the fault
	detail   string
}

func (o *outcome) violate(class, format string, args ...any) {
	o.findings = append(o.findings, finding{class, fmt.Sprintf(format, args...)})
}

// standing is what a host's own records say.
type standing struct{ journal, run, armed string }

func (s *site) standing() standing {
	out := s.must(`readlink /var/lib/virtrust/journal || echo none; cat /var/lib/virtrust/armed 2>/dev/null || echo none; cat /var/lib/virtrust/journal 2>/dev/null || :`)
	f := strings.SplitN(out, "\n", 3)
	if len(f) < 3 {
		return standing{}
	}
	st := standing{run: f[0], armed: f[1], journal: f[2]}
	if st.armed == "none" {
		st.armed = ""
	}
	return st
}

func (st standing) says(what string) bool { return strings.Contains("\n"+st.journal, "\n"+what+" ") }

// settle waits until no script of virtrust runs on the host.
// A command that sshd has read may start a moment later.
const settleScript = "wait=90" + settleWaiting

// settleFrozen does not wait for a script whose other half a stopped virtrust
// still has: it waits for that, holds no lock and changes nothing.
const settleFrozen = "wait=8" + settleWaiting

const settleWaiting = `
sleep 0.3
end=$(($(date +%s) + wait))
while pgrep -fx '/bin/sh -s|/bin/sh /var/lib/virtrust/revert.sh .*' >/dev/null && [ $(date +%s) -lt $end ]; do sleep 0.1; done
if [ -e /run/virtrust/lock ]; then flock -w 60 /run/virtrust/lock true; fi
`

// expire lets the time of a dead run's lease pass.
const expireScript = `if [ -f /run/virtrust/lease ]; then sed -i 's/^expires .*/expires 0/' /run/virtrust/lease; fi`

// timerScript brings the timers of reverters forward, and says which there were.
const timerScript = `for t in $(systemctl list-units --plain --no-legend 'virtrust-revert-*.timer' | cut -d' ' -f1); do echo $t; systemctl start --wait ${t%.timer}.service || :; systemctl stop $t || :; done`

func differences(a, b map[string]string, ignore ...string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if b[k] != a[k] && !slices.Contains(ignore, k) {
			out = append(out, fmt.Sprintf("%s: was %q, is %q", k, a[k], b[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[k]; !ok {
			out = append(out, fmt.Sprintf("%s: was not there, is %q", k, b[k]))
		}
	}
	return strings.Join(out, "; ")
}

// try runs one trial to the end: fault, judgement, recovery, convergence.
func (s *site) try(tr trial) *outcome {
	o := &outcome{trial: tr, site: s.host.Name}
	s.proxy.reset(fault{})
	tr.scenario.prepare(s)
	was, stood := s.snapshot(), s.standing()
	var ready bool
	opts := tr.watch
	if tr.scenario.fresh {
		opts = append(opts, "fresh")
	}
	if tr.scenario.restart {
		opts = append(opts, "restart")
	}
	s.ask(&ready, "watch", opts...)
	watched := s.knocks.begin()
	if tr.before != nil {
		tr.before(s)
	}
	f := tr.fault
	if tr.early != nil {
		f.early = func() { tr.early(s) }
	}
	started := make(chan *child, 1)
	signal := func(sig syscall.Signal, times int) func() {
		return func() {
			c := <-started
			started <- c
			for i := range times {
				if i > 0 {
					time.Sleep(30 * time.Millisecond)
				}
				_ = c.cmd.Process.Signal(sig)
			}
		}
	}
	var there sync.WaitGroup
	switch f.kind {
	case killThere:
		there.Go(func() { s.onceArmed(stood, signal(syscall.SIGKILL, 1)) })
	case killBefore, killAfter:
		f.hit = signal(syscall.SIGKILL, 1)
	case interrupt1:
		f.hit = signal(syscall.SIGINT, 1)
	case interrupt2:
		f.hit = signal(syscall.SIGINT, 2)
	case terminate1:
		f.hit = signal(syscall.SIGTERM, 1)
	case terminate2:
		f.hit = signal(syscall.SIGTERM, 2)
	}
	s.proxy.reset(f)
	args := tr.args
	if args == nil {
		// On a busy machine the shortest window is short for a whole switch.
		args = applyArgs("30s")
		if tr.recovery == byWaiting {
			args = applyArgs("15s")
		}
	}
	c := s.start(programLimit, args...)
	started <- c
	o.result = c.wait()
	there.Wait()
	if tr.struck != nil {
		o.struck = tr.struck(s)
	} else {
		o.struck, _, _, _ = s.proxy.state()
	}
	if o.result.took >= programLimit {
		o.violate("deadline", "virtrust did not end within %s", programLimit)
	}
	s.must(settleScript)
	o.records = s.must("cat /var/lib/virtrust/journal 2>/dev/null || :")
	s.judge(o, was, stood)
	if tr.after != nil {
		tr.after(s)
	}
	s.recover(o, was, stood)
	s.proxy.reset(fault{})
	s.converge(o)
	s.ask(&o.seen, "stop")
	for _, v := range o.seen.Violations {
		o.violate(v.Observer, "%.2f s: %s", v.At, v.Text)
	}
	for _, r := range s.knocks.since(watched) {
		o.violate("O5", "SSH did not open: %s", r)
	}
	if o.seen.Samples == 0 || o.seen.Opens == 0 || s.host.Firewall != lab.FirewallOff && o.seen.Walls < 2 {
		o.violate("observer", "the observers saw nothing: %+v", o.seen)
	}
	if len(o.findings) > 0 {
		o.detail = s.must("cat /var/lib/virtrust/journal 2>/dev/null || :; systemctl show libvirtd -p NRestarts,MainPID,ActiveEnterTimestamp,Result; journalctl -q --no-pager -o short-precise -n 400 -u libvirtd -u 'virtrust-revert*' | grep -v -e 'verify peer' -e 'verify TLS peer' -e 'Certificate check failed' | tail -n 25; date")
	}
	return o
}

// onceArmed lets something happen while the next run switches: the script ends
// on the host, and nobody confirms it. (After its end the confirmation is quicker
// than who looks from outside.)
func (s *site) onceArmed(stood standing, happen func()) {
	r, err := s.host.Script(s.t.Context(), `i=0; while [ "$(readlink /var/lib/virtrust/journal)" = "`+stood.run+`" ] || ! grep -qs '^armed' /var/lib/virtrust/journal; do
		[ $i -lt 2000 ] || exit 1; i=$((i+1)); sleep 0.02; done`)
	if err == nil && r.Err() == nil {
		happen()
	}
}

// judge compares what virtrust says with what is true (O4).
func (s *site) judge(o *outcome, was map[string]string, stood standing) {
	h := o.result.host()
	if h == nil {
		if o.result.code == 0 || o.result.code == 2 {
			o.violate("O4", "exit %d without a report: %s", o.result.code, o.result.stderr)
		}
		return
	}
	now, st := s.snapshot(), s.standing()
	moved := differences(was, now, o.ignore...)
	mine := strings.Contains(st.run, o.result.report.Run)
	switch h.Result {
	case plan.Changed:
		switch {
		case !mine || !st.says("committed at"):
			o.violate("O4", "%q, and the journal of this run is not committed: %+v", h.Result, st)
		case st.armed != "":
			o.violate("O4", "%q, and the reverter is armed: %s", h.Result, st.armed)
		case moved == "":
			o.violate("O4", "%q, and nothing differs from before", h.Result)
		}
	case plan.Failed, plan.Held, plan.Unchanged, plan.WasReset:
		if moved != "" {
			o.violate("O4", "%q, and this differs from before: %s", h.Result, moved)
		}
		if mine && st.says("committed at") {
			o.violate("O4", "%q, and the journal is committed", h.Result)
		}
		if h.Result != plan.WasReset && mine && st.says("armed") && !st.says("reverted at") {
			o.violate("O4", "%q, and the journal says that it was switched: %s", h.Result, st.journal)
		}
		if st.armed != "" && st.armed != stood.armed {
			o.violate("O4", "%q, and the reverter is armed", h.Result)
		}
	case plan.Unknown:
		// A reverter that says why it cannot finish is an answer, too.
		if o.canAsk && !(st.armed != "" && st.says("reverting for run at")) {
			o.violate("O4", "unknown, although the host could be asked: %s", o.result)
		}
	default:
		o.violate("O4", "no such result: %q", h.Result)
	}
}

// recover lets the host come back from a run that has died.
func (s *site) recover(o *outcome, was map[string]string, stood standing) {
	h := o.result.host()
	if h != nil && h.Result != plan.Unknown {
		return
	}
	st := s.standing()
	committed := st.run != stood.run && st.says("committed at")
	how := o.recovery
	switch {
	case committed || how == byNextRun && st.armed != "":
		return
	case st.armed == "":
	case how == byTimer:
		out := s.must(timerScript)
		if now := s.standing(); out == "" && now.armed != "" {
			if !now.says("reverting for timer at") {
				o.violate("reverter", "a run has died after the switch, and no timer runs")
			}
			return // the timer came while the fault was there: the next run has to bring it to its end
		}
		s.must(settleScript)
	default:
		s.must(`i=0; while [ -e /var/lib/virtrust/armed ] && [ $i -lt 450 ]; do sleep 0.1; i=$((i+1)); done`)
		s.must(settleScript)
	}
	if end := s.standing(); end.run != stood.run && end.says("committed at") {
		return
	}
	if moved := differences(was, s.snapshot()); moved != "" {
		o.violate("reverter", "after %s this differs from before: %s", how, moved)
	}
}

// converge has the same command run again, once the fault is gone.
func (s *site) converge(o *outcome) {
	h := o.result.host()
	if h == nil || h.Result == plan.Unknown {
		s.must(expireScript)
	}
	r := s.apply()
	if r.code == 5 && h == nil && !strings.Contains(r.String(), "cannot finish") {
		// The dead run's last script began after the look for it.
		s.must(settleScript)
		s.must(expireScript)
		r = s.apply()
	}
	if r.code != 0 {
		o.violate("convergence", "apply: %s\n%s\n%s", r, r.stderr, s.must("tail -n 12 /var/lib/virtrust/journal 2>/dev/null || :"))
		s.must(expireScript)
		if again := s.apply(); again.code != 0 {
			o.violate("convergence", "apply once more: %s\n%s", again, again.stderr)
		}
	}
	if p := s.run(programLimit, "plan", "--detailed-exitcode"); p.code != 0 {
		o.violate("convergence", "plan afterwards: exit %d\n%s%s", p.code, p.stdout, p.stderr)
	}
	if left := s.leftovers(); len(left) > 0 {
		o.violate("leftovers", "%s", strings.Join(left, "; "))
	}
	if wrong := s.wall(); wrong != "" {
		o.violate("convergence", "%s", wrong)
	}
	s.round++
}
