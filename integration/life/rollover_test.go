package life

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/authority/authoritytest"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// rollover: an authority that ended gives way to a new one, that one to another
// because its key leaked, and that one to a CA of other people, which is then
// renewed with its key.
func rollover(t *testing.T, s *site) {
	r := &site{lab: s.lab, hosts: s.hosts, dir: t.TempDir(), virtrust: s.virtrust, former: s}
	for _, p := range []struct {
		name string
		do   func(*testing.T, *site)
	}{{"ended", ended}, {"leaked", leaked}, {"external", external}} {
		if !t.Run(p.name, func(t *testing.T) { p.do(t, r) }) {
			return
		}
	}
}

// ended: the authorities and all that they signed have expired and libvirtd is
// down. plan refuses and says what to do; then one apply brings everything back.
func ended(t *testing.T, s *site) {
	s.policy(t, "", "")
	s.inventory(t, s.hosts)
	l := s.ledger(t, ledger.Create)
	cas := map[string]string{}
	for _, name := range []string{"libvirt", "qemu"} {
		a, err := authority.Init(t.Context(), authority.Params{Name: name, Organization: "Example", Dir: s.authorityDir(name), Now: time.Now().Add(-400 * day), Lifetime: 365 * day,
			Passphrase: authority.NewSecret([]byte(passphrase))}, l)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Generations[0].Certificate()
		if err != nil {
			t.Fatal(err)
		}
		cas[name] = string(pki.RenderCerts(c))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.age(t, s.hosts, 100*day)
	for _, h := range s.hosts {
		must(t, h, "rm -f /etc/pki/CA/cacrl.pem /etc/pki/qemu/ca-crl.pem; cat >/etc/pki/CA/cacert.pem <<'E'\n"+cas["libvirt"]+"E\ncat >/etc/pki/qemu/ca-cert.pem <<'E'\n"+cas["qemu"]+"E\n")
		must(t, h, "systemctl stop libvirtd-tls.socket libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service 2>/dev/null; ! systemctl is-active libvirtd.service")
	}
	for _, command := range [][]string{{"plan"}, {"apply", "--yes"}} {
		contains(t, s.run(t, 4, command...), "ended", "virtrust ca rotate libvirt")
	}
	for _, name := range []string{"libvirt", "qemu"} {
		contains(t, s.run(t, 0, "ca", "rotate", name, "--yes"), "generation 2 is issuing", "generation 1 is retired", "virtrust apply")
	}
	contains(t, s.run(t, 0, "apply", "--yes"), "3 changed")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	s.bundles(t, "Example libvirt g2")
	for _, name := range []string{"libvirt", "qemu"} {
		contains(t, s.run(t, 0, "ca", "rotate", name, "--yes"), "generation 1 is destroyed")
	}
}

// bundles fails unless libvirt's bundle holds this CA and nothing else on every
// host.
func (s *site) bundles(t *testing.T, name string) {
	t.Helper()
	for _, h := range s.hosts {
		if b := subjects(t, h, "/etc/pki/CA/cacert.pem"); !strings.Contains(b, name) || strings.Count(b, "subject") != 1 {
			t.Errorf("libvirt's bundle of %s:\n%s", h.Name, b)
		}
	}
}

// leaked: the key is in wrong hands and one host cannot be reached. The others
// are done with the old CA without it, and can talk all the time.
func leaked(t *testing.T, s *site) {
	a, b, gone := s.hosts[0], s.hosts[1], s.hosts[2]
	must(t, gone, "systemctl stop ssh.socket ssh.service 2>/dev/null; ! systemctl is-active ssh.service")
	end := s.call(t, a, b)
	contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--compromised", "--yes"), "generation 3 is issuing", "generation 2 is draining")
	contains(t, s.run(t, 3, "apply", "--yes"), gone.Name)
	contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--compromised", "--yes"), "generation 2 is retired")
	contains(t, s.run(t, 3, "apply", "--yes"), gone.Name)
	end()
	for _, h := range []*lab.Host{a, b} {
		if now := subjects(t, h, "/etc/pki/CA/cacert.pem"); strings.Contains(now, "libvirt g2") || !strings.Contains(now, "libvirt g3") {
			t.Errorf("libvirt's bundle of %s:\n%s", h.Name, now)
		}
		if r := dial(t, gone, h, ""); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s accepts a client of the CA that leaked: %d %s", h.Name, r.Code, r.Stdout)
		}
	}
	must(t, gone, "systemctl start ssh.service; systemctl is-active ssh.service")
	s.run(t, 0, "apply", "--yes")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	s.bundles(t, "Example libvirt g3")
	contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--compromised", "--yes"), "generation 2 is destroyed")
}

// external: from the built-in CA to one of other people, while every host calls
// every other; then that CA is renewed with its key.
func external(t *testing.T, s *site) {
	root := authoritytest.NewCompany(t)
	end := s.call(t, s.hosts...)
	contains(t, s.run(t, 0, "ca", "import", "libvirt", filepath.Join(root.Dir, "chain.pem")), "Company Issuing 1", "prepared")
	contains(t, s.run(t, 3, "ca", "rotate", "libvirt", "--yes"), "waits for 3 hosts")
	s.run(t, 0, "apply", "--yes")
	contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--yes"), "generation 4 is issuing", "generation 3 is draining")
	s.libvirt = fmt.Sprintf("authority \"libvirt\" {\n  kind = \"exec\"\n\n  exec {\n    command = [%q]\n  }\n}\n\n", filepath.Join(root.Dir, "sign.sh"))
	s.policy(t, "", "")
	s.run(t, 0, "apply", "--yes", "--allow-exec")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	contains(t, s.run(t, 0, "ca", "matrix", "libvirt"), "6 of 6 pairs can talk")
	contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--yes"), "generation 3 is retired")
	s.run(t, 0, "apply", "--yes")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	s.bundles(t, "Company Issuing 1")
	contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--yes"), "generation 3 is destroyed")

	served := serial(t, s.hosts[0])
	root.Run(t, `openssl x509 -req -in sub.csr -CA root.crt -CAkey root.key -CAcreateserial -days 1500 -extfile sub.ext -out sub.crt
cat sub.crt root.crt >chain.pem`)
	contains(t, s.run(t, 0, "ca", "import", "libvirt", filepath.Join(root.Dir, "chain.pem")), "renewed with its key")
	// One host alone: it and the others go on talking.
	s.run(t, 0, "apply", "--yes", "--limit", s.hosts[0].Name)
	contains(t, s.run(t, 2, "verify"), "6 of 6 dials accepted", "O=Company,CN=Company Issuing 1 is renewed")
	s.run(t, 0, "apply", "--yes")
	contains(t, s.run(t, 0, "plan"), "Nothing to do")
	s.bundles(t, "Company Issuing 1")
	for _, h := range s.hosts {
		if same := must(t, h, "openssl x509 -in /etc/pki/CA/cacert.pem -outform der | sha256sum"); same != sum(t, filepath.Join(root.Dir, "sub.crt")) {
			t.Errorf("%s has another certificate than the renewed one", h.Name)
		}
	}
	if now := serial(t, s.hosts[0]); now != served {
		t.Errorf("a leaf was made anew: %s, then %s", served, now)
	}
	end()
	contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}

// call has hosts dial each other again and again until end is called, which
// fails where one was refused. A dial that falls into a reload may be dropped by
// libvirtd itself, see docs/reliability.md: then the next one must succeed.
func (s *site) call(t *testing.T, hosts ...*lab.Host) (end func()) {
	t.Helper()
	for _, from := range hosts {
		script := "rm -rf /run/calls; mkdir /run/calls\n"
		for _, to := range hosts {
			if from != to {
				script += "nohup sh -c 'cd /run/calls; dial() { timeout 60 virsh -q -c qemu+tls://" + to.FQDN + "/system hostname >/dev/null 2>>said." + to.Name + "; }\n" +
					"while [ ! -e stop ]; do dial || { echo again >>dropped; sleep 1; dial; } || { date >>refused; cat said." + to.Name + " >>refused; }; echo >>dials; sleep 0.1; done; echo >>ended' >/dev/null 2>&1 &\n"
			}
		}
		must(t, from, script)
	}
	return func() {
		t.Helper()
		for _, h := range hosts {
			must(t, h, "touch /run/calls/stop")
			until(t, "the calls of "+h.Name+" end", func() bool {
				return strings.TrimSpace(on(t, h, "grep -c '' /run/calls/ended || :").Stdout) == fmt.Sprint(len(hosts)-1)
			})
			t.Logf("%s made %s calls, %s were dropped at a reload", h.Name, strings.TrimSpace(must(t, h, "grep -c '' /run/calls/dials")), strings.TrimSpace(must(t, h, "cat /run/calls/dropped 2>/dev/null | grep -c again || :")))
			if r := on(t, h, "cat /run/calls/refused"); r.Code == 0 {
				t.Errorf("%s was refused:\n%s", h.Name, r.Stdout)
			}
		}
	}
}

func sum(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b := pki.ParseBundle(data)
	if len(b.Certs) != 1 {
		t.Fatalf("%s holds %d certificates", file, len(b.Certs))
	}
	return fmt.Sprintf("%x  -\n", sha256.Sum256(b.Certs[0].Raw))
}
