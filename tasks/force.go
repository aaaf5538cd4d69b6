package tasks

import (
	"fmt"
	"path"
	"time"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// force is migration = "required": libvirt refuses a migration without TLS. It
// is set last, when every member has proved its credentials, and taken back
// when the policy no longer asks for it.
type force struct {
	want        bool
	stance      inventory.Migration
	base        *settings // of the same file; nil when the policy sets nothing there
	peers       []peer
	authority   string
	certificate string
}

const (
	forceKey = "migrate_tls_force"
	// forceMark lies on hosts whose setting is ours: what others have set
	// there is not taken back.
	forceMark = "/var/lib/virtrust/migrate_tls_force"
	forceItem = "force:" + qemuConf
)

// force is nil for a host whose policy has nothing to do with migration.
func (b build) force() plan.Task {
	f := &force{want: b.host.Migration == inventory.MigrationRequired, stance: b.host.Migration}
	for _, c := range b.host.Policy.Certificates {
		if c.Install.Owner == inventory.QEMUAccount && c.NeededFor == inventory.ForMigration {
			f.authority, f.certificate = c.Authority, c.Name
		}
	}
	if f.authority == "" {
		if !b.listens() {
			return nil
		}
		f.want = false
	}
	for _, s := range b.host.Policy.Settings {
		if s.Path == qemuConf {
			f.base = b.settings(s)
		}
	}
	if f.want {
		f.peers = b.members(f.authority)
	}
	return f
}

func (*force) ID() plan.ID { return "settings." + qemuConf + "#" + forceKey }

func (f *force) Needs() []facts.Query {
	qs := append(statAll(parents(qemuConf)), facts.Content(qemuConf), facts.Content(forceMark), facts.Stat(path.Dir(forceMark)), facts.Content(loadedFile))
	qs = append(qs, layoutQueries()...)
	if f.base != nil {
		qs = append(qs, f.base.Needs()...)
	}
	return qs
}

func (f *force) Diff(h *facts.Host, now time.Time) ([]plan.Op, []plan.Finding) {
	at := h.Path(qemuConf)
	content, ok := h.Content(qemuConf)
	if at.Type != facts.Regular || !ok {
		return nil, nil // the settings task says so, where it matters
	}
	before := plan.StateOf(at)
	var loads []plan.Load
	if f.base != nil {
		if content = f.base.after(h, content); content == nil {
			return nil, nil
		}
		before.Digest = plan.Digest(content)
		loads = append(loads, plan.Load{Item: "settings:" + qemuConf, Digest: f.base.digest(h)})
	}
	file, err := conffile.Parse(content)
	if err != nil {
		return nil, nil
	}
	value, set := file.Get(forceKey)
	n, _ := value.Int()
	on := set && n != 0
	mark := h.Path(forceMark)
	wanted := plan.Digest([]byte(fmt.Sprint(f.want)))
	meta := plan.Meta{Task: f.ID(), Wave: plan.WaveClose}
	if f.want {
		meta.When = when(plan.Condition{Kind: plan.Ready, Authority: f.authority, Certificate: f.certificate}, f.peers, now)
	}
	var ops []plan.Op
	edit := plan.Edit{Key: forceKey}
	if set {
		edit.Old = value.String()
	}
	after := before
	switch {
	case f.want && !on:
		meta.Reason = `migration = "required"`
		edit.New = conffile.Bool(true).String()
		err = file.Set(forceKey, conffile.Bool(true))
		text := []byte(qemuConf + " got " + forceKey + " from virtrust\n")
		if mark.Type == facts.Absent {
			ops = append(ops, plan.WriteFile{Meta: meta, Path: forceMark, Content: text,
				After: plan.State{Type: facts.Regular, Digest: plan.Digest(text), Mode: 0o600, Owner: "root", Group: "root"}})
		}
	case !f.want && on && mark.Type == facts.Regular:
		meta.Reason = fmt.Sprintf("migration = %q", f.stance)
		err = file.Unset(forceKey)
		ops = append(ops, plan.Remove{Meta: meta, Path: forceMark, Before: plan.StateOf(mark)})
	case !f.want && on:
		return nil, []plan.Finding{{Code: "force-not-ours", Severity: plan.Warning, Task: f.ID(),
			Text: fmt.Sprintf("%s sets %s, which virtrust did not: libvirt refuses migrations without TLS although migration = %q", qemuConf, forceKey, f.stance),
			Hint: `take the line out on the host, or write migration = "required"`}}
	case f.want && !loaded(h, layoutOf(h).qemu, forceItem, wanted, qemuConf):
		meta.Reason = "the daemon started before the file was changed"
		return []plan.Op{f.activate(h, meta, loads, wanted)}, nil
	default:
		return nil, nil
	}
	if err != nil {
		return nil, []plan.Finding{{Code: "settings-unreadable", Severity: plan.Problem, Task: f.ID(), Holds: true, Text: fmt.Sprintf("%s: %s: %v", qemuConf, forceKey, err)}}
	}
	after.Digest = plan.Digest(file.Bytes())
	ops = append(ops, plan.WriteFile{Meta: meta, Path: qemuConf, Before: before, After: after, Edits: []plan.Edit{edit}})
	return append(ops, f.activate(h, meta, loads, wanted)), nil
}

func (f *force) activate(h *facts.Host, meta plan.Meta, loads []plan.Load, digest string) plan.Op {
	return plan.Activate{Meta: meta, Unit: layoutOf(h).qemu, How: plan.Restart, Loads: append(loads, plan.Load{Item: forceItem, Digest: digest})}
}
