package life

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

const (
	passphrase = "only for this test"
	day        = 24 * time.Hour
	limit      = 90 * time.Second // of a wait, with room for a loaded machine
)

// site is three hosts of three releases (bookworm, trixie, forky), in one cluster.
type site struct {
	*operator.Site
	// former is the site whose ledger knows what the hosts' certificates are for.
	former *site
	// libvirt replaces the block of authority libvirt.
	libvirt string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{Site: operator.New(t, lab.HostSpec{Suite: "bookworm"}, lab.HostSpec{Suite: "trixie"}, lab.HostSpec{Suite: "forky"})}
	s.Env = []string{"VT_PASSPHRASE=" + passphrase}
	s.policy(t, "", "")
	s.inventory(t, s.Hosts)
	s.authorities(t)
	return s
}

// anew is another operator's empty configuration of the same hosts.
func (s *site) anew(t *testing.T) *site {
	t.Helper()
	return &site{Site: &operator.Site{Lab: s.Lab, Hosts: s.Hosts, Dir: t.TempDir(), Env: s.Env}}
}

// policy writes the policy, with lines of its own and of its rollout.
func (s *site) policy(t *testing.T, lines, rollout string) {
	t.Helper()
	text := ""
	for _, name := range []string{"libvirt", "qemu"} {
		if name == "libvirt" && s.libvirt != "" {
			text += s.libvirt
			continue
		}
		text += fmt.Sprintf("authority %q {\n  organization    = \"Example\"\n  passphrase_from = \"env:VT_PASSPHRASE\"\n}\n\n", name)
	}
	text += "policy \"standard\" {\n  template = \"libvirt\"\n" + lines + "  rollout {\n    canary = 0\n    batch  = \"100%\"\n" + rollout + "  }\n}\n"
	s.Write(t, "policy.hcl", text)
}

func (s *site) inventory(t *testing.T, hosts []*lab.Host) {
	t.Helper()
	s.Write(t, "inventory.hcl", s.Inventory("  migration = \"available\"\n", hosts...))
}

func (s *site) ledger(t *testing.T, mode ledger.Mode) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), s.Path(".virtrust/ledger.db"), mode)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (s *site) authorityDir(name string) string { return s.Path("authorities/" + name) }

// authorities makes authorities that are older than what they signed may be.
func (s *site) authorities(t *testing.T) {
	t.Helper()
	l := s.ledger(t, ledger.Create)
	defer l.Close()
	run, err := l.StartRun(t.Context(), ledger.Run{Command: "ca init"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"libvirt", "qemu"} {
		_, err := authority.Init(t.Context(), authority.Params{Name: name, Organization: "Example", Dir: s.authorityDir(name), Now: time.Now().Add(-200 * day),
			Passphrase: authority.NewSecret([]byte(passphrase)), Run: run}, l)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.EndRun(t.Context(), run, "complete"); err != nil {
		t.Fatal(err)
	}
}

// age gives hosts' certificates the dates that they would have if they had been
// made so long ago: signed for the same keys by the same authorities, in place,
// taken up and in the ledger.
func (s *site) age(t *testing.T, hosts []*lab.Host, ago time.Duration) {
	t.Helper()
	l := s.ledger(t, ledger.Existing)
	defer l.Close()
	run, err := l.StartRun(t.Context(), ledger.Run{Command: "age"})
	if err != nil {
		t.Fatal(err)
	}
	profiles := l
	if s.former != nil {
		profiles = s.former.ledger(t, ledger.Existing)
		defer profiles.Close()
	}
	signers := map[string]*authority.Local{}
	for _, name := range []string{"libvirt", "qemu"} {
		a, err := authority.Open(t.Context(), name, s.authorityDir(name), "", l, func() time.Time { return time.Now().Add(-ago) })
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if err := a.Unlock(t.Context(), func(context.Context) (authority.Secret, error) { return authority.NewSecret([]byte(passphrase)), nil }); err != nil {
			t.Fatal(err)
		}
		signers[name] = a
	}
	for _, h := range hosts {
		for _, c := range []struct{ name, authority, tree string }{
			{"libvirt-server", "libvirt", "/etc/pki/libvirt/.virtrust/server"},
			{"libvirt-client", "libvirt", "/etc/pki/libvirt/.virtrust/client"},
			{"qemu", "qemu", "/etc/pki/qemu/.virtrust/qemu"},
		} {
			block, _ := pem.Decode([]byte(operator.Sh(t, h, "openssl req -new -subj / -key "+c.tree+"/current/key.pem")))
			csr, err := pki.ParseCSR(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			old, err := profiles.Issuances(t.Context(), ledger.Filter{Host: h.Name, Certificate: c.name, Limit: 1})
			if err != nil || len(old) == 0 {
				t.Fatalf("%s of %s is not in the ledger: %v", c.name, h.Name, err)
			}
			chain, err := signers[c.authority].Sign(t.Context(), authority.Request{Run: run, Host: h.Name, CSR: csr, Profile: old[0].Profile})
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(chain[0].Raw)
			if err := l.MarkInstalled(t.Context(), run, h.Name, c.name, hex.EncodeToString(sum[:])); err != nil {
				t.Fatal(err)
			}
			operator.Sh(t, h, "cat >"+c.tree+"/current/cert.pem <<'E'\n"+string(pki.RenderCerts(chain[0]))+"E\n")
		}
		if ago < 90*day {
			operator.Sh(t, h, "systemctl start libvirtd.service; virt-admin -q server-update-tls libvirtd")
		}
	}
	if err := l.EndRun(t.Context(), run, "complete"); err != nil {
		t.Fatal(err)
	}
}

// run is Run for who wants all that virtrust wrote.
func (s *site) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	r := s.Run(t, code, args...)
	return r.Stdout + r.Stderr
}

// guest starts a small guest that every release can run.
func guest(t *testing.T, h *lab.Host, name string) {
	t.Helper()
	operator.Sh(t, h, fmt.Sprintf("cat >/root/%[1]s.xml <<'E'\n<domain type=\"qemu\"><name>%[1]s</name><memory unit=\"MiB\">64</memory><vcpu>1</vcpu><os><type machine=\"pc-i440fx-7.2\">hvm</type></os></domain>\nE\nvirsh -q create /root/%[1]s.xml", name))
}

// serial is that of the leaf that libvirtd shows, asked on the host.
func serial(t *testing.T, h *lab.Host) string {
	t.Helper()
	return operator.Sh(t, h, "openssl s_client -connect 127.0.0.1:16514 </dev/null 2>/dev/null | openssl x509 -noout -serial")
}

func process(t *testing.T, h *lab.Host) string {
	t.Helper()
	return operator.Sh(t, h, "systemctl show -p MainPID -p InvocationID --value libvirtd.service")
}

func dial(t *testing.T, from, to *lab.Host, query string) lab.Result {
	t.Helper()
	return operator.On(t, from, "timeout 30 virsh -q -c 'qemu+tls://"+to.FQDN+"/system"+query+"' hostname")
}
