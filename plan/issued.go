package plan

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
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
	bundle := trustAfter(o, ops, seen)
	if bundle == nil {
		return nil
	}
	for _, u := range o.Profile.Usages {
		v := pki.Judge(pki.Question{
			Rules: pki.LibvirtRules(seen.Packages["libvirt-daemon"]), Role: u, Now: now, Key: req.Key(), CA: bundle,
			Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[0]}),
		})
		if !v.OK {
			return fmt.Errorf("libvirt on this host would refuse the new certificate as %s: %s", u, v.Problems[0].Text)
		}
	}
	return nil
}

// libvirtTrust is where libvirt looks for its authorities (libvirt.md §3.1).
const libvirtTrust = "/etc/pki/CA/cacert.pem"

// trustAfter is the bundle under which libvirt will judge the identity; nil
// where the identity is not libvirt's.
func trustAfter(o Enrol, ops Ops, seen *facts.Host) []byte {
	if !slices.ContainsFunc(o.Links, func(l PublicName) bool { return isLibvirt(l.Path) }) && !isLibvirt(o.Tree) {
		return nil
	}
	for _, op := range ops {
		if w, ok := op.(WriteFile); ok && w.Path == libvirtTrust {
			return w.Content
		}
	}
	content, _ := seen.Content(libvirtTrust)
	return content
}

func isLibvirt(p string) bool { return len(p) > len("/etc/pki/libvirt/") && p[:len("/etc/pki/libvirt/")] == "/etc/pki/libvirt/" }
