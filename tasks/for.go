package tasks

import (
	"fmt"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// Options are what the user asked of a run beyond the configuration.
type Options struct {
	// Replace names tasks (certificate.libvirt-server) whose certificates are
	// made anew although nothing is wrong with them.
	Replace []string
	// Renew leaves out all but renewals: what is due, within windows and after
	// the pause that failures ask for.
	Renew bool
	// Lists leaves out all but revocation lists.
	Lists bool
	// Hosts are all hosts of the fleet, which conditions name.
	Hosts []inventory.Host
}

// For lists the tasks of one host in the order in which they are shown: the
// host itself, trust, certificates, settings, listener, firewall. Every authority that
// the policy uses must have an issuing generation in trust.
func For(h *inventory.Host, trust pki.Trust, opts Options) ([]plan.Task, error) {
	missing := trust.Missing(Authorities(h)...)
	if len(missing) > 0 {
		return nil, fmt.Errorf("authority %q has no certificate yet", missing[0])
	}
	b := build{host: h, trust: trust, opts: opts}
	out := []plan.Task{b.base()}
	switch {
	case opts.Renew:
		return b.renewals(out)
	case opts.Lists:
		return b.lists(out)
	}
	for _, t := range h.Policy.Trusts {
		task, err := b.trustFile(t)
		if err != nil {
			return nil, err
		}
		out = append(out, task)
		if t.CRL == "" {
			continue
		}
		l, err := b.crlFile(t)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	for _, s := range h.Policy.Stores {
		task, err := b.trustStore(s)
		if err != nil {
			return nil, err
		}
		out = append(out, task)
	}
	for _, c := range h.Policy.Certificates {
		task, err := b.certificate(c)
		if err != nil {
			return nil, err
		}
		out = append(out, task)
	}
	own := false
	for _, s := range h.Policy.Settings {
		out = append(out, b.settings(s))
		own = own || s.Path == libvirtdConf
	}
	if b.listens() && !own {
		out = append(out, b.daemonSettings())
	}
	if f := b.force(); f != nil {
		out = append(out, f)
	}
	for _, l := range h.Policy.Listeners {
		task, err := b.listener(l)
		if err != nil {
			return nil, err
		}
		out = append(out, task)
	}
	if f := h.Policy.Firewall; f != nil && f.Backend != "none" {
		out = append(out, b.firewall(f))
	}
	return out, nil
}

// Authorities lists the authorities that a host's policy uses, sorted.
func Authorities(h *inventory.Host) []string {
	var out []string
	for _, c := range h.Policy.Certificates {
		out = append(out, c.Authority)
	}
	for _, t := range h.Policy.Trusts {
		out = append(out, t.Authorities...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

type build struct {
	host  *inventory.Host
	trust pki.Trust
	opts  Options
}

// serverOf finds the certificate that libvirt's listener serves: the one for
// servers in libvirt's own directory.
func (b build) serverOf() (inventory.Certificate, bool) {
	for _, c := range b.host.Policy.Certificates {
		if c.Install.Directory == libvirtDir && slices.Contains(c.Usages, string(pki.UsageServer)) {
			return c, true
		}
	}
	return inventory.Certificate{}, false
}

func (b build) listens() bool { return len(b.host.Policy.Listeners) > 0 }

// port is where the policy's listener answers.
func (b build) port() int {
	for _, l := range b.host.Policy.Listeners {
		return l.Port
	}
	return defaultPort
}

// Where libvirt and its daemon look by default (libvirt.md §3.1). Other paths
// cannot be reloaded, so they are not managed (verified.md §3).
const (
	libvirtDir   = "/etc/pki/libvirt"
	libvirtTrust = "/etc/pki/CA/cacert.pem"
	defaultPort  = 16514
)

// slot is the name of an identity's tree: libvirt-server lives in server.
func slot(certificate string) string { return strings.TrimPrefix(certificate, "libvirt-") }

// libvirtVersion is the version of the host's libvirt package; empty when it
// is not known.
func libvirtVersion(h *facts.Host) string {
	return firstPackage(h, "libvirt-daemon", "libvirt-daemon-driver-qemu")
}
