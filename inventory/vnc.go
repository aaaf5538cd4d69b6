package inventory

import (
	"fmt"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/conffile"
)

// vncListener is the label of the listener block that encrypts the VNC
// consoles of guests.
const vncListener = "vnc"

// The keys of qemu.conf that follow from listener "vnc".
const (
	qemuConf      = "/etc/libvirt/qemu.conf"
	vncTLSKey     = "vnc_tls"
	vncDirKey     = "vnc_tls_x509_cert_dir"
	vncVerifyKey  = "vnc_tls_x509_verify"
	vncTrustName  = "ca-cert.pem"
	vncServerCert = "server-cert.pem"
	vncServerKey  = "server-key.pem"
)

// vnc reads listener "vnc". On which address and port consoles answer is the
// guests' own and qemu.conf's matter.
func (r *reader) vnc() *VNC {
	v := &VNC{Source: sourceRange(r.n.rng)}
	for _, name := range []string{"port", "mode"} {
		if i, ok := r.value(name); ok {
			r.problem(i, "Unfit "+name, "Each guest has its own port: leave "+name+" out. Addresses and ports are set by vnc_listen, remote_display_port_min and remote_display_port_max of qemu.conf, in a settings block.")
		}
	}
	if r.n.attrs["verify"] != nil {
		if _, ok := r.value("verify"); ok {
			on := r.flag("verify", false)
			v.Verify = &on
		}
	}
	return v
}

// vncSettings adds to a host's policy what qemu.conf has to say of consoles,
// and refuses what QEMU would not find.
func (l *loader) vncSettings(p *policy, v *Policy) {
	if p.vncDone && p.vncBad {
		return
	}
	fail := func(summary, detail string) {
		if !p.vncDone {
			l.errorAt(p.merged.find("listener", vncListener).rng, summary, detail)
		}
		p.vncBad = true
	}
	defer func() { p.vncDone = true }()
	i := slices.IndexFunc(v.Certificates, func(c Certificate) bool { return c.NeededFor == ForVNC })
	if i < 0 {
		if len(p.unbound[ForVNC]) == 0 {
			fail("Consoles without a certificate", `Give the policy a certificate with needed_for = "vnc", as template "libvirt" has it.`)
		}
		return
	}
	c := v.Certificates[i]
	dir := c.Install.Directory
	switch {
	case c.Install.Cert != vncServerCert || c.Install.Key != vncServerKey:
		fail("Certificate that QEMU does not find", fmt.Sprintf("QEMU looks for %s and %s. Install certificate %q under these names.", vncServerCert, vncServerKey, c.Name))
		return
	case !slices.ContainsFunc(v.Trusts, func(t TrustFile) bool { return t.Path == dir+"/"+vncTrustName }):
		fail("Consoles without authorities", fmt.Sprintf("QEMU does not start a guest without %s/%s. Add a trust block for it.", dir, vncTrustName))
		return
	}
	add := []Setting{
		{Key: vncDirKey, Value: conffile.String(dir), NeededFor: ForVNC, Source: v.VNC.Source},
		{Key: vncTLSKey, Value: conffile.Bool(true), NeededFor: ForVNC, Source: v.VNC.Source},
	}
	if v.VNC.Verify != nil {
		add = append(add, Setting{Key: vncVerifyKey, Value: conffile.Bool(*v.VNC.Verify), NeededFor: ForVNC, Source: v.VNC.Source})
	}
	at := slices.IndexFunc(v.Settings, func(s Settings) bool { return s.Path == qemuConf })
	if at < 0 {
		at = len(v.Settings)
		v.Settings = append(v.Settings, Settings{Path: qemuConf, Source: v.VNC.Source})
	}
	s := &v.Settings[at]
	for _, have := range s.Values {
		if slices.ContainsFunc(add, func(a Setting) bool { return a.Key == have.Key }) {
			fail("Setting that follows from listener \"vnc\"", fmt.Sprintf("%s is set at %s, too. Leave it out there.", have.Key, have.Source))
			return
		}
	}
	for _, a := range add {
		a.Text = a.Value.String()
		s.Values = append(s.Values, a)
	}
	slices.SortFunc(s.Values, func(a, b Setting) int { return strings.Compare(a.Key, b.Key) })
}
