package tasks

import (
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
)

// layoutKind is how a host runs libvirt. Hosts that were upgraded in place keep
// the way of their first release, so it is looked at, never assumed
// (libvirt.md §4.1).
type layoutKind string

const (
	bySockets     layoutKind = "libvirtd's socket units"
	byListen      layoutKind = "libvirtd --listen"
	modular       layoutKind = "modular daemons"
	noLibvirt     layoutKind = "no libvirt"
	noProxy       layoutKind = "modular daemons without virtproxyd"
	modularListen layoutKind = "virtproxyd without its socket units"
)

// layout names the units and the file of a host's way to run libvirt.
type layout struct {
	kind     layoutKind
	listener string // the service that owns the TLS port
	qemu     string // the service that reads qemu.conf
	conf     string // what the listener's service reads
	socket   string // the listener's main socket unit
}

const (
	libvirtdService   = "libvirtd.service"
	libvirtdSocket    = "libvirtd.socket"
	libvirtdTLSSocket = "libvirtd-tls.socket"
	libvirtdTCPSocket = "libvirtd-tcp.socket"
	virtproxydService = "virtproxyd.service"
	virtproxydSocket  = "virtproxyd.socket"
	virtproxydTLS     = "virtproxyd-tls.socket"
	virtproxydTCP     = "virtproxyd-tcp.socket"
	virtqemudService  = "virtqemud.service"
	virtqemudSocket   = "virtqemud.socket"
	libvirtdConf      = "/etc/libvirt/libvirtd.conf"
	virtproxydConf    = "/etc/libvirt/virtproxyd.conf"
	virtqemudConf     = "/etc/libvirt/virtqemud.conf"
	packageOfLibvirt  = "libvirt-daemon-system or libvirt-daemon-driver-qemu"
	packageOfTheProxy = "libvirt-daemon-proxy"
)

// layoutQueries is what has to be known for layoutOf.
func layoutQueries() []facts.Query {
	var qs []facts.Query
	for _, u := range []string{
		libvirtdService, libvirtdSocket, libvirtdTLSSocket, libvirtdTCPSocket,
		virtproxydService, virtproxydSocket, virtproxydTLS, virtproxydTCP, virtqemudService, virtqemudSocket,
	} {
		qs = append(qs, facts.Unit(u))
	}
	return qs
}

func up(u facts.UnitInfo) bool { return u.Active == "active" || u.File == "enabled" }

func masked(u facts.UnitInfo) bool { return u.Load == "masked" || strings.HasPrefix(u.File, "masked") }

func missing(u facts.UnitInfo) bool { return u.Load == "" || u.Load == "not-found" }

func layoutOf(h *facts.Host) layout {
	l := layout{kind: bySockets, listener: libvirtdService, qemu: libvirtdService, conf: libvirtdConf, socket: libvirtdSocket}
	service := h.Units[libvirtdService]
	if q := h.Units[virtqemudSocket]; up(q) && (q.Active == "active" || h.Units[libvirtdSocket].Active != "active") || up(h.Units[virtqemudService]) && !up(service) {
		l = layout{kind: modular, listener: virtproxydService, qemu: virtqemudService, conf: virtproxydConf, socket: virtproxydSocket}
		switch proxy := h.Units[virtproxydService]; {
		case missing(proxy), masked(proxy):
			l.kind = noProxy
		case masked(h.Units[virtproxydSocket]):
			l.kind = modularListen
		}
		return l
	}
	switch {
	case missing(service), masked(service):
		l.kind = noLibvirt
	case runsListening(h), masked(h.Units[libvirtdSocket]):
		l.kind = byListen
	}
	return l
}

// runsListening reports whether libvirtd runs with --listen.
func runsListening(h *facts.Host) bool {
	args := h.Processes[h.Units[libvirtdService].MainPID]
	return slices.ContainsFunc(args, isListen)
}

// tls and tcp are the units of the listener's ports.
func (l layout) tls() string { return strings.TrimSuffix(l.socket, ".socket") + "-tls.socket" }
func (l layout) tcp() string { return strings.TrimSuffix(l.socket, ".socket") + "-tcp.socket" }

// program is the name of the daemon that listens, as virt-admin knows it.
func (l layout) program() string { return strings.TrimSuffix(l.listener, ".service") }

// reads is the service that reads a configuration file, at its start only;
// empty where no daemon of this layout does or none is known.
func (l layout) reads(path string) string {
	switch path {
	case l.conf:
		return l.listener
	case qemuConf:
		return l.qemu
	case virtqemudConf:
		if l.qemu == virtqemudService {
			return l.qemu
		}
	}
	return ""
}
