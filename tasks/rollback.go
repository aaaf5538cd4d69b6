package tasks

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/firewall"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/plan"
)

// Journal is what the last transaction of a host wrote down: its steps and
// how it ended.
type Journal struct {
	Run   string
	Dir   string // where its saved files lie
	State string // committed, reverted, pending or open
	Steps []JournalStep
	// First is the journal of the first transaction of the same run, where this
	// one is the second; see FirstQueries.
	First *Journal
}

// JournalStep is one changed name and what it was before.
type JournalStep struct {
	Number string
	Kind   string // dir, tree, file, link, gone, unit, activate, consoles, allow, close
	Path   string
	Now    string     // digest or target after the step
	Was    string     // absent, file or link; of a unit: enabled or disabled
	Target string     // of a link that was
	Active string     // of a unit: active or inactive
	How    string     // of an activation
	Owner  string     // of a unit: its service
	Port   *plan.Port // of a rule of a firewall
}

// ErrNoJournal means that virtrust changed nothing on the host yet.
var ErrNoJournal = errors.New("there is no journal: virtrust changed nothing on this host yet")

// JournalQueries is what has to be known to read the journal.
func JournalQueries() []facts.Query { return []facts.Query{facts.Content(journalFile)} }

// ReadJournal reads the journal of the last transaction.
func ReadJournal(h *facts.Host) (*Journal, error) {
	at := h.Path(journalFile)
	content, ok := h.Content(journalFile)
	if !ok || at.Type != facts.Symlink {
		return nil, ErrNoJournal
	}
	return parseJournal(path.Join(path.Dir(journalFile), path.Dir(at.Target)), content), nil
}

// firstFile is where the journal of the first transaction of j's run lies;
// empty when j is the first.
func (j *Journal) firstFile() string {
	n := len(j.Run) - 2
	if n < 1 || j.Run[n] != '-' || j.Run[n+1] < '2' || j.Run[n+1] > '9' {
		return ""
	}
	return path.Join(path.Dir(journalFile), "run-"+j.Run[:n], "journal")
}

// FirstQueries is what has to be known to read the journal of the first
// transaction of the same run; nothing when there was one transaction.
func (j *Journal) FirstQueries() []facts.Query {
	if p := j.firstFile(); p != "" {
		return []facts.Query{facts.Content(p)}
	}
	return nil
}

// ReadFirst reads the journal of the first transaction of the same run. The
// finding says that it is gone, so that the second alone can be undone.
func (j *Journal) ReadFirst(h *facts.Host) []plan.Finding {
	p := j.firstFile()
	if p == "" {
		return nil
	}
	if content, ok := h.Content(p); ok {
		if first := parseJournal(path.Dir(p), content); first.State == "committed" {
			j.First = first
			return nil
		}
	}
	return []plan.Finding{{Code: "rollback-in-part", Severity: plan.Warning, Text: fmt.Sprintf("%s is the second transaction of its run, and the journal of the first is gone: only the second is undone", j.Run),
		Hint: "change the configuration back and apply"}}
}

func parseJournal(dir string, content []byte) *Journal {
	j := &Journal{Dir: dir, State: "open"}
	for _, l := range strings.Split(string(content), "\n") {
		f := strings.Fields(l)
		switch {
		case len(f) == 0:
		case f[0] == "run" && len(f) > 1:
			j.Run = f[1]
		case f[0] == "committed" || f[0] == "reverted":
			j.State = f[0]
		case f[0] == "revert-pending":
			j.State = "pending"
		case f[0] == "step" && len(f) >= 4:
			if s, ok := journalStep(f, l); ok {
				j.Steps = append(j.Steps, s)
			}
		}
	}
	return j
}

func journalStep(f []string, line string) (JournalStep, bool) {
	s := JournalStep{Number: f[1], Kind: f[2], Path: f[3]}
	switch {
	case (s.Kind == "file" || s.Kind == "link" || s.Kind == "gone") && len(f) >= 8:
		s.Now, s.Was = f[5], f[7]
		if s.Was == "link" {
			_, s.Target, _ = strings.Cut(line, " was link ")
		}
	case s.Kind == "unit" && len(f) == 9:
		s.Owner, s.Was, s.Active = f[4], f[6], f[7]
	case s.Kind == "activate" && len(f) == 7:
		s.How = f[4]
	case s.Kind == "port" && len(f) >= 7:
		return portStep(f, line)
	case s.Kind == "dir" || s.Kind == "tree" || s.Kind == "consoles":
	default:
		return s, false
	}
	return s, true
}

// UndoQueries is what has to be known to undo the journal's transaction.
func (j *Journal) UndoQueries() []facts.Query {
	qs := []facts.Query{facts.Listening(), facts.Content(journalFile), facts.Content(libvirtTrust), facts.Content(libvirtDir + "/servercert.pem")}
	qs = append(qs, layoutQueries()...)
	for _, s := range j.Steps {
		switch s.Kind {
		case "file", "link", "gone":
			qs = append(qs, facts.Content(s.Path))
			if s.Was == "file" && s.Kind == "file" {
				qs = append(qs, facts.Content(path.Join(j.Dir, "saved", s.Number)))
			}
			if isCurrent(s) {
				tree := path.Dir(s.Path)
				qs = append(qs, facts.Dir(tree))
				if dir := path.Dir(path.Dir(tree)); slices.Contains(qemuDirs, dir) {
					qs = append(qs, facts.Content(qemuTrust(dir)))
				}
				if g := s.Target; g != "" && path.Base(g) == g {
					qs = append(qs, facts.Content(path.Join(tree, g, "cert.pem")), facts.Key(path.Join(tree, g, "key.pem")))
				}
			}
		case "unit", "activate":
			qs = append(qs, facts.Unit(s.Path))
		case "consoles":
			qs = append(qs, facts.Consoles())
		case "allow", "close":
			qs = append(qs, firewall.Queries()...)
		}
	}
	if j.First != nil {
		qs = append(qs, j.First.UndoQueries()...)
	}
	return qs
}

func isCurrent(s JournalStep) bool {
	return s.Kind == "link" && path.Base(s.Path) == "current" && strings.Contains(s.Path, "/.virtrust/")
}

// Undo gives the operations that put a host back to before the journal's
// transaction. It refuses what would bring back a certificate that is
// expired, revoked or no longer trusted there, and a name that someone else
// has changed since.
func (j *Journal) Undo(h *facts.Host, trust pki.Trust, now time.Time) ([]plan.Op, error) {
	if j.State != "committed" {
		return nil, fmt.Errorf("the last transaction (run %s) is %s, not committed: there is nothing to roll back", j.Run, j.State)
	}
	ops, err := j.undo(h, trust, now)
	if err == nil && j.First != nil {
		// The first transaction is undone from where the second leaves.
		var first []plan.Op
		if first, err = j.First.undo(undone(h, ops), trust, now); err == nil {
			ops = join(ops, first)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(ops) == 0 {
		return nil, fmt.Errorf("the last transaction (run %s) changed nothing that can be put back", j.Run)
	}
	slices.SortStableFunc(ops, func(a, b plan.Op) int {
		return cmp.Or(cmp.Compare(lateness(a), lateness(b)), int(a.About().Wave)-int(b.About().Wave))
	})
	return ops, nil
}

// undo gives the operations that undo this journal alone.
func (j *Journal) undo(h *facts.Host, trust pki.Trust, now time.Time) ([]plan.Op, error) {
	u := undo{Journal: j, host: h, trust: trust, now: now}
	seen := map[string]bool{}
	for _, s := range slices.Backward(j.Steps) {
		if isCurrent(s) {
			// An adoption switches twice; the pair that was there before is
			// the generation of the first switch.
			if seen[s.Path] {
				continue
			}
			seen[s.Path] = true
		}
		if err := u.step(s); err != nil {
			return nil, err
		}
	}
	if len(u.ops) == 0 {
		return nil, nil
	}
	for _, a := range u.activate {
		a.Closes = u.silences && a.Unit == libvirtdService
		u.ops = append(u.ops, a)
	}
	return u.ops, nil
}

type undo struct {
	*Journal
	host     *facts.Host
	trust    pki.Trust
	now      time.Time
	ops      []plan.Op
	activate []plan.Activate
	silences bool // libvirtd will no longer be told to listen
}

func (u *undo) why() string { return "rollback of run " + u.Run }

func (u *undo) meta(w plan.Wave) plan.Meta {
	return plan.Meta{Task: "rollback", Wave: w, Reason: u.why()}
}

// activates has a daemon take up what was put back, as it took up the change.
func (u *undo) activates(unit string, how plan.How) {
	for i, a := range u.activate {
		if a.Unit == unit {
			if how == plan.Restart {
				u.activate[i].How = how
			}
			return
		}
	}
	u.activate = append(u.activate, plan.Activate{Meta: u.meta(plan.WaveClose), Unit: unit, How: how})
}

func (u *undo) step(s JournalStep) error {
	at := u.host.Path(s.Path)
	before := plan.StateOf(at)
	switch s.Kind {
	case "unit":
		if s.Was == "disabled" && s.Active != "active" {
			owner := strings.TrimPrefix(s.Owner, "-")
			u.ops = append(u.ops, plan.SetUnit{Meta: u.meta(plan.WaveTrust), Unit: s.Path, Service: owner, Running: u.host.Units[owner].MainPID != 0})
		}
	case "activate":
		u.activates(s.Path, plan.How(s.How))
	case "consoles":
		u.ops = append(u.ops, plan.Activate{Meta: u.meta(plan.WaveClose), Unit: plan.Consoles, How: plan.ReloadConsoles})
	case "allow", "close":
		return u.port(s)
	case "file":
		// A list is never taken back: what it revokes would be accepted again.
		if b := path.Base(s.Path); b == "cacrl.pem" || b == "ca-crl.pem" {
			return nil
		}
		if at.Type != facts.Regular || before.Digest != s.Now {
			return fmt.Errorf("%s was changed since: roll it back by hand, or plan again", s.Path)
		}
		listened := u.tellsToListen(s.Path, at.Content)
		if s.Was == "absent" {
			u.silences = u.silences || listened
			u.ops = append(u.ops, plan.Remove{Meta: u.meta(plan.WaveClose), Path: s.Path, Before: before})
			return nil
		}
		saved := u.host.Path(path.Join(u.Dir, "saved", s.Number))
		if s.Was != "file" || saved.Type != facts.Regular || !saved.HasData {
			return fmt.Errorf("the saved copy of %s is gone", s.Path)
		}
		u.silences = u.silences || listened && !u.tellsToListen(s.Path, saved.Content)
		after := plan.StateOf(saved)
		u.ops = append(u.ops, plan.WriteFile{Meta: u.meta(plan.WaveTrust), Path: s.Path, Before: before, After: after, Content: saved.Content})
	case "link":
		if at.Type != facts.Symlink || at.Target != s.Now {
			return fmt.Errorf("%s was changed since: roll it back by hand, or plan again", s.Path)
		}
		if isCurrent(s) {
			return u.generation(s, before)
		}
		switch s.Was {
		case "absent":
			u.ops = append(u.ops, plan.Remove{Meta: u.meta(plan.WaveClose), Path: s.Path, Before: before})
		case "link":
			u.ops = append(u.ops, plan.Link{Meta: u.meta(plan.WaveListen), Path: s.Path, Target: s.Target, Before: before})
		}
		// A name that was a file stays a link: the pair that it was is the
		// generation that was taken over.
	}
	return nil
}

// tellsToListen reports whether a content of libvirtd's file of arguments has
// --listen in it.
func (u *undo) tellsToListen(p string, content []byte) bool {
	file, name, ok := variableOf(u.host, libvirtdService)
	if !ok || file != p {
		return false
	}
	e, err := conffile.ParseEnvironment(content)
	if err != nil {
		return false
	}
	value, _, _ := e.Get(name)
	return slices.ContainsFunc(strings.Fields(value), isListen)
}

// generation switches an identity back.
func (u *undo) generation(s JournalStep, before plan.State) error {
	tree := path.Dir(s.Path)
	to := s.Target
	if s.Was == "absent" {
		u.ops = append(u.ops, plan.Remove{Meta: u.meta(plan.WaveIdentity), Path: s.Path, Before: before})
		return nil
	}
	content, _ := u.host.Content(path.Join(tree, to, "cert.pem"))
	certs := pki.ParseBundle(content).Certs
	if len(certs) == 0 {
		return fmt.Errorf("generation %s of %s is gone: make a new certificate instead", to, tree)
	}
	if err := u.fit(certs[0], tree, to); err != nil {
		return err
	}
	u.ops = append(u.ops, plan.Link{Meta: u.meta(plan.WaveIdentity), Path: s.Path, Target: to, Before: before})
	return nil
}

// fit refuses a certificate that must not come back.
func (u *undo) fit(leaf *x509.Certificate, tree, generation string) error {
	what := fmt.Sprintf("generation %s of %s", generation, tree)
	if !leaf.NotAfter.After(u.now) {
		return fmt.Errorf("%s expired %s: it cannot come back", what, date(leaf.NotAfter))
	}
	serial := pki.SerialText(leaf.SerialNumber)
	for _, a := range u.trust.Authorities {
		for _, g := range a.Generations {
			if g.SubjectKeyID == fmt.Sprintf("%x", leaf.AuthorityKeyId) && slices.Contains(g.Revoked, serial) {
				return fmt.Errorf("%s was revoked: it cannot come back", what)
			}
		}
	}
	bundle, rules := libvirtTrust, pki.LibvirtRules(libvirtVersion(u.host))
	if dir := path.Dir(path.Dir(tree)); slices.Contains(qemuDirs, dir) {
		bundle, rules = qemuTrust(dir), pki.QEMURules(qemuVersion(u.host))
	}
	ca, _ := u.host.Content(bundle)
	for _, s := range u.Steps {
		if s.Path == bundle && s.Kind == "file" && s.Was == "file" {
			ca = u.host.Path(path.Join(u.Dir, "saved", s.Number)).Content
		}
	}
	usage := pki.UsageServer
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		usage = pki.UsageClient
	}
	key, _ := u.host.PublicKey(path.Join(tree, generation, "key.pem"))
	if !sameKey(leaf, key) {
		return fmt.Errorf("%s: its key does not belong to its certificate", what)
	}
	v := pki.Judge(pki.Question{Rules: rules, Role: usage, Now: u.now, Cert: pki.RenderCerts(leaf), CA: ca})
	if !v.OK {
		return fmt.Errorf("%s cannot come back: %s", what, v.Problems[0].Text)
	}
	return nil
}
