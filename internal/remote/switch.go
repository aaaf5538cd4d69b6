package remote

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// runLimit bounds a script that touches nothing live.
const runLimit = 90 * time.Second

// Switch verifies what was staged, arms the reverter, switches every name and
// activates, in one script. After an error only End knows what is true.
func (s *Session) Switch(ctx context.Context) error {
	nonce := Nonce()
	var b strings.Builder
	b.WriteString(s.head(nonce))
	b.WriteString("ours\n")
	b.WriteString(consoleScript)
	b.WriteString(reloadScript)
	b.WriteString(switchScript)
	q := facts.Quote
	for _, p := range slices.Sorted(maps.Keys(s.staged.sums)) {
		fmt.Fprintf(&b, "want_sum %s %s\n", q(p), s.staged.sums[p])
	}
	for _, t := range s.staged.steps {
		switch t.kind {
		case "file":
			fmt.Fprintf(&b, "dress %s %s %04o %s\n", q(t.from), q(t.owner), t.mode, q(t.path))
		case "link":
			fmt.Fprintf(&b, "ln -s %s %s || fail 'cannot stage '%s\ndress %s %s 0777 %s\n", q(t.now), q(t.from), q(t.path), q(t.from), q(t.owner), q(t.path))
		case "tree":
			cert, key := t.from+"/cert.pem", t.from+"/key.pem"
			if !t.key.adopt {
				fmt.Fprintf(&b, "want_pair %s %s\n", q(cert), q(key))
			}
			fmt.Fprintf(&b, "dress %s %s %04o %s\n", q(key), q(t.owner), t.mode, q(t.path+"/key.pem"))
			fmt.Fprintf(&b, "dress %s root:root 0644 %s\n", q(cert), q(t.path+"/cert.pem"))
			fmt.Fprintf(&b, "dress %s root:root 0755 %s\ndurable %s %s %s\n", q(t.from), q(t.path), q(cert), q(key), q(t.from))
		}
	}
	// Where two steps change one name, the second begins with what the first
	// leaves: each is undone by itself, from wherever the switch stopped.
	noted := map[string]string{}
	for i, t := range s.staged.steps {
		n := i + 1
		before := t.before
		if prev, again := noted[t.path]; again {
			fmt.Fprintf(&b, "note %s\n", q(fmt.Sprintf("step %d %s %s now %s was link %s", n, t.kind, t.path, t.now, prev)))
			continue
		}
		typ, what := string(before.Type), before.Digest
		if before.Type == facts.Symlink {
			what = before.Target
		}
		switch t.kind {
		case "dir", "tree":
			fmt.Fprintf(&b, "note_%s %d %s\n", t.kind, n, q(t.path))
		case "file", "link":
			fmt.Fprintf(&b, "note_%s %d %s %s %s %s\n", t.kind, n, q(t.path), q(typ), q(what), q(t.now))
			if t.kind == "link" {
				noted[t.path] = t.now
			}
		case "gone":
			fmt.Fprintf(&b, "note_gone %d %s %s %s\n", n, q(t.path), q(typ), q(what))
		case "unit":
			fmt.Fprintf(&b, "note_unit %d %s %s\n", n, q(t.path), q(t.service))
		case "activate":
			fmt.Fprintf(&b, "note_activate %d %s %s\n", n, q(t.path), q(string(t.how)))
		case "consoles":
			fmt.Fprintf(&b, "note %s\n", q(fmt.Sprintf("step %d consoles %s", n, t.path)))
		case "port":
			fmt.Fprintf(&b, "note %s\n", q(fmt.Sprintf("step %d port %s", n, t.from)))
		}
	}
	wait := 0
	if s.needsTimer() {
		wait = int(s.cfg.RevertAfter.Seconds())
	}
	if s.changesFirewall() {
		b.WriteString("check_ports\n")
	}
	if slices.ContainsFunc(s.ops, func(o plan.Op) bool { return o.Disrupts().Exceeds(plan.DisruptReloadPerVM) }) {
		b.WriteString("no_jobs\n")
	}
	fmt.Fprintf(&b, "arm %d\n", wait)
	checked := false
	for i, t := range s.staged.steps {
		n := i + 1
		if !checked && (t.kind == "unit" || t.kind == "activate" || t.kind == "consoles") {
			s.checks(&b)
			checked = true
		}
		switch t.kind {
		case "dir":
			fmt.Fprintf(&b, "do_dir %d %s %04o %s\n", n, q(t.path), t.mode, q(t.owner))
		case "tree", "file", "link":
			fmt.Fprintf(&b, "do_put %d %s %s\n", n, q(t.from), q(t.path))
		case "gone":
			fmt.Fprintf(&b, "do_gone %d %s\n", n, q(t.path))
		case "unit":
			do := "do_unit"
			if t.off {
				do = "do_unit_off"
			}
			fmt.Fprintf(&b, "%s %d %s %s\n", do, n, q(t.path), q(t.service))
		case "port":
			fmt.Fprintf(&b, "do_port %d %s\n", n, t.now)
		case "activate":
			fmt.Fprintf(&b, "do_activate %d %s %s\n", n, q(t.path), q(string(t.how)))
		case "consoles":
			fmt.Fprintf(&b, "do_consoles %d\n", n)
		}
	}
	if !checked {
		s.checks(&b)
	}
	b.WriteString("finish\n")
	s.switched = true
	// Shorter than the reverter's timer: it never overtakes a switch that we
	// still wait for.
	a, err := s.run(ctx, "switching", s.cfg.RevertAfter-MinRevertAfter/3, nonce, whole(b.String()))
	for _, f := range a.frames {
		switch f.Kind {
		case "checked":
			s.checked[f.Arg] = clean(string(f.Data), 120)
		case "console":
			s.consoles[string(f.Data)] = ""
		case "oldconsole":
			guest, why, _ := strings.Cut(string(f.Data), "\n")
			s.consoles[guest] = clean(why, 160)
		}
	}
	return err
}

// checks has QEMU read the identities that are new, before a daemon is told.
func (s *Session) checks(b *strings.Builder) {
	q := facts.Quote
	for _, t := range s.staged.steps {
		if t.key != nil && !t.key.adopt && t.key.enrol.Check != nil {
			c := t.key.enrol.Check
			var ends []string
			for _, u := range slices.Backward(slices.Sorted(slices.Values(t.key.enrol.Profile.Usages))) {
				ends = append(ends, string(u))
			}
			fmt.Fprintf(b, "do_check %s %s %s %s %s\n", q(t.key.enrol.Certificate), q(c.Directory), q(c.User), q(c.Group), q(strings.Join(ends, " ")))
		}
	}
}
