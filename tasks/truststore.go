package tasks

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/keystore"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// trustStore is a bundle for a program of Java or its like on the host. Nothing of
// libvirt or QEMU reads it, so other hosts do not depend on it.
type trustStore struct {
	file   inventory.TrustStore
	format keystore.Format
	want   []*x509.Certificate // of the generations that are trusted now
	ours   []*x509.Certificate // of every generation that ever was
}

func (b build) trustStore(s inventory.TrustStore) (plan.Task, error) {
	out := &trustStore{file: s, format: keystore.Format(s.Format)}
	for _, name := range s.Authorities {
		a, ok := b.trust.Authority(name)
		if !ok {
			return nil, fmt.Errorf("authority %q has no certificate yet", name)
		}
		bundle, err := a.Bundle(pki.ConsumerLibvirt)
		if err != nil {
			return nil, fmt.Errorf("authority %q: %w", name, err)
		}
		all, err := a.All()
		if err != nil {
			return nil, fmt.Errorf("authority %q: %w", name, err)
		}
		out.want, out.ours = append(out.want, bundle.Certs...), append(out.ours, all...)
	}
	others, err := b.certificatesOf(s.Others)
	if err != nil {
		return nil, err
	}
	out.ours = append(out.ours, others...)
	return out, nil
}

func (t *trustStore) ID() plan.ID { return plan.ID("store." + t.file.Path) }

func (t *trustStore) Needs() []facts.Query {
	return append(statAll(parents(t.file.Path)), facts.Content(t.file.Path))
}

func (t *trustStore) Diff(h *facts.Host, now time.Time) ([]plan.Op, []plan.Finding) {
	id, at := t.ID(), h.Path(t.file.Path)
	if !replaceable(at) {
		return nil, []plan.Finding{inTheWay(id, t.file.Path, at, "a trust store")}
	}
	seen := &pki.Bundle{}
	if content, _ := h.Content(t.file.Path); len(content) > 0 && t.file.Foreign != "remove" {
		certs, err := keystore.ReadTrustStore(t.format, content, nil)
		if err != nil {
			return nil, []plan.Finding{{
				Code: "store-unreadable", Severity: plan.Problem, Task: id, Holds: true,
				Text: fmt.Sprintf("%s cannot be read as a trust store in %s without a password of its own, and what it trusts would be lost: %v", t.file.Path, t.format, err),
				Hint: `move it away, choose another path, or set foreign = "remove" in the trust block to replace it`,
			}}
		}
		seen.Certs = certs
	}
	ops, found := makeParents(h, id, plan.WaveTrust, t.file.Path)
	wish := slices.DeleteFunc(slices.Clone(t.want), func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
	want, _ := pki.Merge(seen, wish, t.ours)
	text, err := keystore.TrustStore(t.format, want.Certs, nil)
	if err != nil {
		return nil, append(found, plan.Finding{Code: "store-unreadable", Severity: plan.Problem, Task: id, Holds: true, Text: fmt.Sprintf("%s cannot be written: %v", t.file.Path, err)})
	}
	reason := ""
	switch content, _ := h.Content(t.file.Path); {
	case at.Type == facts.Absent:
		reason = "new"
	case at.Type == facts.Symlink:
		reason = "a link to " + at.Target + " becomes a file"
	case plan.Digest(content) != plan.Digest(text):
		reason = changesOf(seen, want)
	case at.Mode != 0o644 || at.UID != 0 || at.GID != 0:
		reason = fmt.Sprintf("drift: owner %s:%s, mode %04o", at.Owner, at.Group, at.Mode)
	}
	if reason != "" {
		ops = append(ops, plan.WriteFile{
			Meta: plan.Meta{Task: id, Wave: plan.WaveTrust, Reason: reason}, Path: t.file.Path, Before: plan.StateOf(at), Content: text,
			After: plan.State{Type: facts.Regular, Digest: plan.Digest(text), Mode: 0o644, Owner: "root", Group: "root"},
		})
	}
	return ops, found
}

// changesOf says how two bundles differ.
func changesOf(seen, want *pki.Bundle) string {
	var parts []string
	renewed := func(c *x509.Certificate, other *pki.Bundle) bool {
		return slices.ContainsFunc(other.Certs, func(o *x509.Certificate) bool { return pki.SameCA(c, o) })
	}
	for _, c := range want.Certs {
		switch {
		case seen.Contains(c):
		case renewed(c, seen):
			parts = append(parts, dn(c.RawSubject)+" is renewed until "+date(c.NotAfter))
		default:
			parts = append(parts, "gains "+dn(c.RawSubject))
		}
	}
	for _, c := range seen.Certs {
		if !want.Contains(c) && !renewed(c, want) {
			parts = append(parts, "loses "+dn(c.RawSubject))
		}
	}
	if len(parts) == 0 {
		return "holds the same in another way"
	}
	return strings.Join(parts, ", ")
}
