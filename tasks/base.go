package tasks

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
)

// base is what every host must have before anything can be changed on it.
type base struct {
	host    *inventory.Host
	daemons bool // systemd and libvirt are needed
}

func (b build) base() plan.Task { return &base{host: b.host, daemons: b.listens()} }

func (*base) ID() plan.ID { return "host" }

func (b *base) Needs() []facts.Query {
	qs := []facts.Query{facts.Content(loadedFile), facts.Content(journalFile), facts.Content(armedFile), facts.Content(stagingFile), facts.Stat("/etc"), facts.Stat("/var/lib")}
	if slices.ContainsFunc(b.host.Nics, func(n inventory.Nic) bool { return len(n.Addresses) > 0 }) {
		qs = append(qs, facts.Addresses())
	}
	return qs
}

// journalFile is where the last transaction's journal can be found.
const journalFile = "/var/lib/virtrust/journal"

// What a transaction has on a host until its end.
const (
	armedFile   = "/var/lib/virtrust/armed"   // names the run that the reverter would undo
	stagingFile = "/var/lib/virtrust/staging" // lines of run and staging directory
)

// CodeUnfinished is the code of the finding that a run has not ended.
const CodeUnfinished = "unfinished-run"

// Limits of what a host must have.
const (
	wantBytes  = 8 << 20          // free, for staging and what is kept for undo
	wantInodes = 256              // free
	warnSkew   = time.Minute      // clocks apart
	holdSkew   = 30 * time.Minute // half of a leaf's backdating
)

// packages that bring a missing program, as Debian and EL name them.
var packages = map[string]string{
	"flock": "util-linux", "openssl": "openssl or gnutls-bin (gnutls-utils)", "systemctl": "systemd", "systemd-run": "systemd",
	"virt-admin": "libvirt-clients (libvirt-client, on EL libvirt-admin)", "stat": "coreutils",
}

func (b *base) Diff(h *facts.Host, _ time.Time) ([]plan.Op, []plan.Finding) {
	var out []plan.Finding
	problem := func(code, hint, text string, args ...any) {
		out = append(out, plan.Finding{Code: code, Severity: plan.Problem, Task: b.ID(), Holds: true, Text: fmt.Sprintf(text, args...), Hint: hint})
	}
	if h.UID != 0 {
		problem("not-root", `log in as root, or let sudo make it root: ssh { become = "sudo" }`, "the login user has uid %d and root is needed", h.UID)
	}
	needed := []string{"flock", "stat"}
	if b.daemons {
		needed = append(needed, "systemctl", "systemd-run", "virt-admin")
		if h.Init != "systemd" {
			problem("no-systemd", "a policy without listener and firewall needs no systemd", "PID 1 is %q and systemd is needed", h.Init)
		}
	}
	for _, t := range needed {
		if !h.Tools[t] {
			problem("missing-program", "install package "+packages[t], "%s is not installed", t)
		}
	}
	if !h.Tools["openssl"] && !h.Tools["certtool"] {
		problem("missing-program", "install package "+packages["openssl"], "neither openssl nor certtool is installed, one makes the keys")
	}
	for _, d := range h.ReadOnly {
		problem("read-only", "mount it for writing, then plan again", "%s is on a read-only file system", d)
	}
	for _, d := range []string{"/etc", "/var/lib"} {
		s, ok := h.Spaces[d]
		switch {
		case !ok || slices.Contains(h.ReadOnly, d):
		case s.Bytes < wantBytes:
			problem("no-space", "make room, then plan again", "%s has no space: %d KiB are free, %d are wanted", d, s.Bytes>>10, wantBytes>>10)
		case s.Inodes >= 0 && s.Inodes < wantInodes:
			problem("no-inodes", "remove files, then plan again", "%s has no inodes: %d are free, %d are wanted", d, s.Inodes, wantInodes)
		}
	}
	if skew := h.Skew.Abs(); skew > holdSkew {
		problem("clock", "set the host's clock (timedatectl), then plan again", "the host's clock is %s %s ours: certificates would not be valid there", skew.Round(time.Second), aheadOrBehind(h.Skew))
	} else if skew > warnSkew {
		out = append(out, plan.Finding{Code: "clock", Severity: plan.Warning, Task: b.ID(), Text: fmt.Sprintf("the host's clock is %s %s ours", skew.Round(time.Second), aheadOrBehind(h.Skew)), Hint: "set the host's clock (timedatectl)"})
	}
	// What such a run has switched may look wanted, and its reverter takes it
	// back: nothing can be said of this host before that run is settled.
	if run := unfinished(h); run != "" {
		problem(CodeUnfinished, "apply settles it once its lease is over; see /var/lib/virtrust/journal on the host", "run %s has not ended here: it is still at work, or it died", run)
	}
	return nil, append(out, b.addresses(h)...)
}

// unfinished names the run that left a reverter armed or files staged.
func unfinished(h *facts.Host) string {
	armed, _ := h.Content(armedFile)
	if _, run, ok := strings.Cut(strings.TrimSpace(string(armed)), "/run-"); ok {
		return run
	}
	staged, _ := h.Content(stagingFile)
	run, _, _ := strings.Cut(string(staged), " ")
	return run
}

func aheadOrBehind(d time.Duration) string {
	if d < 0 {
		return "behind"
	}
	return "ahead of"
}

// addresses compares what the inventory says with what the host has. Names in
// certificates come from the inventory alone, so this is only reported.
func (b *base) addresses(h *facts.Host) []plan.Finding {
	if len(h.Addresses) == 0 {
		return nil
	}
	var missing []string
	check := func(a netip.Addr) {
		if !slices.ContainsFunc(h.Addresses, func(p netip.Prefix) bool { return p.Addr().WithZone("") == a.WithZone("") }) {
			missing = append(missing, a.String())
		}
	}
	for _, n := range b.host.Nics {
		for _, a := range n.Addresses {
			check(a)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []plan.Finding{{
		Code: "address-not-on-host", Severity: plan.Warning, Task: b.ID(),
		Text: fmt.Sprintf("the inventory gives this host %s, which it does not have", strings.Join(missing, ", ")),
		Hint: "virtrust inspect " + b.host.Name + " --write, or mend the addresses in " + b.host.Source.String(),
	}}
}
