package tasks

import (
	"fmt"
	"path"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// parents lists the directories above p, from the second level on: /etc itself
// is there on every host.
func parents(p string) []string {
	var out []string
	for d := path.Dir(p); d != "/" && path.Dir(d) != "/"; d = path.Dir(d) {
		out = append([]string{d}, out...)
	}
	return out
}

func statAll(paths []string) []facts.Query {
	out := make([]facts.Query, 0, len(paths))
	for _, p := range paths {
		out = append(out, facts.Stat(p))
	}
	return out
}

// makeParents gives the operations that make the missing directories above p,
// and findings for what stands in the way or could be changed by others.
func makeParents(h *facts.Host, id plan.ID, wave plan.Wave, p string) ([]plan.Op, []plan.Finding) {
	return makeDirs(h, id, wave, parents(p))
}

func makeDirs(h *facts.Host, id plan.ID, wave plan.Wave, dirs []string) (ops []plan.Op, found []plan.Finding) {
	for _, d := range dirs {
		switch f := h.Path(d); {
		case f.Type == facts.Absent:
			ops = append(ops, plan.MakeDir{Meta: plan.Meta{Task: id, Wave: wave, Reason: "new"}, Path: d, Mode: 0o755, Owner: "root", Group: "root"})
		case f.Type != facts.Directory:
			found = append(found, inTheWay(id, d, f, "a directory"))
		case f.UID != 0 || f.Mode&0o022 != 0:
			found = append(found, plan.Finding{
				Code: "directory-writable", Severity: plan.Problem, Task: id, Holds: true,
				Text: fmt.Sprintf("%s belongs to %s with mode %04o: others than root could replace what is installed below it", d, f.Owner, f.Mode),
				Hint: fmt.Sprintf("chown root %s && chmod go-w %s", d, d),
			})
		}
	}
	return ops, found
}

func inTheWay(id plan.ID, p string, f facts.Path, wanted string) plan.Finding {
	what := map[facts.Type]string{facts.Regular: "a file", facts.Directory: "a directory", facts.Symlink: "a link", facts.Other: "neither file nor directory"}[f.Type]
	return plan.Finding{
		Code: "in-the-way", Severity: plan.Problem, Task: id, Holds: true,
		Text: fmt.Sprintf("%s is %s where %s is wanted", p, what, wanted),
		Hint: "move it away, then plan again",
	}
}

// replaceable reports whether a rename can put a file or link at p.
func replaceable(f facts.Path) bool {
	return f.Type == facts.Absent || f.Type == facts.Regular || f.Type == facts.Symlink
}
