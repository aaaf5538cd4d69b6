package tasks

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/conffile"
	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// qemuDir is where QEMU looks for credentials when nothing else is set.
const qemuDir = "/etc/pki/qemu"

// qemuDirs are the directories that QEMU reads credentials from, by purpose
// (libvirt.md §3.2). All but the first go before it for their purpose as soon
// as they exist.
var qemuDirs = []string{qemuDir, "/etc/pki/libvirt-migrate", "/etc/pki/libvirt-vnc", "/etc/pki/libvirt-spice", "/etc/pki/libvirt-chardev", "/etc/pki/libvirt-nbd", "/etc/pki/libvirt-backup"}

// qemuTrust is the bundle that QEMU reads in one of its directories.
func qemuTrust(dir string) string { return dir + "/ca-cert.pem" }

// qemuVersion is the version of the host's QEMU package; empty when it is not
// known.
func qemuVersion(h *facts.Host) string { return h.QEMU() }

// qemuPart is what an identity that QEMU reads needs beyond a certificate.
type qemuPart struct {
	ours []string // directories that this policy installs something in
	// shared says that libvirtd's bundle holds the authority of this identity.
	shared bool
}

func (b build) qemuPart(c inventory.Certificate) *qemuPart {
	if c.Install.Owner != inventory.QEMUAccount {
		return nil
	}
	q := &qemuPart{}
	for _, o := range b.host.Policy.Certificates {
		q.ours = append(q.ours, o.Install.Directory)
	}
	for _, t := range b.host.Policy.Trusts {
		q.ours = append(q.ours, path.Dir(t.Path))
		q.shared = q.shared || t.Path == libvirtTrust && slices.Contains(t.Authorities, c.Authority)
	}
	return q
}

func (q *qemuPart) needs() []facts.Query {
	return append(accountQueries(), statAll(qemuDirs)...)
}

// findings are what an operator should know of QEMU's credentials on a host.
func (q *qemuPart) findings(c *certificate, h *facts.Host, now time.Time) []plan.Finding {
	id := c.ID()
	var out []plan.Finding
	for _, d := range qemuDirs[1:] {
		if h.Path(d).Type == facts.Absent || slices.Contains(q.ours, d) {
			continue
		}
		purpose := strings.TrimPrefix(path.Base(d), "libvirt-")
		f := plan.Finding{Code: "shadowing-directory", Severity: plan.Warning, Task: id,
			Text: fmt.Sprintf("%s exists: QEMU takes its credentials for %s from there and not from %s", d, purpose, qemuDir),
			Hint: "remove the directory, or give it an identity of its own in the policy"}
		if purpose == "migrate" {
			f.Text = d + " exists: a daemon without migrate_tls_x509_cert_dir takes QEMU's credentials for migration from there"
		}
		out = append(out, f)
	}
	for _, d := range c.dirs() {
		if f := h.Path(d); f.Type == facts.Directory && f.Mode&0o001 == 0 {
			out = append(out, plan.Finding{Code: "directory-closed", Severity: plan.Problem, Task: id, Holds: true,
				Text: fmt.Sprintf("%s (%s:%s %04o) may keep QEMU from its credentials", d, f.Owner, f.Group, f.Mode), Hint: "chmod 0755 " + d})
		}
	}
	return append(out, q.opensLibvirt(c, h, now)...)
}

// opensLibvirt finds a key that QEMU, and so a guest that broke out, can read
// and whose certificate libvirtd accepts: root on every host of that domain.
func (q *qemuPart) opensLibvirt(c *certificate, h *facts.Host, now time.Time) []plan.Finding {
	f := plan.Finding{Code: "qemu-key-opens-libvirt", Severity: plan.Problem, Task: c.ID()}
	if q.shared {
		f.Text = fmt.Sprintf("authority %q signs for QEMU and libvirtd trusts it: who can read QEMU's key can log in to libvirtd as root", c.cert.Authority)
		f.Hint = "give QEMU an authority of its own, such as authority.qemu"
		return []plan.Finding{f}
	}
	cert, _ := h.Content(c.certPath())
	ca, _ := h.Content(libvirtTrust)
	if len(cert) == 0 || len(ca) == 0 {
		return nil
	}
	if v := pki.Judge(pki.Question{Rules: pki.LibvirtRules(libvirtVersion(h)), Role: pki.UsageClient, Now: now, Cert: cert, CA: ca}); !v.OK {
		return nil
	}
	f.Text = fmt.Sprintf("libvirtd accepts the certificate in %s, whose key QEMU can read: who can read it can log in as root", c.certPath())
	f.Hint = "apply replaces the pair; remove the old authority from " + libvirtTrust + " when no other host needs it"
	return []plan.Finding{f}
}

// migrationHost finds a name that a migration dials and that the certificate
// does not have.
func migrationHost(id plan.ID, file *conffile.File, names []string) []plan.Finding {
	v, set := file.Get("migration_host")
	text, _ := v.Str()
	if !set || text == "" || slices.Contains(names, strings.ToLower(text)) {
		return nil
	}
	return []plan.Finding{{Code: "migration-host-not-named", Severity: plan.Warning, Task: id,
		Text: fmt.Sprintf("%s sets migration_host = %q, which QEMU's certificate does not name: a migration with TLS to this host fails unless --tls-destination is given", qemuConf, text),
		Hint: "add it to the host's names or nics in the inventory, or take the line out"}}
}
