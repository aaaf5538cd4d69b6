package remote

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

const (
	endLimit = 200 * time.Second // the reverter may wait for a daemon
	// waitForSwitch is longer than a switch with a daemon that hangs.
	waitForSwitch = 120 * time.Second
	reconnectFor  = 60 * time.Second
)

// End commits or reverts and gives the lease back. When the connection was
// lost it connects anew and believes the host's journal, never an assumption.
func (s *Session) End(ctx context.Context, commit bool) (plan.Outcome, error) {
	if s.fence == 0 {
		if s.asked {
			// The lease may be ours all the same. Whether it can be given back
			// changes nothing: the host is as it was.
			_, _ = s.endAgain(ctx, false)
		}
		return plan.Untouched, nil
	}
	return s.endAgain(ctx, commit)
}

// endAgain ends the transaction, over new connections if need be.
func (s *Session) endAgain(ctx context.Context, commit bool) (plan.Outcome, error) {
	out, err := s.endOnce(ctx, commit)
	for deadline := time.Now().Add(reconnectFor); err != nil && lost(err) && time.Now().Before(deadline) && ctx.Err() == nil; {
		if again := s.reconnect(ctx); again != nil {
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second):
			}
			continue
		}
		out, err = s.endOnce(ctx, commit)
	}
	if err != nil && out == "" {
		out = plan.Uncertain
	}
	return out, err
}

func lost(err error) bool {
	switch ClassOf(err) {
	case ClassLost, ClassUnknown, ClassTimeout, ClassProtocol, ClassInterrupted:
		return true
	}
	return false
}

func (s *Session) reconnect(ctx context.Context) error {
	c, err := s.dialer.Connect(ctx, s.end)
	if err != nil {
		return err
	}
	s.mu.Lock()
	old := s.conn
	s.conn = c
	s.mu.Unlock()
	_ = old.Close()
	return nil
}

func (s *Session) endOnce(ctx context.Context, commit bool) (plan.Outcome, error) {
	nonce := Nonce()
	var b strings.Builder
	// A switch that we gave up may still run: it is waited for.
	fmt.Fprintf(&b, "W=%d\n", int(waitForSwitch.Seconds()))
	b.WriteString(s.head(nonce))
	b.WriteString(endScript)
	q := facts.Quote
	dirs := ""
	if s.staged != nil {
		for _, d := range s.staged.dirs {
			dirs += " " + q(d)
		}
	}
	timer := facts.Quote("virtrust-revert-" + s.cfg.Run + ".timer")
	if commit {
		// A lease that moved on means that the reverter or another run acted:
		// the journal says which.
		fmt.Fprintf(&b, `if [ "$(state)" = armed ]; then
	ours
	journal "committed at $(date +%%s)" || die failed "cannot write $D/journal" 20
	durable "$D/journal"
	rm -f "$S/armed"
	durable "$S"
	[ ! -d /run/systemd/system ] || systemctl stop %s >/dev/null 2>&1 </dev/null
`, timer)
		if s.changesFirewall() {
			b.WriteString("\tkeep_ports\n")
		}
		for _, o := range s.ops {
			switch o := o.(type) {
			case plan.Enrol:
				fmt.Fprintf(&b, "\tprune %s\n", q(o.Tree))
				if o.Profile.Foreign {
					fmt.Fprintf(&b, "\trm -rf -- \"$S\"/waiting/%s\n", q(o.Certificate))
				}
			case plan.Activate:
				for _, l := range o.Loads {
					fmt.Fprintf(&b, "\tloaded %s %s %s\n", q(o.Unit), q(l.Item), q(l.Digest))
				}
			}
		}
		b.WriteString("\tkeep_loaded\nfi\n")
	} else {
		fmt.Fprintf(&b, `if [ "$(state)" = armed ]; then
	exec 9>&-
	/bin/sh "$S/revert.sh" run </dev/null >/dev/null 2>&1 || { say state '' pending; exit 0; }
fi
[ ! -d /run/systemd/system ] || systemctl stop %s >/dev/null 2>&1 </dev/null
`, timer)
	}
	fmt.Fprintf(&b, "r=$(state)\nsweep%s\nunlease\nsay state '' \"$r\"\n", dirs)
	a, err := s.run(ctx, "ending", endLimit, nonce, whole(b.String()))
	if err != nil {
		return "", err
	}
	if f, ok := a.get("notkept"); ok {
		s.NotKept = clean(string(f.Data), 240)
	}
	f, _ := a.get("state")
	switch string(f.Data) {
	case "committed":
		return plan.Committed, nil
	case "reverted":
		return plan.Reverted, nil
	case "untouched":
		return plan.Untouched, nil
	case "pending":
		return plan.Uncertain, &Error{Class: ClassScript, Host: s.end.label(), Op: "reverting", Err: fmt.Errorf("the reverter could not finish: see /var/lib/virtrust/journal on the host"), Hint: "mend what the journal names, then run `sh /var/lib/virtrust/revert.sh` there"}
	}
	return plan.Uncertain, &Error{Class: ClassScript, Host: s.end.label(), Op: "ending", Err: fmt.Errorf("the journal says %q", f.Data)}
}
