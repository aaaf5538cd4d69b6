package tasks

import (
	"slices"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// peer is another host that a condition may name.
type peer struct {
	name string
	away *inventory.Away
}

// named lists the peers that a condition names now: those that are away are
// out of it until their date.
func named(peers []peer, now time.Time) []string {
	var out []string
	for _, p := range peers {
		if p.away == nil || now.After(p.away.Until) {
			out = append(out, p.name)
		}
	}
	return out
}

// when is the condition over those peers; nil when it names nobody.
func when(c plan.Condition, peers []peer, now time.Time) *plan.Condition {
	c.Hosts = named(peers, now)
	if len(c.Hosts) == 0 {
		return nil
	}
	return &c
}

// domain lists the other hosts whose policy trusts an authority, in whatever
// cluster.
func (b build) domain(authority string) []peer {
	return b.others(func(h *inventory.Host) bool {
		return slices.ContainsFunc(h.Policy.Trusts, func(t inventory.TrustFile) bool { return slices.Contains(t.Authorities, authority) })
	})
}

// members lists the other hosts of the cluster, which exchange guests with
// this one; of a host without a cluster its trust domain.
func (b build) members(authority string) []peer {
	if b.host.Cluster == "" {
		return b.domain(authority)
	}
	return b.others(func(h *inventory.Host) bool { return h.Cluster == b.host.Cluster })
}

func (b build) others(is func(*inventory.Host) bool) []peer {
	var out []peer
	for i := range b.opts.Hosts {
		h := &b.opts.Hosts[i]
		if h.Name != b.host.Name && is(h) {
			out = append(out, peer{h.Name, h.Away})
		}
	}
	return out
}

// Dials reports whether policy lets a client on one host log in to libvirt of
// another: each has an authority of the other's in its bundle. Where a policy
// has no such certificate, what is on the host decides, and the answer is yes.
func Dials(from, to *inventory.Host) bool {
	knows := func(h *inventory.Host, authority string) bool {
		for _, t := range h.Policy.Trusts {
			if t.Path == libvirtTrust {
				return slices.Contains(t.Authorities, authority)
			}
		}
		return true
	}
	for _, c := range from.Policy.Certificates {
		if c.Install.Directory == libvirtDir && slices.Contains(c.Usages, string(pki.UsageClient)) && !knows(to, c.Authority) {
			return false
		}
	}
	server, ok := build{host: to}.serverOf()
	return !ok || knows(from, server.Authority)
}
