package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/plan"
)

// A fault is what is wrong with one host.
type fault struct {
	name  string
	do    string // a script on the host
	undo  string // another one
	class string // of the failure, and others between | ; "" means any
	text  string // in its one line
}

// faults of a host that is reached. The last one cannot be undone.
var faults = []fault{
	{"certificate is a directory", "mkdir -p /etc/pki/libvirt/servercert.pem", "rm -r /etc/pki/libvirt", "held", "servercert.pem"},
	{"full disk", "mkdir -p /etc/pki; mount -t tmpfs -o size=16k,mode=755 full /etc/pki; dd if=/dev/zero of=/etc/pki/fill 2>/dev/null || :", "umount /etc/pki", "script", "full"},
	{"no inodes", "mkdir -p /etc/pki; mount -t tmpfs -o nr_inodes=4,mode=755 full /etc/pki; touch /etc/pki/1 /etc/pki/2 /etc/pki/3 2>/dev/null || :", "umount /etc/pki", "script", "no inodes"},
	{"full state directory", "mkdir -p /var/lib/virtrust; mount -t tmpfs -o size=4k,mode=700 full /var/lib/virtrust; dd if=/dev/zero of=/var/lib/virtrust/fill 2>/dev/null || :", "umount /var/lib/virtrust", "", "/var/lib/virtrust"},
	{"read-only disk", "mkdir -p /etc/pki; mount --bind /etc/pki /etc/pki; mount -o remount,ro,bind /etc/pki", "umount /etc/pki", "script", "read-only"},
	// All hosts of a machine share its clock, so it is the host's date that lies.
	{"skewed clock", `printf '#!/bin/sh\nexec /usr/bin/date -d "2 hours ago" "$@"\n' >/usr/sbin/date; chmod 755 /usr/sbin/date`, "rm /usr/sbin/date", "held", "clock"},
	{"no libvirt", `DEBIAN_FRONTEND=noninteractive dpkg --purge --force-all $(dpkg-query -W -f '${Package}\n' 'libvirt-daemon*' 'libvirt-clients*' | sort -u) >/dev/null 2>&1 || :
		systemctl daemon-reload; ! systemctl cat libvirtd.service >/dev/null 2>&1; ! command -v virsh >/dev/null`, "", "held", "not installed"},
}

// unreached are hosts that cannot be reached, or must not be.
var unreached = []struct {
	name  string
	cut   func(t *testing.T, s *site, h *lab.Host)
	class string
}{
	{"no route", func(t *testing.T, _ *site, h *lab.Host) {
		if err := h.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
	}, "unreachable|timeout"},
	{"no sshd", func(t *testing.T, _ *site, h *lab.Host) {
		if err := h.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}, "refused|unreachable"},
	{"key refused", func(t *testing.T, _ *site, h *lab.Host) { operator.Sh(t, h, "rm /root/.ssh/authorized_keys") }, "authentication"},
	{"changed host key", func(t *testing.T, s *site, h *lab.Host) {
		public, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ssh.NewPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		s.knownHosts(t, h, string(ssh.MarshalAuthorizedKey(key)))
	}, "host key changed"},
	{"unknown host key", func(t *testing.T, s *site, h *lab.Host) { s.knownHosts(t, h, "") }, "host key unknown"},
}

// knownHosts replaces a host's keys in the site's own copy of known_hosts.
func (s *site) knownHosts(t *testing.T, h *lab.Host, key string) {
	t.Helper()
	text, err := os.ReadFile(s.Path("known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, h.Name+",") {
			out.WriteString(line)
		}
	}
	if key != "" {
		fmt.Fprintf(&out, "%s %s", h.FQDN, key)
	}
	s.Write(t, "known_hosts", out.String())
}

// Whatever is wrong with a host: one clear line with a hint, the other hosts
// finish, and nothing is half done.
func TestFaults(t *testing.T) {
	t.Parallel()
	specs := []lab.HostSpec{{}, {}, {}}
	for range unreached {
		specs = append(specs, lab.HostSpec{Cheap: true})
	}
	s := newSite(t, specs...)
	known, err := os.ReadFile(s.Lab.KnownHosts())
	if err != nil {
		t.Fatal(err)
	}
	s.Write(t, "known_hosts", string(known))
	s.Write(t, "inventory.hcl", strings.Replace(s.Inventory("", s.Hosts...), s.Lab.KnownHosts(), s.Path("known_hosts"), 1))
	s.Write(t, "policy.hcl", strings.Replace(policyHCL, "template = \"libvirt\"", `template = "libvirt"
  rollout {
    batch           = "100%"
    restarts        = 3
    max_unreachable = "100%"
  }`, 1))
	s.Run(t, 0, "ca", "init")
	good, bad := s.Hosts[:2], s.Hosts[2]

	t.Run("unreached", func(t *testing.T) {
		for i, u := range unreached {
			u.cut(t, s, s.Hosts[3+i])
		}
		planned := s.Run(t, 3, "plan", "--exclude", bad.Name)
		rep := s.report(t, 3, "--yes", "--exclude", bad.Name)
		for _, h := range good {
			changed(t, rep, h)
		}
		for i, u := range unreached {
			t.Run(u.name, func(t *testing.T) {
				oneLine(t, rep, s.Hosts[3+i], u.class, "", planned.Stdout)
			})
		}
	})
	s.Write(t, "inventory.hcl", s.Inventory("", s.Hosts[:3]...))

	for _, f := range faults[:len(faults)-1] {
		t.Run(f.name, func(t *testing.T) { s.faulty(t, f) })
	}

	t.Run("blocked port", func(t *testing.T) {
		operator.Sh(t, bad, `nft 'table inet wall { chain in { type filter hook input priority 0; iifname != "lo" tcp dport 16514 reject with tcp reset; }; }'`)
		rep := s.report(t, 0, "--yes")
		if h := rep.Hosts[2]; h.Result != plan.Changed || h.Proof == nil || len(h.Proof.Peers) > 0 || h.Proof.NotProved == "" {
			t.Errorf("%+v, proof %+v: want a change that no peer proved", h, h.Proof)
		} else {
			t.Log(h.Proof.NotProved)
		}
		v := s.Run(t, 2, "verify")
		t.Log(v.Stdout)
		operator.Sh(t, bad, "nft delete table inet wall")
		s.Run(t, 0, "verify")
	})

	f := faults[len(faults)-1]
	t.Run(f.name, func(t *testing.T) { s.faulty(t, f) })
}

// faulty makes a fault on the third host, has all three changed, and undoes it.
func (s *site) faulty(t *testing.T, f fault) {
	good, bad := s.Hosts[0], s.Hosts[2]
	operator.Sh(t, bad, f.do)
	if f.undo != "" {
		defer operator.Sh(t, bad, f.undo)
	}
	operator.Sh(t, good, "chmod 600 /etc/pki/CA/cacert.pem") // it needs a change
	before := tree(t, bad, false)
	planned := s.Exec(t, "plan")
	rep := s.report(t, 3, "--yes")
	changed(t, rep, good)
	if hr := oneLine(t, rep, bad, f.class, f.text, ""); hr.Result == plan.Held {
		if planned.Code != 3 {
			t.Errorf("plan ended with %d where a host is held", planned.Code)
		}
		oneLine(t, rep, bad, f.class, f.text, planned.Stdout)
	}
	if after := tree(t, bad, false); after != before {
		t.Errorf("something is half done:\n%s", diff(before, after))
	}
	clean(t, bad)
}

func hostReport(t *testing.T, rep *plan.Report, h *lab.Host) plan.HostReport {
	t.Helper()
	for _, hr := range rep.Hosts {
		if hr.Host == h.Name {
			return hr
		}
	}
	t.Fatalf("no %s in the report", h.Name)
	return plan.HostReport{}
}

func changed(t *testing.T, rep *plan.Report, h *lab.Host) {
	t.Helper()
	if hr := hostReport(t, rep, h); hr.Result != plan.Changed {
		t.Errorf("%s, with which nothing is wrong: %+v, %+v", h.Name, hr, hr.Failure)
	}
}

// oneLine checks what is said of a host that failed or is held; shown is a
// plan for people in which it stands too, unless it is empty.
func oneLine(t *testing.T, rep *plan.Report, h *lab.Host, class, text, shown string) plan.HostReport {
	t.Helper()
	hr := hostReport(t, rep, h)
	f := hr.Failure
	if f == nil || hr.Result != plan.Held && hr.Result != plan.Failed {
		t.Fatalf("%+v, %+v: want held or failed", hr, f)
	}
	if shown == "" {
		t.Logf("%s at %q: %s: %s [%s]", hr.Result, hr.Step, f.Class, f.Text, f.Hint)
	}
	if class != "" && !slices.Contains(strings.Split(class, "|"), f.Class) {
		t.Errorf("class %q, want one of %s", f.Class, class)
	}
	if !strings.Contains(f.Text, text) || strings.Contains(f.Text, "\n") || len(f.Text) > 300 {
		t.Errorf("%q is not one line about %q", f.Text, text)
	}
	if f.Hint == "" {
		t.Errorf("no hint for %s: %s", f.Class, f.Text)
	}
	// A report breaks long lines, and a host that cannot be reached may time out
	// once and have no route the next time.
	said := f.Text
	if i := strings.LastIndex(said, ": "); i > 0 {
		said = said[:i]
	}
	if words := strings.Join(strings.Fields(shown), " "); shown != "" && (!strings.Contains(words, said) || !strings.Contains(words, h.Name)) {
		t.Errorf("%q is missing in:\n%s", said, shown)
	}
	return hr
}
