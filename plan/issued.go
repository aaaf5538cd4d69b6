package plan

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
)

// checkIssued judges a signed chain before anything of it is installed: it
// must be for the request's key, be what the profile says, and be accepted by
// the libvirt and QEMU of that host under the bundle that the same plan
// leaves there.
func checkIssued(o Enrol, csr []byte, chain [][]byte, ops Ops, seen *facts.Host, now time.Time) error {
	req, err := pki.ParseCSR(csr)
	if err != nil {
		return fmt.Errorf("the host's request: %w", err)
	}
	if len(chain) == 0 {
		return fmt.Errorf("authority %q gave no certificate", o.Authority)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fmt.Errorf("what authority %q gave: %w", o.Authority, err)
	}
	if k, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(req.Key()) {
		return fmt.Errorf("authority %q signed another key than the host's", o.Authority)
	}
	if d := pki.Compare(leaf, o.Profile, []string{o.Issuer}); len(d) > 0 {
		return fmt.Errorf("authority %q gave another certificate than asked for: %s is %s, wanted %s", o.Authority, d[0].Field, d[0].Have, d[0].Want)
	}
	bundle, consumer := trustAfter(o, ops, seen)
	if bundle == nil {
		return nil
	}
	rules := pki.LibvirtRules(seen.Packages["libvirt-daemon"])
	if consumer == pki.ConsumerQEMU {
		rules = pki.QEMURules(seen.QEMU())
	}
	for _, u := range o.Profile.Usages {
		v := pki.Judge(pki.Question{
			Rules: rules, Role: u, Now: now, Key: req.Key(), CA: bundle,
			Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[0]}),
		})
		if !v.OK {
			return fmt.Errorf("%s on this host would refuse the new certificate as %s: %s", consumer, u, v.Problems[0].Text)
		}
	}
	return nil
}

// libvirtTrust is where libvirt looks for its authorities (libvirt.md §3.1).
const libvirtTrust = "/etc/pki/CA/cacert.pem"

// trustAfter is the bundle under which the program that reads the identity
// will judge it, and which program that is; nil where nobody knows one.
func trustAfter(o Enrol, ops Ops, seen *facts.Host) ([]byte, pki.Consumer) {
	bundle, consumer := libvirtTrust, pki.ConsumerLibvirt
	switch {
	case o.Check != nil:
		bundle, consumer = o.Check.Directory+"/ca-cert.pem", pki.ConsumerQEMU
	case !slices.ContainsFunc(o.Links, func(l PublicName) bool { return isLibvirt(l.Path) }) && !isLibvirt(o.Tree):
		return nil, ""
	}
	for _, op := range ops {
		if w, ok := op.(WriteFile); ok && w.Path == bundle {
			return w.Content, consumer
		}
	}
	content, _ := seen.Content(bundle)
	return content, consumer
}

func isLibvirt(p string) bool { return strings.HasPrefix(p, "/etc/pki/libvirt/") }
