package inventory

import (
	"fmt"
	"path"
	"slices"
)

// formatPEM is the form of a bundle that libvirt and QEMU read.
const formatPEM = "pem"

// trustFormat reads the form of a bundle. A file that is named as a store and is
// none would be a mistake, and so would a store that libvirt looks for.
func (r *reader) trustFormat() string {
	format := r.word("format", formatPEM, formatPEM, "pkcs12", "jks")
	name := r.n.label()
	likely := map[string]string{".p12": "pkcs12", ".pfx": "pkcs12", ".jks": "jks"}[path.Ext(name)]
	switch a := r.n.attrs["format"]; {
	case a == nil && likely != "":
		r.bad = true
		r.l.errorAt(r.n.labelRange(), "Trust store without a format", fmt.Sprintf("The file would hold PEM. Write format = %q in the block, or \"pem\" if that is meant.", likely))
	case format != formatPEM && crlBeside(name) != "":
		r.bad = true
		r.l.errorAt(a.expr.Range(), "Trust store that nobody reads", "libvirt and QEMU read this file, and they read PEM alone.")
	case format != formatPEM && r.n.attrs["crl"] != nil:
		r.bad = true
		r.l.errorAt(r.n.attrs["crl"].expr.Range(), "Revocation list beside a trust store", "Programs that read such a store do not look for a list there. Remove the attribute.")
	}
	return format
}

// store is a trust block in another form than PEM.
func (t TrustFile) store(format string) TrustStore {
	return TrustStore{Path: t.Path, Format: format, Authorities: t.Authorities, Foreign: t.Foreign, NeededFor: t.NeededFor, Source: t.Source}
}

func (l *loader) trust(r *reader, places map[string]*node) TrustFile {
	t := TrustFile{Path: r.n.label(), Source: sourceRange(r.n.rng)}
	if problem := checkPath(t.Path, true); problem != "" {
		r.bad = true
		l.errorAt(r.n.labelRange(), "Unfit path", problem)
	} else {
		l.place(r, places, t.Path, r.n, r.n.labelRange())
	}
	refs, _, ok := r.references("authorities", "authority")
	for _, x := range refs {
		if !slices.Contains(t.Authorities, x.name) {
			t.Authorities = append(t.Authorities, x.name)
		}
	}
	switch {
	case !ok && !r.bad:
		r.missing("authorities", "authorities = [authority.NAME]")
	case ok && !r.bad && len(refs) == 0:
		a := r.n.attrs["authorities"]
		r.bad = true
		l.errorAt(a.expr.Range(), "Trust in nobody", "The file would hold no authority, and nothing could be verified. Name one, or drop the block with enabled = false.")
	case len(refs) > maxBundle && r.n.attrs["format"] == nil:
		a := r.n.attrs["authorities"]
		r.bad = true
		l.errorAt(a.expr.Range(), "Too many authorities", fmt.Sprintf("libvirt and QEMU read the first %d certificates of such a file and ignore the others in silence.", maxBundle))
	}
	if t.CRL = r.path_("crl", true); t.CRL != "" {
		rng := r.n.attrs["crl"].expr.Range()
		if fit := crlBeside(t.Path); fit != "" && t.CRL != fit && r.n.attrs["crl"].scope.template == "" {
			r.bad = true
			l.errorAt(rng, "Revocation list that nobody reads", fmt.Sprintf("Programs that read %s look for revocation lists in %s alone.", t.Path, fit))
		}
		if !r.bad {
			l.place(r, places, t.CRL, r.n, rng)
		}
	}
	t.Foreign = r.word("foreign", "keep", "keep", "remove")
	t.NeededFor = r.neededFor()
	return t
}

// crlBeside is where libvirt and QEMU look for revocation lists beside a bundle
// (libvirt.md §3); empty for a file of another name.
func crlBeside(bundle string) string {
	switch dir, name := path.Split(bundle); name {
	case "cacert.pem":
		return dir + "cacrl.pem"
	case "ca-cert.pem":
		return dir + "ca-crl.pem"
	}
	return ""
}

// maxBundle is how many certificates of a CA file libvirt's and QEMU's own
// check reads.
const maxBundle = 16

// checkIssuersTrusted warns of a certificate whose authority stands in no
// trust file of its policy: libvirtd does not start when its own certificate
// has no known issuer.
func (l *loader) checkIssuersTrusted(p *policy) {
	for _, c := range p.value.Certificates {
		trusted := slices.ContainsFunc(p.value.Trusts, func(t TrustFile) bool { return slices.Contains(t.Authorities, c.Authority) })
		if trusted {
			continue
		}
		n := p.merged.find("certificate", c.Name)
		rng := n.rng
		if a := n.attrs["authority"]; a != nil && a.scope.template == "" {
			rng = a.expr.Range()
		}
		l.warnAt(rng, "Issuer not trusted", fmt.Sprintf(
			"Policy %q gives its hosts certificate %q of authority %q, and no trust file of the policy holds that authority. A daemon refuses its own certificate when it does not know the issuer. Add the authority to a trust block.",
			p.value.Name, c.Name, c.Authority))
	}
}
