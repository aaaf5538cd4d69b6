package main

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
)

func (a *app) doctorCmd() *cobra.Command {
	var sel selection
	c := &cobra.Command{
		Use:   "doctor [HOST...]",
		Short: "Try each step on the way to hosts, and say what to mend",
		Long: `Tries name, TCP, algorithms, host key, authentication, shell, sudo, script, SFTP,
forwarding and libvirt of each host, with the time that each takes and, where one
fails, what to do. Changes nothing. HOST is written like --limit; without any, all
hosts are tried.

Exit code 0 when every step works, 3 when one does not.`,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.open(c.Context(), noOptions)
			if err != nil {
				return err
			}
			defer f.close()
			sel.limit = append(sel.limit, args...)
			hosts, err := sel.hosts(f.Fleet)
			if err != nil {
				return err
			}
			all := make([]report.Visit, len(hosts))
			p := a.progress("trying", len(hosts))
			f.each(c.Context(), hosts, func(ctx context.Context, i int, h *inventory.Host) {
				defer p.step(h.Name)
				all[i] = f.visit(ctx, h)
			})
			p.done()
			if err := context.Cause(c.Context()); err != nil {
				return err
			}
			if a.json {
				err = report.JSON(a.out, all)
			} else {
				err = report.Doctor(a.out, all, a.options())
			}
			if err != nil {
				return err
			}
			if slices.ContainsFunc(all, func(v report.Visit) bool { return !v.OK() }) {
				return &exitCode{code: exitIncomplete}
			}
			return nil
		},
	}
	a.hostFlags(c, &sel)
	return c
}

// visit is one host's turn.
type visit struct {
	report.Visit
	mu    sync.Mutex
	since time.Time
}

func (v *visit) passed(phase, found string) {
	v.add(report.Step{Phase: phase, State: report.StepOK, Found: found})
}

// noted is a step that works another way than usual.
func (v *visit) noted(phase, found, hint string) {
	v.add(report.Step{Phase: phase, State: report.StepNote, Found: found, Hint: hint})
}

func (v *visit) failed(phase string, err error) {
	x := classify(err)
	v.add(report.Step{Phase: phase, State: report.StepFailed, Class: x.Class, Found: x.Text, Hint: x.Hint})
}

// named notes that there was no name to look up, which took no time.
func (v *visit) named() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Steps = append(v.Steps, report.Step{Phase: "name", State: report.StepOK, Found: "an address, nothing to look up"})
}

// add closes a step with the time since the one before.
func (v *visit) add(s report.Step) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	s.Seconds = now.Sub(v.since).Seconds()
	v.since = now
	v.Steps = append(v.Steps, s)
}

func (v *visit) has(phase string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(v.Steps, func(s report.Step) bool { return s.Phase == phase })
}

// The phases of a connection, and of what follows it.
var (
	dialPhases  = []string{"name", string(remote.PhaseTCP), string(remote.PhaseAlgorithms), string(remote.PhaseHostKey), string(remote.PhaseAuthentication)}
	loginPhases = []string{"shell", "sudo", "script", "sftp", "forwarding", "libvirt"}
)

// visit tries each step on the way to a host.
func (f *fleet) visit(ctx context.Context, h *inventory.Host) report.Visit {
	v := &visit{Visit: report.Visit{Host: h.Name, Address: h.Address}, since: time.Now()}
	c := f.visitSSH(ctx, h, v)
	if c != nil {
		f.visitLogin(ctx, h, c, v)
		f.forget(h.Name)
	}
	for _, p := range slices.Concat(dialPhases, loginPhases) {
		if !v.has(p) && (p != "sudo" || h.SSH.Become == remote.BecomeSudo) {
			v.Steps = append(v.Steps, report.Step{Phase: p, State: report.StepSkipped})
		}
	}
	return v.Visit
}

func (f *fleet) visitSSH(ctx context.Context, h *inventory.Host, v *visit) *remote.Conn {
	// Asked for here, so that no step is charged with a person's time.
	if err := loadPasswords(ctx, h.Name, f.endpoint(h)); err != nil {
		v.failed(string(remote.PhaseAuthentication), err)
		return nil
	}
	v.since = time.Now()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{DNSDone: func(i httptrace.DNSDoneInfo) {
		if i.Err != nil || v.has("name") {
			return
		}
		var all []string
		for _, a := range i.Addrs {
			all = append(all, a.String())
		}
		v.passed("name", strings.Join(all, ", "))
	}})
	ctx = remote.WithTrace(ctx, func(host string, p remote.Phase, found string) {
		if p == remote.PhaseTCP && !v.has("name") {
			v.named()
		}
		phase := string(p)
		if host != h.Name {
			phase = "via " + host + ": " + phase
		}
		v.passed(phase, found)
	})
	c, err := f.conn(ctx, h)
	if err == nil {
		for i := range v.Steps {
			if v.Steps[i].Phase == string(remote.PhaseAlgorithms) {
				v.Steps[i].Found = c.Software() + "; " + c.Algorithms()
			}
		}
		return c
	}
	phase := ""
	switch remote.ClassOf(err) {
	case remote.ClassDNS:
		phase = "name"
	case remote.ClassHostKeyChanged, remote.ClassHostKeyUnknown:
		phase = string(remote.PhaseHostKey)
	case remote.ClassAuthentication:
		phase = string(remote.PhaseAuthentication)
	case remote.ClassAlgorithm, remote.ClassThrottled:
		phase = string(remote.PhaseAlgorithms)
	default:
		// The first one that was not reached.
		for _, p := range dialPhases {
			if phase == "" && !v.has(p) && (p != "name" || !v.has(string(remote.PhaseTCP))) {
				phase = p
			}
		}
		if phase == "name" {
			// A name that does not resolve has a class of its own.
			v.named()
			phase = string(remote.PhaseTCP)
		}
	}
	v.failed(phase, err)
	return nil
}

// units of libvirt's daemons in every layout.
var libvirtUnits = []string{
	"libvirtd.service", "libvirtd.socket", "libvirtd-tls.socket", "libvirtd-tcp.socket",
	"virtqemud.service", "virtqemud.socket", "virtproxyd.service", "virtproxyd-tls.socket",
}

func (f *fleet) visitLogin(ctx context.Context, h *inventory.Host, c *remote.Conn, v *visit) {
	l, err := c.Login(ctx)
	if err != nil {
		v.failed("shell", err)
		return
	}
	text := fmt.Sprintf("login shell %s, /bin/sh is %s", orDash(l.Shell), orDash(l.Sh))
	if l.Noise != "" {
		v.noted("shell", text+"; a start-up file prints: "+l.Noise, "harmless, but it stops other programs such as SFTP and rsync: print only where standard output is a terminal")
	} else {
		v.passed("shell", text)
	}
	if h.SSH.Become == remote.BecomeSudo {
		uid, err := c.UID(ctx)
		if err != nil {
			v.failed("sudo", err)
			return
		}
		text := "root"
		if uid != "0" {
			text = "uid " + uid
		}
		if h.SSH.BecomePassword != "" {
			text += ", with a password where sudo asks"
		}
		v.passed("sudo", text)
	}
	queries := make([]facts.Query, 0, len(libvirtUnits))
	for _, u := range libvirtUnits {
		queries = append(queries, facts.Unit(u))
	}
	seen, err := remote.Look(ctx, c, h.Name, queries, f.app.now, ports(h)...)
	if err != nil {
		v.failed("script", err)
		return
	}
	f.visitScript(seen, v)
	f.visitFiles(ctx, h, c, v)
	f.visitForwarding(ctx, h, c, v)
	visitLibvirt(h, seen, v)
}

func (f *fleet) visitScript(seen *facts.Host, v *visit) {
	var missing []string
	for _, t := range []string{"flock", "systemctl", "systemd-run", "stat", "sha256sum"} {
		if !seen.Tools[t] {
			missing = append(missing, t)
		}
	}
	if !seen.Tools["openssl"] && !seen.Tools["certtool"] {
		missing = append(missing, "openssl or certtool")
	}
	switch {
	case seen.UID != 0:
		v.add(report.Step{Phase: "script", State: report.StepFailed, Class: "not-root", Found: fmt.Sprintf("it runs with uid %d and root is needed", seen.UID),
			Hint: `log in as root, or let sudo make it root: ssh { become = "sudo" }`})
	case len(missing) > 0:
		v.add(report.Step{Phase: "script", State: report.StepFailed, Class: "missing-program", Found: "not installed: " + strings.Join(missing, ", "), Hint: "install what is missing"})
	case seen.Skew.Abs() > time.Minute:
		v.noted("script", fmt.Sprintf("read in one script; its clock differs from ours by %s", seen.Skew.Round(time.Second)), "look at `timedatectl` there")
	default:
		v.passed("script", "read in one script")
	}
}

func (f *fleet) visitFiles(ctx context.Context, h *inventory.Host, c *remote.Conn, v *visit) {
	if h.SSH.Become == remote.BecomeSudo {
		v.passed("sftp", "not needed: files go through a script, as root")
		return
	}
	err := c.SFTP(ctx)
	switch {
	case err == nil:
		v.passed("sftp", "the subsystem answers")
	case remote.ClassOf(err) == remote.ClassShell:
		v.noted("sftp", "files go through a script: "+classify(err).Text, "")
	default:
		v.failed("sftp", err)
	}
}

func (f *fleet) visitForwarding(ctx context.Context, h *inventory.Host, c *remote.Conn, v *visit) {
	port := 22
	if p := ports(h); len(p) > 0 {
		port = p[0]
	}
	allowed, err := c.Forwards(ctx, "127.0.0.1:"+strconv.Itoa(port))
	switch {
	case err != nil:
		v.failed("forwarding", err)
	case allowed:
		v.passed("forwarding", "allowed")
	default:
		v.noted("forwarding", "sshd forbids it: a program on the host looks at listeners", "")
	}
}

func visitLibvirt(h *inventory.Host, seen *facts.Host, v *visit) {
	version := ""
	for _, p := range []string{"libvirt-daemon", "libvirt-daemon-system", "libvirt-daemon-driver-qemu"} {
		if version == "" {
			version = seen.Packages[p]
		}
	}
	var active []string
	for _, u := range libvirtUnits {
		if seen.Units[u].Active == "active" {
			active = append(active, u)
		}
	}
	text := strings.Join(active, ", ")
	if version != "" {
		text = "libvirt " + version + "; " + orDash(text)
	}
	for _, p := range ports(h) {
		addr := "127.0.0.1:" + strconv.Itoa(p)
		switch s := seen.Served[addr]; {
		case len(s.Chain) > 0:
			text += "; a certificate is served on " + addr
		case s.Problem == "refused":
			text += "; nothing listens on " + addr
		default:
			text += "; " + addr + ": " + s.Problem
		}
	}
	switch {
	case version == "" && len(active) == 0 && !seen.Tools["virsh"]:
		if len(h.Policy.Listeners) == 0 {
			v.noted("libvirt", "not installed; the policy has no listener and does without", "")
			return
		}
		v.add(report.Step{Phase: "libvirt", State: report.StepFailed, Class: "no-libvirt", Found: "not installed", Hint: "install libvirt's daemon and clients"})
	case len(active) == 0:
		v.add(report.Step{Phase: "libvirt", State: report.StepFailed, Class: "no-libvirt", Found: "no unit of libvirt is active; " + text, Hint: "systemctl status libvirtd.socket virtqemud.socket"})
	default:
		v.passed("libvirt", text)
	}
}
