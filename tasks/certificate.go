package tasks

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// certificate is one identity of a host: a key made there, its certificate,
// and the public names under which programs find them.
type certificate struct {
	cert    inventory.Certificate
	host    string
	profile pki.Profile
	issuer  pki.Generation
	// authority is the one that signs, with all generations.
	authority pki.Authority
	replace   bool
	serves    bool // libvirtd's listener shows this one
	port      int
	qemu      *qemuPart // nil where QEMU does not read it
	console   bool      // the VNC consoles of guests show this one
	// renewal is set where only renewals are wanted.
	renewal *renewal
	// rolling says that an older generation of the authority is still trusted;
	// peers are the other hosts that have to know the new one then.
	rolling bool
	peers   []peer

	// read is what leaf parsed last: it is asked several times of one look.
	read atomic.Pointer[readLeaf]
}

type readLeaf struct {
	content []byte
	leaf    *x509.Certificate
}

func (b build) certificate(c inventory.Certificate) (*certificate, error) {
	a, _ := b.trust.Authority(c.Authority)
	g, ok := a.Issuing()
	if !ok {
		return nil, fmt.Errorf("authority %q has no generation that signs", c.Authority)
	}
	issuer, err := x509.ParseCertificate(g.Cert)
	if err != nil {
		return nil, fmt.Errorf("authority %q: %w", c.Authority, err)
	}
	server, isServer := b.serverOf()
	out := &certificate{
		cert: c, host: b.host.Name, issuer: g, authority: a, port: b.port(), qemu: b.qemuPart(c),
		serves:  b.listens() && isServer && server.Name == c.Name,
		console: c.NeededFor == inventory.ForVNC,
		replace: slices.Contains(b.opts.Replace, "certificate."+c.Name),
		profile: pki.Profile{
			Name: c.Name, CommonName: b.host.Name, DNSNames: c.DNSNames, IPs: c.IPs,
			KeyAlgorithm: pki.KeyAlgorithm(c.KeyAlgorithm), KeyUsage: pki.KeyUsage(c.KeyUsage), Lifetime: c.Lifetime,
			OrganizationalUnit: c.Name,
		},
	}
	for _, t := range a.Trusted() {
		out.rolling = out.rolling || t.Number < g.Number
	}
	if out.rolling {
		out.peers = b.domain(c.Authority)
	}
	if out.profile.Foreign = c.Foreign; c.Foreign {
		out.profile.OrganizationalUnit = ""
	} else if len(issuer.Subject.Organization) > 0 {
		out.profile.Organization = issuer.Subject.Organization[0]
	}
	for _, u := range c.Usages {
		out.profile.Usages = append(out.profile.Usages, pki.Usage(u))
	}
	if err := out.profile.Validate(); err != nil {
		return nil, fmt.Errorf("host %q, certificate %q: %w", b.host.Name, c.Name, err)
	}
	return out, nil
}

func (c *certificate) ID() plan.ID { return plan.ID("certificate." + c.cert.Name) }
func (c *certificate) certPath() string {
	return path.Join(c.cert.Install.Directory, c.cert.Install.Cert)
}
func (c *certificate) keyPath() string {
	return path.Join(c.cert.Install.Directory, c.cert.Install.Key)
}
func (c *certificate) tree() string {
	return path.Join(c.cert.Install.Directory, ".virtrust", slot(c.cert.Name))
}

// names are the public names and the links they should be.
func (c *certificate) names() []plan.PublicName {
	rel := func(p, file string) plan.PublicName {
		up := strings.Repeat("../", strings.Count(strings.TrimPrefix(path.Dir(p), c.cert.Install.Directory), "/"))
		return plan.PublicName{Path: p, Target: up + ".virtrust/" + slot(c.cert.Name) + "/current/" + file}
	}
	out := []plan.PublicName{rel(c.certPath(), "cert.pem"), rel(c.keyPath(), "key.pem")}
	for _, a := range c.cert.Install.Aliases {
		dir := c.cert.Install.Directory
		out = append(out, rel(path.Join(dir, a.Cert), "cert.pem"), rel(path.Join(dir, a.Key), "key.pem"))
	}
	return out
}

// trustPath is the bundle beside which the identity is used.
func (c *certificate) trustPath() string {
	if c.qemu != nil {
		return qemuTrust(c.cert.Install.Directory)
	}
	return libvirtTrust
}

// rules are those of the program that reads the identity.
func (c *certificate) rules(h *facts.Host) pki.Rules {
	if c.qemu != nil {
		return pki.QEMURules(qemuVersion(h))
	}
	return pki.LibvirtRules(libvirtVersion(h))
}

// reader names that program and its version, for people.
func (c *certificate) reader(h *facts.Host) string {
	if c.qemu != nil {
		return "QEMU " + qemuVersion(h)
	}
	return "libvirt " + libvirtVersion(h)
}

// access is who may read the key on this host.
func (c *certificate) access(h *facts.Host) (access, []plan.Finding) {
	in := c.cert.Install
	if c.qemu == nil {
		return access{in.Owner, in.Group, in.KeyMode}, nil
	}
	a, why := qemuAccount(h)
	if why != "" {
		return access{}, []plan.Finding{noAccount(c.ID(), why)}
	}
	return a.keyAccess(), nil
}

// exposed says what is wrong with the access to the key in place.
func (c *certificate) exposed(h *facts.Host, f facts.Path) string {
	in := c.cert.Install
	if c.qemu != nil {
		a, why := qemuAccount(h)
		if why != "" {
			return ""
		}
		return a.exposed(f)
	}
	if f.Mode&0o077&^in.KeyMode != 0 {
		return fmt.Sprintf("others could read the key (mode %04o)", f.Mode)
	}
	if f.Owner != in.Owner || f.Group != in.Group {
		return fmt.Sprintf("the key belongs to %s:%s", f.Owner, f.Group)
	}
	return ""
}

func (c *certificate) dirs() []string {
	var dirs []string
	for _, n := range c.names() {
		dirs = append(dirs, parents(n.Path)...)
	}
	dirs = append(dirs, parents(c.tree())...)
	dirs = append(dirs, c.tree())
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

func (c *certificate) Needs() []facts.Query {
	qs := statAll(c.dirs())
	qs = append(qs, facts.Content(c.certPath()), facts.Key(c.keyPath()), facts.Dir(c.tree()), facts.Stat(c.tree()+"/current"), facts.Content(c.trustPath()))
	for _, n := range c.names()[2:] {
		qs = append(qs, facts.Stat(n.Path))
	}
	if c.qemu != nil {
		qs = append(qs, facts.Content(libvirtTrust))
		qs = append(qs, c.qemu.needs()...)
	}
	if c.serves {
		qs = append(qs, facts.Listening())
		qs = append(qs, layoutQueries()...)
	}
	if c.console {
		qs = append(qs, facts.Consoles())
	}
	return qs
}

// leaf is the certificate that programs find today.
func (c *certificate) leaf(h *facts.Host) *x509.Certificate {
	content, _ := h.Content(c.certPath())
	if r := c.read.Load(); r != nil && bytes.Equal(r.content, content) {
		return r.leaf
	}
	r := &readLeaf{content: content}
	if b := pki.ParseBundle(content); len(b.Certs) > 0 {
		r.leaf = b.Certs[0]
	}
	c.read.Store(r)
	return r.leaf
}

// Due is when the certificate in place wants renewal.
func (c *certificate) Due(h *facts.Host) (time.Time, bool) {
	leaf := c.leaf(h)
	if leaf == nil {
		return time.Time{}, false
	}
	return pki.Due(leaf.NotBefore, leaf.NotAfter, c.cert.RenewBefore, c.cert.Lifetime, c.host, c.cert.Name), true
}

// decide says whether a new certificate is wanted, or the one in place only to
// be taken up.
func (c *certificate) decide(h *facts.Host, now time.Time) pki.Decision {
	s := pki.Situation{
		Now: now, HostNow: h.Clock, Host: c.host, Profile: c.profile, RenewBefore: c.cert.RenewBefore, Authority: c.authority,
		Leaf: c.leaf(h), Asked: c.replace,
	}
	s.Unfit = c.unfit(h, s.Leaf)
	for _, n := range c.names() {
		if at := h.Path(n.Path); s.Drift == "" && (at.Type != facts.Symlink || at.Target != n.Target) {
			s.Drift = "drift: " + n.Path + " is not the link to the managed pair"
		}
	}
	if seen, looked := h.Served[servedAt(c.port)]; looked && c.serves && listening(h, c.port) && len(seen.Chain) > 0 {
		s.Served = seen.Chain[0]
	}
	return pki.Decide(s)
}

// unfit says why the pair in place is of no use; empty where it is fit.
func (c *certificate) unfit(h *facts.Host, leaf *x509.Certificate) string {
	key, haveKey := h.PublicKey(c.keyPath())
	_, keyFile, _ := h.Resolve(c.keyPath())
	switch {
	case leaf == nil && h.Path(c.certPath()).Type == facts.Absent:
		return "new"
	case leaf == nil:
		return "there is no certificate in " + c.certPath()
	case keyFile.Type == facts.Absent:
		return "the key is missing"
	case !haveKey:
		return "the key cannot be read"
	case !sameKey(leaf, key):
		return "the key does not belong to the certificate"
	}
	return c.exposed(h, keyFile)
}

func (c *certificate) Diff(h *facts.Host, now time.Time) ([]plan.Op, []plan.Finding) {
	id := c.ID()
	links := c.names()
	var found []plan.Finding
	for i := range links {
		at := h.Path(links[i].Path)
		if !replaceable(at) {
			found = append(found, inTheWay(id, links[i].Path, at, "a certificate or its key"))
		}
		links[i].Before = plan.StateOf(at)
	}
	current := h.Path(c.tree() + "/current")
	if current.Type != facts.Absent && current.Type != facts.Symlink {
		found = append(found, inTheWay(id, c.tree()+"/current", current, "a link"))
	}
	ops, dirFindings := makeDirs(h, id, plan.WaveIdentity, c.dirs())
	found = append(found, dirFindings...)
	who, noAccess := c.access(h)
	found = append(found, noAccess...)
	if len(found) > 0 {
		return nil, found
	}
	if c.qemu != nil {
		found = c.qemu.findings(c, h, now)
	}
	leaf := c.leaf(h)
	d := c.decide(h, now)
	reason := ""
	if d.Issue {
		reason = d.Reason
	}
	consoles, plain := c.consoles(h, leaf, reason)
	found = append(found, plain...)
	if !d.Issue {
		if extra := pki.Excess(leaf, c.profile); len(extra) > 0 {
			found = append(found, plan.Finding{
				Code: "usage-too-wide", Severity: plan.Warning, Task: id,
				Text: fmt.Sprintf("%s may also be used as %s, which was not asked for: authority %q gives that to everything it signs", c.certPath(), extra[0], c.cert.Authority),
				Hint: "let the authority's template or role follow the usages of the request",
			})
		}
		if d.Reload {
			ops = append(ops, plan.Activate{Meta: plan.Meta{Task: id, Wave: plan.WaveIdentity, Reason: d.Reason}, Unit: layoutOf(h).listener, How: plan.Reload})
		}
		return append(ops, consoles...), append(found, c.silent(h)...)
	}
	issuer, _ := x509.ParseCertificate(c.issuer.Cert)
	if end := now.Add(c.cert.Lifetime); issuer != nil && end.After(issuer.NotAfter) {
		found = append(found, plan.Finding{
			Code: "ca-ends-first", Severity: plan.Warning, Task: id,
			Text: fmt.Sprintf("authority %q ends %s, before a certificate of %s would: it is signed until then", c.cert.Authority, date(issuer.NotAfter), days(c.cert.Lifetime)),
			Hint: "make a new generation of the authority in time",
		})
	}
	meta := plan.Meta{Task: id, Wave: plan.WaveIdentity, Reason: d.Reason, When: c.when(leaf, now)}
	enrol := plan.Enrol{
		Meta: meta, Certificate: c.cert.Name, Authority: c.cert.Authority, Issuer: c.issuer.SubjectKeyID, Profile: c.profile,
		Tree: c.tree(), Generation: c.nextGeneration(h), Owner: who.owner, Group: who.group, KeyMode: who.mode,
		Current: plan.StateOf(current), Old: leafOf(leaf),
	}
	if c.renewal != nil {
		if f := c.renewal.holds(c, d, enrol.Wish(), now); f != nil {
			return nil, append(found, *f)
		}
	}
	if c.qemu != nil {
		a, _ := qemuAccount(h)
		enrol.Check = &plan.Check{Directory: c.cert.Install.Directory, User: a.user, Group: a.group}
	}
	for _, l := range links {
		if l.Before.Target != l.Target {
			enrol.Links = append(enrol.Links, l)
		}
	}
	// Both files exist under names that are not ours yet: they are taken over
	// as a pair before the names become links.
	_, key, keyOK := h.Resolve(c.keyPath())
	if leaf != nil && keyOK && key.Type == facts.Regular && len(enrol.Links) > 0 {
		enrol.Adopt = &plan.Adopt{Cert: c.certPath(), Key: c.keyPath()}
	}
	ops = append(ops, enrol)
	if c.serves && listening(h, c.port) {
		ops = append(ops, plan.Activate{Meta: meta, Unit: layoutOf(h).listener, How: plan.Reload})
	}
	for _, o := range consoles {
		a := o.(plan.Activate)
		a.Meta = meta
		ops = append(ops, a)
	}
	return ops, found
}

// silent finds a listener that shows no certificate.
func (c *certificate) silent(h *facts.Host) []plan.Finding {
	seen, looked := h.Served[servedAt(c.port)]
	if !c.serves || !listening(h, c.port) || !looked || len(seen.Chain) > 0 {
		return nil
	}
	return []plan.Finding{{
		Code: "listener-silent", Severity: plan.Problem, Task: c.ID(),
		Text: fmt.Sprintf("port %d is open and shows no certificate: %s", c.port, seen.Problem),
		Hint: "look at `journalctl -u " + layoutOf(h).program() + "` on the host",
	}}
}

// nextGeneration is one more than the highest number in the tree.
func (c *certificate) nextGeneration(h *facts.Host) string {
	highest := 0
	for _, e := range h.Dirs[c.tree()] {
		if n, err := strconv.Atoi(e); err == nil && n > highest && n < 1<<30 {
			highest = n
		}
	}
	return strconv.Itoa(highest + 1)
}

// servedAt is the key under which the look beside the script stands in facts.
func servedAt(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func sameKey(leaf *x509.Certificate, der []byte) bool {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return false
	}
	k, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(pub)
}

func leafOf(c *x509.Certificate) *plan.Leaf {
	if c == nil {
		return nil
	}
	l := plan.LeafOf(c)
	return &l
}

func days(d time.Duration) string { return fmt.Sprintf("%d days", int(d.Hours()/24)) }

// Concerns is the authority that signs the identity.
func (c *certificate) Concerns() []string { return []string{c.cert.Authority} }

// Shows is the issuer of the certificate that the listener shows, or of the one
// that programs find.
func (c *certificate) Shows(h *facts.Host) string {
	leaf := c.leaf(h)
	if seen := h.Served[servedAt(c.port)]; c.serves && len(seen.Chain) > 0 {
		if served, err := x509.ParseCertificate(seen.Chain[0]); err == nil {
			leaf = served
		}
	}
	if leaf == nil {
		return ""
	}
	return fmt.Sprintf("%x", leaf.AuthorityKeyId)
}

// when keeps a leaf of a new generation back until every peer of the trust
// domain has that generation loaded. A leaf that follows one of the same
// generation, and one of an authority that has only one, wait for nobody.
func (c *certificate) when(leaf *x509.Certificate, now time.Time) *plan.Condition {
	if !c.rolling || leaf != nil && fmt.Sprintf("%x", leaf.AuthorityKeyId) == c.issuer.SubjectKeyID {
		return nil
	}
	return when(plan.Condition{Kind: plan.Trusted, Authority: c.cert.Authority, CA: c.issuer.SubjectKeyID, Certificate: c.cert.Name}, c.peers, now)
}
