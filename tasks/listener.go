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

// listener is libvirt's TLS port: of libvirtd, or of virtproxyd for the modular
// daemons.
type listener struct {
	want   inventory.Listener
	server *certificate // what it will serve
	conf   *settings    // of libvirtd.conf
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
	return &listener{want: l, server: task, conf: b.daemonSettings()}, nil
}

func (l *listener) ID() plan.ID { return plan.ID("listener." + l.want.Name) }

func (l *listener) Needs() []facts.Query {
	return append(l.server.Needs(), append(layoutQueries(), facts.Listening(), facts.Content(libvirtdConf))...)
}

func (l *listener) Diff(h *facts.Host, now time.Time) ([]plan.Op, []plan.Finding) {
	var found []plan.Finding
	by := layoutOf(h)
	if by.kind != noLibvirt && h.Units[by.tcp()].Active == "active" {
		found = append(found, plan.Finding{
			Code: "plain-listener", Severity: plan.Problem, Task: l.ID(),
			Text: by.tcp() + " is active: libvirt answers in plain text",
			Hint: "systemctl disable --now " + by.tcp(),
		})
	}
	var ops []plan.Op
	var more []plan.Finding
	switch by.kind {
	case noLibvirt:
		more = []plan.Finding{l.problem("no-libvirt", "install libvirt's daemon on the host (package "+packageOfLibvirt+")", "libvirtd is not installed or is masked")}
	case noProxy:
		more = []plan.Finding{l.problem("no-libvirt", "install it (package "+packageOfTheProxy+"), or unmask it", "virtqemud runs here and virtproxyd, which listens for it, is not installed or is masked")}
	case modularListen:
		more = []plan.Finding{l.problem("layout-not-supported", "systemctl unmask --now "+virtproxydSocket, "this host runs %s, which this version of virtrust does not change", by.kind)}
	case byListen:
		ops, more = l.arguments(h)
	default:
		ops, more = l.units(h, by)
	}
	if found = append(found, more...); len(ops) == 0 {
		return nil, found
	}
	// A listener without good certificates takes the whole daemon down at its
	// next start (libvirt.md §4.4). Where the certificate task makes a new one,
	// that is checked before the switch.
	if !l.server.decide(h, now).Issue {
		if v := l.judge(h, now); !v.OK {
			for _, p := range v.Problems {
				found = append(found, plan.Finding{Code: p.Code, Severity: plan.Problem, Task: l.ID(), Holds: true, Text: p.Text})
			}
			return nil, found
		}
	}
	return ops, found
}

func (l *listener) problem(code, hint, text string, args ...any) plan.Finding {
	return plan.Finding{Code: code, Severity: plan.Problem, Task: l.ID(), Holds: true, Text: fmt.Sprintf(text, args...), Hint: hint}
}

// bothWays is a libvirtd that should listen itself and by socket units: it ends
// with "--listen parameter not permitted with systemd activation sockets".
func (l *listener) bothWays(what string) plan.Finding {
	return l.problem("listen-with-sockets", "either take --listen out, or mask libvirtd.socket, -ro, -admin, -tls and -tcp; then plan again",
		"%s, and libvirtd's socket units are not masked: libvirtd does not start like that", what)
}

// units is the listener of a daemon that systemd's socket units start.
func (l *listener) units(h *facts.Host, by layout) ([]plan.Op, []plan.Finding) {
	if file, name, ok := variableOf(h, by.listener); ok && by.kind == bySockets {
		if value, _ := argumentsIn(h, by.listener, file, name); slices.ContainsFunc(value, isListen) {
			return nil, []plan.Finding{l.bothWays(fmt.Sprintf("%s gives libvirtd the arguments %q", file, strings.Join(value, " ")))}
		}
	}
	tls := h.Units[by.tls()]
	if missing(tls) {
		return nil, []plan.Finding{l.problem("no-tls-socket", "libvirt 6.2 or newer is needed", "the host has no %s", by.tls())}
	}
	port := portText(l.want.Port)
	if !slices.ContainsFunc(tls.Listen, func(s string) bool {
		a, _, _ := strings.Cut(s, " ")
		return a == port || strings.HasSuffix(a, ":"+port)
	}) && len(tls.Listen) > 0 {
		return nil, []plan.Finding{l.problem("other-port", "set port in the policy's listener block, or remove the unit's drop-in on the host",
			"%s listens on %s, the policy says port %s", by.tls(), strings.Join(tls.Listen, ", "), port)}
	}
	if tls.Active == "active" && tls.File == "enabled" {
		return nil, nil
	}
	return []plan.Op{plan.SetUnit{
		Meta: plan.Meta{Task: l.ID(), Wave: plan.WaveListen, Reason: reasonOf(tls)},
		Unit: by.tls(), Enabled: true, Active: true, Service: by.listener, Running: h.Units[by.listener].MainPID != 0,
	}}, nil
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

func portText(p int) string { return strconv.Itoa(p) }

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
