package tasks

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// listener is libvirtd's TLS port.
type listener struct {
	want   inventory.Listener
	server *certificate // what it will serve
}

func (b build) listener(l inventory.Listener) (plan.Task, error) {
	c, ok := b.serverOf()
	if !ok {
		return nil, fmt.Errorf("listener %q: the policy has no server certificate in %s", l.Name, libvirtDir)
	}
	task, err := b.certificate(c)
	if err != nil {
		return nil, err
	}
	return &listener{want: l, server: task}, nil
}

func (l *listener) ID() plan.ID { return plan.ID("listener." + l.want.Name) }

const (
	libvirtdSocket    = "libvirtd.socket"
	libvirtdTLSSocket = "libvirtd-tls.socket"
	libvirtdTCPSocket = "libvirtd-tcp.socket"
	virtproxydSocket  = "virtproxyd-tls.socket"
	virtqemudSocket   = "virtqemud.socket"
)

func (l *listener) Needs() []facts.Query {
	return append(l.server.Needs(),
		facts.Unit(libvirtdService), facts.Unit(libvirtdSocket), facts.Unit(libvirtdTLSSocket), facts.Unit(libvirtdTCPSocket),
		facts.Unit(virtproxydSocket), facts.Unit(virtqemudSocket))
}

// layout is how the host runs libvirt.
type layout string

const (
	bySockets layout = "socket units"
	byListen  layout = "--listen"
	modular   layout = "modular daemons"
	noLibvirt layout = "no libvirt"
)

func layoutOf(h *facts.Host) layout {
	up := func(u facts.UnitInfo) bool { return u.Active == "active" || u.File == "enabled" }
	masked := func(u facts.UnitInfo) bool { return u.Load == "masked" || strings.HasPrefix(u.File, "masked") }
	service := h.Units[libvirtdService]
	switch {
	case up(h.Units[virtqemudSocket]):
		return modular
	case service.Load == "" || service.Load == "not-found" || masked(service):
		return noLibvirt
	case slices.Contains(h.Processes[service.MainPID], "--listen"), masked(h.Units[libvirtdSocket]):
		return byListen
	}
	return bySockets
}

func (l *listener) Diff(h *facts.Host, now time.Time) ([]plan.Op, []plan.Finding) {
	id := l.ID()
	var found []plan.Finding
	if u := h.Units[libvirtdTCPSocket]; u.Active == "active" {
		found = append(found, plan.Finding{
			Code: "plain-listener", Severity: plan.Problem, Task: id,
			Text: "libvirtd-tcp.socket is active: libvirt answers in plain text",
			Hint: "systemctl disable --now libvirtd-tcp.socket",
		})
	}
	switch is := layoutOf(h); is {
	case noLibvirt:
		return nil, append(found, plan.Finding{
			Code: "no-libvirt", Severity: plan.Problem, Task: id, Holds: true,
			Text: "libvirtd is not installed or is masked",
			Hint: "install libvirt's daemon on the host (package libvirt-daemon-system or libvirt-daemon)",
		})
	case byListen, modular:
		return nil, append(found, plan.Finding{
			Code: "layout-not-supported", Severity: plan.Problem, Task: id, Holds: true,
			Text: "this host runs libvirt with " + string(is) + ", which this version of virtrust does not change",
		})
	}
	tls := h.Units[libvirtdTLSSocket]
	if tls.Load == "not-found" || tls.Load == "" {
		return nil, append(found, plan.Finding{Code: "no-tls-socket", Severity: plan.Problem, Task: id, Holds: true,
			Text: "the host has no " + libvirtdTLSSocket, Hint: "libvirt 6.2 or newer is needed"})
	}
	port := strconv.Itoa(l.want.Port)
	if !slices.ContainsFunc(tls.Listen, func(s string) bool {
		a, _, _ := strings.Cut(s, " ")
		return a == port || strings.HasSuffix(a, ":"+port)
	}) && len(tls.Listen) > 0 {
		return nil, append(found, plan.Finding{Code: "other-port", Severity: plan.Problem, Task: id, Holds: true,
			Text: fmt.Sprintf("%s listens on %s, the policy says port %s", libvirtdTLSSocket, strings.Join(tls.Listen, ", "), port),
			Hint: "set port in the policy's listener block, or remove the unit's drop-in on the host"})
	}
	if tls.Active == "active" && tls.File == "enabled" {
		return nil, found
	}
	// An enabled TLS socket without good certificates takes the whole daemon
	// down at its next start (libvirt.md §4.4). Where the certificate task
	// makes a new one, that is checked before the switch.
	if !l.server.decide(h, now).Issue {
		if v := l.judge(h, now); !v.OK {
			for _, p := range v.Problems {
				found = append(found, plan.Finding{Code: p.Code, Severity: plan.Problem, Task: id, Holds: true, Text: p.Text})
			}
			return nil, found
		}
	}
	return []plan.Op{plan.SetUnit{
		Meta: plan.Meta{Task: id, Wave: plan.WaveListen, Reason: reasonOf(tls)},
		Unit: libvirtdTLSSocket, Enabled: true, Active: true, Service: libvirtdService, Running: h.Units[libvirtdService].MainPID != 0,
	}}, found
}

func reasonOf(u facts.UnitInfo) string {
	switch {
	case u.Active == "active":
		return "drift: running, but not enabled for the next boot"
	case u.File == "enabled":
		return "drift: enabled, but " + u.Active
	}
	return "new"
}

// judge asks whether libvirtd would start with what lies on disk.
func (l *listener) judge(h *facts.Host, now time.Time) pki.Verdict {
	cert, _ := h.Content(l.server.certPath())
	ca, _ := h.Content(libvirtTrust)
	var key crypto.PublicKey
	if der, ok := h.PublicKey(l.server.keyPath()); ok {
		key, _ = x509.ParsePKIXPublicKey(der)
	}
	return pki.Judge(pki.Question{Rules: pki.LibvirtRules(libvirtVersion(h)), Role: pki.UsageServer, Now: now, Cert: cert, CA: ca, Key: key})
}
