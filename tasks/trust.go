package tasks

import (
	"crypto/x509"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// trustFile is a bundle of authorities at one path.
type trustFile struct {
	file     inventory.TrustFile
	consumer pki.Consumer
	want     []*x509.Certificate // of the generations that are trusted now
	ours     []*x509.Certificate // of every generation that ever was
	reload   bool                // libvirtd reads this file
	port     int
}

func (b build) trustFile(t inventory.TrustFile) (plan.Task, error) {
	out := &trustFile{file: t, consumer: pki.ConsumerLibvirt, reload: t.Path == libvirtTrust && b.listens(), port: b.port()}
	if slices.Contains(qemuDirs, path.Dir(t.Path)) {
		out.consumer = pki.ConsumerQEMU
	}
	for _, name := range t.Authorities {
		a, _ := b.trust.Authority(name)
		bundle, err := a.Bundle(out.consumer)
		if err != nil {
			return nil, fmt.Errorf("authority %q: %w", name, err)
		}
		all, err := a.All()
		if err != nil {
			return nil, fmt.Errorf("authority %q: %w", name, err)
		}
		out.want = append(out.want, bundle.Certs...)
		out.ours = append(out.ours, all...)
	}
	return out, nil
}

func (t *trustFile) ID() plan.ID { return plan.ID("trust." + t.file.Path) }

func (t *trustFile) Needs() []facts.Query {
	qs := append(statAll(parents(t.file.Path)), facts.Content(t.file.Path), facts.Content(loadedFile))
	if t.reload {
		qs = append(qs, layoutQueries()...)
	}
	return qs
}

// wanted is the bundle that should lie there, and the CAs in it that are not
// ours.
func (t *trustFile) wanted(h *facts.Host) (want, seen *pki.Bundle, foreign []*x509.Certificate) {
	content, _ := h.Content(t.file.Path)
	seen = &pki.Bundle{}
	if len(content) > 0 {
		seen = pki.ParseBundle(content)
	}
	want, foreign = pki.Merge(seen, t.want, t.ours)
	if t.file.Foreign == "remove" && len(foreign) > 0 {
		want, _ = pki.Merge(&pki.Bundle{}, t.want, t.ours)
	}
	return want, seen, foreign
}

func (t *trustFile) Diff(h *facts.Host, now time.Time) ([]plan.Op, []plan.Finding) {
	id := t.ID()
	at := h.Path(t.file.Path)
	if !replaceable(at) {
		return nil, []plan.Finding{inTheWay(id, t.file.Path, at, "a bundle of certificates")}
	}
	ops, found := makeParents(h, id, plan.WaveTrust, t.file.Path)
	want, seen, foreign := t.wanted(h)
	for _, c := range foreign {
		f := plan.Finding{
			Code: "foreign-ca", Severity: plan.Warning, Task: id,
			Text: fmt.Sprintf("%s trusts %q (until %s), which is none of our authorities: who holds its key can %s", t.file.Path, dn(c.RawSubject), date(c.NotAfter), t.power()),
			Hint: `set foreign = "remove" in the trust block when nobody needs it any more`,
		}
		if t.file.Foreign == "remove" {
			f.Severity, f.Text, f.Hint = plan.Note, fmt.Sprintf("%s: %q is not ours and is removed", t.file.Path, dn(c.RawSubject)), ""
		}
		found = append(found, f)
	}
	if v := want.Check(now); !v.OK {
		for _, p := range v.Problems {
			found = append(found, plan.Finding{Code: p.Code, Severity: plan.Problem, Task: id, Holds: true, Text: t.file.Path + ": " + p.Text})
		}
		return nil, found
	}
	digest := bundleDigest(want)
	item := "trust:" + t.file.Path
	reason := ""
	switch {
	case at.Type == facts.Absent:
		reason = "new"
	case at.Type == facts.Symlink:
		reason = "a link to " + at.Target + " becomes a file"
	case !seen.Equal(want) || len(seen.Problems) > 0:
		reason = t.changes(seen, want)
	case at.Mode != 0o644 || at.UID != 0 || at.GID != 0:
		reason = fmt.Sprintf("drift: owner %s:%s, mode %04o", at.Owner, at.Group, at.Mode)
	}
	meta := plan.Meta{Task: id, Wave: plan.WaveTrust, Reason: reason}
	if reason != "" {
		content := want.Render()
		ops = append(ops, plan.WriteFile{
			Meta: meta, Path: t.file.Path, Before: plan.StateOf(at), Content: content,
			After: plan.State{Type: facts.Regular, Digest: plan.Digest(content), Mode: 0o644, Owner: "root", Group: "root"},
		})
	}
	if t.reload {
		by := layoutOf(h)
		if reason == "" && listening(h, t.port) && !loaded(h, by.listener, item, digest, t.file.Path) {
			meta.Reason = by.program() + " has not read the bundle as it lies there"
		}
		if meta.Reason != "" {
			ops = append(ops, plan.Activate{Meta: meta, Unit: by.listener, How: plan.Reload, Loads: []plan.Load{{Item: item, Digest: digest}}})
		}
	}
	return ops, found
}

// power is what an authority in the bundle could do.
func (t *trustFile) power() string {
	if t.consumer == pki.ConsumerQEMU {
		return "take part in migrations"
	}
	return "log in as root"
}

func (t *trustFile) changes(seen, want *pki.Bundle) string {
	var parts []string
	for _, c := range want.Certs {
		if !seen.Contains(c) {
			parts = append(parts, "gains "+dn(c.RawSubject))
		}
	}
	for _, c := range seen.Certs {
		if !want.Contains(c) {
			parts = append(parts, "loses "+dn(c.RawSubject))
		}
	}
	if len(parts) == 0 {
		return "holds something that is no certificate"
	}
	return strings.Join(parts, ", ")
}

func bundleDigest(b *pki.Bundle) string {
	var all []string
	for _, c := range b.Certs {
		all = append(all, plan.Digest(c.Raw))
	}
	slices.Sort(all)
	return plan.Digest([]byte(strings.Join(slices.Compact(all), "\n")))
}

func dn(raw []byte) string {
	s, err := pki.DNString(raw)
	if err != nil {
		return "an unreadable subject"
	}
	return s
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02") }

// Concerns are the authorities that the bundle is for.
func (t *trustFile) Concerns() []string { return t.file.Authorities }

// Loaded are the CAs of the bundle, where the daemon has read it as it lies
// there. QEMU reads it anew for every migration.
func (t *trustFile) Loaded(h *facts.Host) ([]string, bool) {
	if h.Path(t.file.Path).Type == facts.Absent {
		return nil, true
	}
	content, _ := h.Content(t.file.Path)
	b := pki.ParseBundle(content)
	if t.reload && listening(h, t.port) && !loaded(h, layoutOf(h).listener, "trust:"+t.file.Path, bundleDigest(b), t.file.Path) {
		return nil, false
	}
	var ids []string
	for _, c := range b.Certs {
		ids = append(ids, fmt.Sprintf("%x", c.SubjectKeyId))
	}
	return ids, false
}
