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
	// aging are generations that sign no more: they leave when they expire.
	aging []*x509.Certificate
	// others are those that other clusters have: they leave last, because what
	// the host shows until then may be signed by one of them.
	others []*x509.Certificate
	// of are, by certificate, the authority, and what a drop of it waits for.
	of map[string]former
}

// former is what dropping a generation waits for.
type former struct {
	authority   string
	certificate string // an identity of the host that the authority signs
	peers       []peer
}

func (b build) trustFile(t inventory.TrustFile) (plan.Task, error) {
	out := &trustFile{file: t, consumer: pki.ConsumerLibvirt, reload: t.Path == libvirtTrust && b.listens(), port: b.port(), of: map[string]former{}}
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
		for _, g := range a.Generations {
			c, err := g.Certificate()
			if err != nil {
				return nil, fmt.Errorf("authority %q: %w", name, err)
			}
			if g.Phase != pki.PhaseIssuing {
				out.aging = append(out.aging, c)
			}
			if !g.Phase.Trusted() {
				out.of[string(c.Raw)] = former{authority: name, certificate: b.signedBy(name), peers: b.domain(name)}
			}
		}
	}
	others, err := b.certificatesOf(t.Others)
	if err != nil {
		return nil, err
	}
	out.others, out.ours = others, append(out.ours, others...)
	return out, nil
}

// certificatesOf lists those that authorities have and had. There may be none yet.
func (b build) certificatesOf(names []string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, name := range names {
		a, _ := b.trust.Authority(name)
		for _, g := range a.Generations {
			c, err := g.Certificate() // a root above it may be that of this cluster's, too
			if err != nil {
				return nil, fmt.Errorf("authority %q: %w", name, err)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

func (t *trustFile) ID() plan.ID { return plan.ID("trust." + t.file.Path) }

func (t *trustFile) Needs() []facts.Query {
	qs := append(statAll(parents(t.file.Path)), facts.Content(t.file.Path), facts.Content(loadedFile))
	if t.reload {
		qs = append(qs, facts.Listening())
		qs = append(qs, layoutQueries()...)
	}
	return qs
}

// signedBy names an identity of the host that the authority signs.
func (b build) signedBy(authority string) string {
	for _, c := range b.host.Policy.Certificates {
		if c.Authority == authority {
			return c.Name
		}
	}
	return ""
}

// bundles are what lies at the path, what should in the end, and what should
// until every peer has left the generations that go.
type bundles struct {
	seen, want *pki.Bundle
	first      *pki.Bundle     // want, where nothing leaves last
	drop       *plan.Condition // of the step from first to want; nil where it waits for nobody
	foreign    []*x509.Certificate
}

func (t *trustFile) wanted(h *facts.Host, now time.Time) bundles {
	content, _ := h.Content(t.file.Path)
	b := bundles{seen: &pki.Bundle{}}
	if len(content) > 0 {
		b.seen = pki.ParseBundle(content)
	}
	wish := slices.DeleteFunc(slices.Clone(t.want), func(c *x509.Certificate) bool {
		return now.After(c.NotAfter) && slices.ContainsFunc(t.aging, c.Equal)
	})
	have := b.seen
	_, b.foreign = pki.Merge(b.seen, wish, t.ours)
	if t.file.Foreign == "remove" {
		have = &pki.Bundle{}
	}
	b.want, _ = pki.Merge(have, wish, t.ours)
	b.first = b.want
	stays := len(wish)
	for _, c := range b.seen.Certs {
		if slices.ContainsFunc(t.others, c.Equal) && !now.After(c.NotAfter) && !b.want.Contains(c) {
			wish = append(wish, c)
			continue
		}
		f, ours := t.of[string(c.Raw)]
		// One that has expired goes at once: it keeps libvirtd from starting.
		if !ours || now.After(c.NotAfter) || b.want.Contains(c) {
			continue
		}
		if d := when(plan.Condition{Kind: plan.Ready, Authority: f.authority, Certificate: f.certificate}, f.peers, now); d != nil {
			b.drop, wish = d, append(wish, c)
		}
	}
	if len(wish) > stays {
		b.first, _ = pki.Merge(have, wish, t.ours)
	}
	return b
}

func (t *trustFile) Diff(h *facts.Host, now time.Time) ([]plan.Op, []plan.Finding) {
	id := t.ID()
	at := h.Path(t.file.Path)
	if !replaceable(at) {
		return nil, []plan.Finding{inTheWay(id, t.file.Path, at, "a bundle of certificates")}
	}
	ops, found := makeParents(h, id, plan.WaveTrust, t.file.Path)
	b := t.wanted(h, now)
	for _, c := range b.foreign {
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
	if v := b.want.Check(now); !v.OK {
		for _, p := range v.Problems {
			found = append(found, plan.Finding{Code: p.Code, Severity: plan.Problem, Task: id, Holds: true, Text: t.file.Path + ": " + p.Text})
		}
		return nil, found
	}
	reason := ""
	switch {
	case at.Type == facts.Absent:
		reason = "new"
	case at.Type == facts.Symlink:
		reason = "a link to " + at.Target + " becomes a file"
	case !b.seen.Equal(b.first) || len(b.seen.Problems) > 0:
		reason = t.changes(b.seen, b.first)
	case at.Mode != 0o644 || at.UID != 0 || at.GID != 0:
		reason = fmt.Sprintf("drift: owner %s:%s, mode %04o", at.Owner, at.Group, at.Mode)
	}
	before := plan.StateOf(at)
	meta := plan.Meta{Task: id, Wave: plan.WaveTrust, Reason: reason}
	if reason != "" {
		w := t.write(meta, before, b.first)
		ops, before = append(ops, w), w.After
	}
	if t.reload && reason == "" && listening(h, t.port) && !loaded(h, layoutOf(h).listener, t.item(), bundleDigest(b.seen), t.file.Path) {
		meta.Reason = layoutOf(h).program() + " has not read the bundle as it lies there"
	}
	if t.reload && meta.Reason != "" {
		ops = append(ops, t.activate(h, meta, b.first))
	}
	if !b.first.Equal(b.want) {
		meta = plan.Meta{Task: id, Wave: plan.WaveClose, Reason: t.changes(b.first, b.want), When: b.drop}
		ops = append(ops, t.write(meta, before, b.want))
		if t.reload {
			ops = append(ops, t.activate(h, meta, b.want))
		}
	}
	return ops, found
}

func (t *trustFile) write(meta plan.Meta, before plan.State, b *pki.Bundle) plan.WriteFile {
	content := b.Render()
	return plan.WriteFile{
		Meta: meta, Path: t.file.Path, Before: before, Content: content,
		After: plan.State{Type: facts.Regular, Digest: plan.Digest(content), Mode: 0o644, Owner: "root", Group: "root"},
	}
}

func (t *trustFile) activate(h *facts.Host, meta plan.Meta, b *pki.Bundle) plan.Activate {
	return plan.Activate{Meta: meta, Unit: layoutOf(h).listener, How: plan.Reload, Loads: []plan.Load{{Item: t.item(), Digest: bundleDigest(b)}}}
}

// item is how the bundle is called in the record of what daemons have loaded.
func (t *trustFile) item() string { return "trust:" + t.file.Path }

// power is what an authority in the bundle could do.
func (t *trustFile) power() string {
	if t.consumer == pki.ConsumerQEMU {
		return "take part in migrations"
	}
	return "log in as root"
}

func (t *trustFile) changes(seen, want *pki.Bundle) string {
	if seen.Equal(want) {
		return "holds something that is no certificate"
	}
	return changesOf(seen, want)
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
	if t.reload && listening(h, t.port) && !loaded(h, layoutOf(h).listener, t.item(), bundleDigest(b), t.file.Path) {
		return nil, false
	}
	var ids []string
	for _, c := range b.Certs {
		ids = append(ids, fmt.Sprintf("%x", c.SubjectKeyId))
	}
	return ids, false
}
