package inventory

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

func (l *loader) decodeAuthorities() {
	for _, d := range l.order["authority"] {
		for _, i := range d.instances {
			r := l.instanceReader(d.node, i)
			v := Authority{Name: i.name, Source: sourceRange(d.node.rng)}
			v.Kind = r.word("kind", "local", "local", "exec", "offline", "step", "vault")
			r.external(&v)
			if r.word("per", "fleet", "fleet", "cluster") == "cluster" {
				if v.External() {
					r.bad = true
					l.errorAt(d.node.attrs["per"].expr.Range(), "Authority of each cluster elsewhere", fmt.Sprintf("An authority of kind %q is one CA. Declare one for each cluster, and bind them in a policy of its own.", v.Kind))
				}
				l.spread[v.Name] = &perCluster{d.node, map[string]bool{}}
			}
			org, at, ok := r.text("organization", "")
			if err := checkOrganization(org, v.Name); ok && err != nil {
				r.problem(at, "Unfit organization", "It becomes part of certificates' subjects. "+sentence(err.Error()))
			}
			v.Organization = org
			if !v.External() {
				v.PassphraseFrom = r.secret("passphrase_from")
			}
			key := &node{spec: keySpec}
			if k := d.node.find("key", ""); k != nil {
				key = k
			}
			k := r.child(key, "key.")
			v.KeyAlgorithm = k.word("algorithm", "ecdsa-p256", "ecdsa-p256")
			v.Lifetime, at = r.duration("lifetime", pki.DefaultCALifetime)
			if v.Lifetime < 24*time.Hour {
				r.problem(at, "Unfit lifetime of an authority", "Give it a day at least; years are usual.")
			}
			v.Directory = filepath.Join(l.fleet.Dir, "authorities", v.Name)
			v.KeyDirectory = r.localPath("key_directory", v.Directory)
			l.fleet.Authorities = append(l.fleet.Authorities, v)
			if !r.bad && plainName.MatchString(v.Name) && l.spread[v.Name] == nil {
				l.noteFiles(&v, d.node)
			}
		}
	}
}

// noteFiles says what an authority lacks before the first plan.
func (l *loader) noteFiles(v *Authority, n *node) {
	certificates, requests := l.authorityFiles(v.Name)
	switch {
	case requests > 0:
		l.noteAt(n.labelRange(), fmt.Sprintf("Authority %q waits for a certificate", v.Name), "When its request is signed, bring the certificate in with virtrust ca import.")
	case certificates > 0:
	case v.External():
		l.noteAt(n.labelRange(), fmt.Sprintf("Authority %q has no files yet", v.Name), "Bring its certificate in with virtrust ca import before the first plan.")
	default:
		l.noteAt(n.labelRange(), fmt.Sprintf("Authority %q has no files yet", v.Name), "Run virtrust ca init before the first plan.")
	}
}

// authorityFiles counts an authority's public files where they belong.
func (l *loader) authorityFiles(name string) (certificates, requests int) {
	dir, err := l.src.root.Open("authorities/" + name)
	if err != nil {
		return 0, 0
	}
	defer dir.Close()
	// A directory that cannot be listed holds nothing for us.
	entries, _ := dir.ReadDir(1000)
	for _, e := range entries {
		switch n := e.Name(); {
		case strings.HasPrefix(n, "g") && strings.HasSuffix(n, ".crt"):
			certificates++
		case strings.HasPrefix(n, "g") && strings.HasSuffix(n, ".csr"):
			requests++
		}
	}
	return certificates, requests
}

// checkOrganization says what makes an organization unfit for the subjects of
// an authority and its certificates. The authority's own common name holds it
// too, with the number of the generation.
func checkOrganization(org, authority string) error {
	if err := pki.CheckSubjectText(org); err != nil {
		return err
	}
	return pki.CheckSubjectText(pki.CAProfile{Organization: org, Name: authority, Number: 999}.CommonName())
}

// secret reads where a secret comes from. It opens nothing.
func (r *reader) secret(name string) string {
	s, i, ok := r.text(name, "prompt")
	if !ok {
		return s
	}
	kind, rest, colon := strings.Cut(s, ":")
	switch {
	case s == "prompt":
	case colon && rest != "" && (kind == "env" || kind == "file" || kind == "command"):
		if kind == "env" && !envName.MatchString(rest) {
			r.problem(i, "Unfit name of an environment variable", "Write env:NAME, with letters, digits and _ in the name.")
		}
	default:
		// The text may be a passphrase, so it is not repeated.
		r.bad = true
		r.l.diags.add(Diagnostic{Severity: SeverityError, Summary: "Unfit source of a secret", Source: span(i.rng), secret: true, Detail: `Write "prompt", "env:NAME", "file:PATH" or "command:…". A secret itself does not belong into the configuration.`})
		return "prompt"
	}
	return s
}
