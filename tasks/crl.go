package tasks

import (
	"bytes"
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

// crlFile is a file of revocation lists beside a bundle: the newest list of each
// trusted generation. It is made when there is something to revoke, and kept up
// to date from then on.
type crlFile struct {
	file    inventory.TrustFile
	want    []*x509.RevocationList
	ours    []*x509.Certificate // of every generation that ever was
	revokes bool                // one of want has an entry
	unfit   string              // why want may not be given to a host
	reload  bool                // libvirtd reads this file
	port    int
}

func (b build) crlFile(t inventory.TrustFile) (*crlFile, error) {
	out := &crlFile{file: t, reload: t.Path == libvirtTrust && b.listens(), port: b.port()}
	for _, name := range t.Authorities {
		a, _ := b.trust.Authority(name)
		all, err := a.All()
		if err != nil {
			return nil, fmt.Errorf("authority %q: %w", name, err)
		}
		out.ours = append(out.ours, all...)
		for _, g := range a.Trusted() {
			l, err := g.List()
			if err != nil {
				return nil, fmt.Errorf("authority %q: %w", name, err)
			}
			if l == nil {
				continue
			}
			if why := g.Unfit(); why != "" && out.unfit == "" {
				out.unfit = fmt.Sprintf("authority %q: %s", name, why)
			}
			out.want = append(out.want, l)
			out.revokes = out.revokes || len(l.RevokedCertificateEntries) > 0
		}
	}
	others, err := b.certificatesOf(t.Others)
	if err != nil {
		return nil, err
	}
	out.ours = append(out.ours, others...)
	return out, nil
}

func (t *crlFile) ID() plan.ID { return plan.ID("crl." + t.file.CRL) }

func (t *crlFile) Needs() []facts.Query {
	qs := append(statAll(parents(t.file.CRL)), facts.Content(t.file.CRL), facts.Content(loadedFile))
	if t.reload {
		qs = append(qs, facts.Listening(), facts.Unit(libvirtdService))
	}
	return qs
}

func (t *crlFile) item() string { return "crl:" + t.file.CRL }

func (t *crlFile) Diff(h *facts.Host, _ time.Time) ([]plan.Op, []plan.Finding) {
	id, at := t.ID(), h.Path(t.file.CRL)
	if at.Type == facts.Absent && !t.revokes {
		return nil, nil
	}
	if !replaceable(at) {
		return nil, []plan.Finding{inTheWay(id, t.file.CRL, at, "a revocation list")}
	}
	if t.unfit != "" {
		return nil, []plan.Finding{{Code: "crl-unfit", Severity: plan.Problem, Task: id, Text: t.unfit,
			Hint: "fetch the newest files of the authority, or sign a new list with `virtrust ca crl`"}}
	}
	content, _ := h.Content(t.file.CRL)
	seen, err := pki.ParseCRLs(content)
	if newer := t.newer(seen); newer != "" {
		return nil, []plan.Finding{{Code: "crl-older", Severity: plan.Problem, Task: id, Text: t.file.CRL + ": " + newer,
			Hint: "your copy of the authority's files is old: fetch the newest"}}
	}
	ops, found := makeParents(h, id, plan.WaveTrust, t.file.CRL)
	want, foreign := pki.MergeCRLs(seen, t.want, t.ours)
	if t.file.Foreign == "remove" {
		want = t.want
	}
	for _, l := range foreign {
		f := plan.Finding{Code: "foreign-crl", Severity: plan.Note, Task: id,
			Text: fmt.Sprintf("%s holds a list of %q, which is none of our authorities", t.file.CRL, dn(l.RawIssuer))}
		if t.file.Foreign == "remove" {
			f.Text += ", and it is removed"
		}
		found = append(found, f)
	}
	reason := ""
	switch {
	case at.Type == facts.Absent:
		reason = "new"
	case at.Type == facts.Symlink:
		reason = "a link to " + at.Target + " becomes a file"
	case err != nil || len(content) > 0 && len(seen) == 0:
		reason = "holds something that is no revocation list"
	case !pki.SameCRLs(seen, want):
		reason = t.changes(seen, want)
	case len(want) == 0:
		reason = "is empty, and libvirtd does not start with an empty list"
	case at.Mode != 0o644 || at.UID != 0 || at.GID != 0:
		reason = fmt.Sprintf("drift: owner %s:%s, mode %04o", at.Owner, at.Group, at.Mode)
	}
	meta := plan.Meta{Task: id, Wave: plan.WaveTrust, Reason: reason}
	switch {
	case reason == "":
	case len(want) == 0:
		// GnuTLS takes a file without a list for a broken one.
		ops = append(ops, plan.Remove{Meta: meta, Path: t.file.CRL, Before: plan.StateOf(at)})
	default:
		var ders [][]byte
		for _, l := range want {
			ders = append(ders, l.Raw)
		}
		text := pki.RenderCRLs(ders...)
		ops = append(ops, plan.WriteFile{
			Meta: meta, Path: t.file.CRL, Before: plan.StateOf(at), Content: text,
			After: plan.State{Type: facts.Regular, Digest: plan.Digest(text), Mode: 0o644, Owner: "root", Group: "root"},
		})
	}
	if t.reload {
		digest := crlDigest(want)
		if reason == "" && listening(h, t.port) && !loaded(h, libvirtdService, t.item(), digest, t.file.CRL) {
			meta.Reason = "libvirtd has not read the revocation lists as they lie there"
		}
		if meta.Reason != "" {
			ops = append(ops, plan.Activate{Meta: meta, Unit: libvirtdService, How: plan.Reload, Loads: []plan.Load{{Item: t.item(), Digest: digest}}})
		}
	}
	return ops, found
}

// newer says which list of ours the host has in a newer version.
func (t *crlFile) newer(seen []*x509.RevocationList) string {
	for _, l := range seen {
		for _, w := range t.want {
			if bytes.Equal(l.RawIssuer, w.RawIssuer) && l.Number != nil && l.Number.Cmp(w.Number) > 0 {
				return fmt.Sprintf("the host has list %s of %q and ours is list %s", l.Number, dn(l.RawIssuer), w.Number)
			}
		}
	}
	return ""
}

// changes says how the lists differ, by issuer.
func (t *crlFile) changes(seen, want []*x509.RevocationList) string {
	var parts []string
	of := func(all []*x509.RevocationList, issuer []byte) *x509.RevocationList {
		i := slices.IndexFunc(all, func(l *x509.RevocationList) bool { return bytes.Equal(l.RawIssuer, issuer) })
		if i < 0 {
			return nil
		}
		return all[i]
	}
	for _, w := range want {
		switch s := of(seen, w.RawIssuer); {
		case s == nil:
			parts = append(parts, fmt.Sprintf("gains list %s of %s", w.Number, dn(w.RawIssuer)))
		case !bytes.Equal(s.Raw, w.Raw):
			parts = append(parts, fmt.Sprintf("list %s of %s becomes list %s (%d revoked, was %d)", s.Number, dn(w.RawIssuer), w.Number,
				len(w.RevokedCertificateEntries), len(s.RevokedCertificateEntries)))
		}
	}
	for _, s := range seen {
		if of(want, s.RawIssuer) == nil {
			parts = append(parts, "loses the list of "+dn(s.RawIssuer))
		}
	}
	if len(parts) == 0 {
		return "holds a list twice"
	}
	return strings.Join(parts, ", ")
}

func crlDigest(lists []*x509.RevocationList) string {
	var all []string
	for _, l := range lists {
		all = append(all, plan.Digest(l.Raw))
	}
	slices.Sort(all)
	return plan.Digest([]byte(strings.Join(slices.Compact(all), "\n")))
}

// status is the state of the lists on a host; false where there is none and
// none is wanted.
func (t *crlFile) status(h *facts.Host, now time.Time) (State, bool) {
	at := h.Path(t.file.CRL)
	if at.Type == facts.Absent && !t.revokes {
		return State{}, false
	}
	s := State{Certificate: "lists " + path.Base(t.file.CRL), State: "ok"}
	content, _ := h.Content(t.file.CRL)
	seen, _ := pki.ParseCRLs(content)
	for _, l := range seen {
		if s.NotAfter.IsZero() || l.NextUpdate.Before(s.NotAfter) {
			s.NotAfter, s.Due = l.NextUpdate, pki.CRLDue(l)
		}
	}
	s.DaysLeft = int(s.NotAfter.Sub(now).Hours() / 24)
	ops, found := t.Diff(h, now)
	switch {
	case at.Type == facts.Absent:
		s.State, s.Note = "missing", "no revocation list in "+t.file.CRL
	case len(ops) > 0:
		s.State, s.Note = "differs", ops[0].About().Reason
	case slices.ContainsFunc(found, func(f plan.Finding) bool { return f.Severity == plan.Problem }):
		s.State, s.Note = "differs", found[0].Text
	case !s.NotAfter.After(now):
		s.State, s.Note = "expired", "hosts go on using an old list, and miss what was revoked since"
	case !s.Due.After(now):
		s.State = "due"
	}
	return s, true
}

// lists finds revocation lists that are behind what was revoked, or old.
type lists struct{}

func (lists) Judge(_ []plan.HostPlan, trust pki.Trust, now time.Time) []plan.Finding {
	var out []plan.Finding
	for _, a := range trust.Authorities {
		for _, g := range a.Trusted() {
			hint := "sign a new list: `virtrust ca crl " + a.Name + "`, then apply"
			if n := len(g.Unlisted); n > 0 {
				out = append(out, plan.Finding{Code: "crl-behind", Severity: plan.Problem, Hint: hint,
					Text: fmt.Sprintf("%d revoked certificates of authority %q are not on its list: hosts accept them still", n, a.Name)})
				continue
			}
			l, err := g.List()
			// A list without entries is on no host, so nobody misses a newer one.
			if err != nil || l == nil || len(l.RevokedCertificateEntries) == 0 || pki.CRLDue(l).After(now) {
				continue
			}
			f := plan.Finding{Code: "crl-ends-soon", Severity: plan.Warning, Hint: hint, Text: fmt.Sprintf("the revocation list of authority %q ends %s; renew signs it anew", a.Name, date(l.NextUpdate))}
			if !l.NextUpdate.After(now) {
				f.Severity, f.Text = plan.Problem, fmt.Sprintf("the revocation list of authority %q ended %s: hosts go on using it, others may refuse every certificate", a.Name, date(l.NextUpdate))
			}
			out = append(out, f)
		}
	}
	return out
}
