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
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/authority"
	"github.com/virtrust/virtrust/internal/authority/authoritytest"
	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// rollover: an authority that ended gives way to a new one, that one to another
// because its key leaked, and that one to a CA of other people, which is then
// renewed with its key.
func rollover(t *testing.T, s *site) {
	r := s.anew(t)
	r.former = s
	for _, p := range []struct {
		name string
		do   func(*testing.T, *site)
	}{{"ended", ended}, {"leaked", leaked}, {"external", external}, {"rebuilt", rebuilt}} {
		if !t.Run(p.name, func(t *testing.T) { p.do(t, r) }) {
			return
		}
	}
}

// ended: the authorities and all that they signed have expired and libvirtd is
// down. plan refuses and says what to do; then one apply brings everything back.
func ended(t *testing.T, s *site) {
	s.policy(t, "", "")
	s.inventory(t, s.Hosts)
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
	s.age(t, s.Hosts, 100*day)
	for _, h := range s.Hosts {
		operator.Sh(t, h, "rm -f /etc/pki/CA/cacrl.pem /etc/pki/qemu/ca-crl.pem; cat >/etc/pki/CA/cacert.pem <<'E'\n"+cas["libvirt"]+"E\ncat >/etc/pki/qemu/ca-cert.pem <<'E'\n"+cas["qemu"]+"E\n")
		operator.Sh(t, h, "systemctl stop libvirtd-tls.socket libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service 2>/dev/null; ! systemctl is-active libvirtd.service")
	}
	for _, command := range [][]string{{"plan"}, {"apply", "--yes"}} {
		operator.Contains(t, s.run(t, 4, command...), "ended", "virtrust ca rotate libvirt")
	}
	for _, name := range []string{"libvirt", "qemu"} {
		operator.Contains(t, s.run(t, 0, "ca", "rotate", name, "--yes"), "generation 2 is issuing", "generation 1 is retired", "virtrust apply")
	}
	operator.Contains(t, s.run(t, 0, "apply", "--yes"), "3 changed")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	s.bundles(t, "Example libvirt g2")
	for _, name := range []string{"libvirt", "qemu"} {
		operator.Contains(t, s.run(t, 0, "ca", "rotate", name, "--yes"), "generation 1 is destroyed")
	}
}

// bundles fails unless libvirt's bundle holds this CA and nothing else on every
// host.
func (s *site) bundles(t *testing.T, name string) {
	t.Helper()
	for _, h := range s.Hosts {
		if b := subjects(t, h, "/etc/pki/CA/cacert.pem"); !strings.Contains(b, name) || strings.Count(b, "subject") != 1 {
			t.Errorf("libvirt's bundle of %s:\n%s", h.Name, b)
		}
	}
}

// leaked: the key is in wrong hands and one host cannot be reached. The others
// are done with the old CA without it, and can talk all the time.
func leaked(t *testing.T, s *site) {
	a, b, gone := s.Hosts[0], s.Hosts[1], s.Hosts[2]
	operator.Sh(t, gone, "systemctl stop ssh.socket ssh.service 2>/dev/null; ! systemctl is-active ssh.service")
	end := s.call(t, a, b)
	operator.Contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--compromised", "--yes"), "generation 3 is issuing", "generation 2 is draining")
	operator.Contains(t, s.run(t, 3, "apply", "--yes"), gone.Name)
	operator.Contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--compromised", "--yes"), "generation 2 is retired")
	operator.Contains(t, s.run(t, 3, "apply", "--yes"), gone.Name)
	end()
	for _, h := range []*lab.Host{a, b} {
		if now := subjects(t, h, "/etc/pki/CA/cacert.pem"); strings.Contains(now, "libvirt g2") || !strings.Contains(now, "libvirt g3") {
			t.Errorf("libvirt's bundle of %s:\n%s", h.Name, now)
		}
		if r := dial(t, gone, h, ""); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s accepts a client of the CA that leaked: %d %s", h.Name, r.Code, r.Stdout)
		}
	}
	operator.Sh(t, gone, "systemctl start ssh.service; systemctl is-active ssh.service")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	s.bundles(t, "Example libvirt g3")
	operator.Contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--compromised", "--yes"), "generation 2 is destroyed")
}

// external: from the built-in CA to one of other people, while every host calls
// every other; then that CA is renewed with its key.
func external(t *testing.T, s *site) {
	root := authoritytest.NewCompany(t)
	end := s.call(t, s.Hosts...)
	operator.Contains(t, s.run(t, 0, "ca", "import", "libvirt", filepath.Join(root.Dir, "chain.pem")), "Company Issuing 1", "prepared")
	operator.Contains(t, s.run(t, 3, "ca", "rotate", "libvirt", "--yes"), "waits for 3 hosts")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--yes"), "generation 4 is issuing", "generation 3 is draining")
	s.libvirt = fmt.Sprintf("authority \"libvirt\" {\n  kind = \"exec\"\n\n  exec {\n    command = [%q]\n  }\n}\n\n", filepath.Join(root.Dir, "sign.sh"))
	s.policy(t, "", "")
	s.run(t, 0, "apply", "--yes", "--allow-exec")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "ca", "matrix", "libvirt"), "6 of 6 pairs can talk")
	operator.Contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--yes"), "generation 3 is retired")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	s.bundles(t, "Company Issuing 1")
	operator.Contains(t, s.run(t, 0, "ca", "rotate", "libvirt", "--yes"), "generation 3 is destroyed")

	served := serial(t, s.Hosts[0])
	root.Run(t, `openssl x509 -req -in sub.csr -CA root.crt -CAkey root.key -CAcreateserial -days 1500 -extfile sub.ext -out sub.crt
cat sub.crt root.crt >chain.pem`)
	operator.Contains(t, s.run(t, 0, "ca", "import", "libvirt", filepath.Join(root.Dir, "chain.pem")), "renewed with its key")
	// One host alone: it and the others go on talking.
	s.run(t, 0, "apply", "--yes", "--limit", s.Hosts[0].Name)
	operator.Contains(t, s.run(t, 2, "verify"), "6 of 6 dials accepted", "O=Company,CN=Company Issuing 1 is renewed")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	s.bundles(t, "Company Issuing 1")
	s.renewedCA(t, filepath.Join(root.Dir, "sub.crt"), served)
	end()
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}

// rebuilt: a lost ledger is made anew of what lies in files and on hosts, and
// then nothing is left to do.
func rebuilt(t *testing.T, s *site) {
	if err := os.Rename(s.Path(".virtrust/ledger.db"), s.Path("lost.db")); err != nil {
		t.Fatal(err)
	}
	operator.Contains(t, s.run(t, 4, "apply", "--yes", "--replace", "certificate.qemu"), "ledger rebuild")
	operator.Contains(t, s.run(t, 0, "ledger", "rebuild"), "9 certificates of 3 hosts")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "cert", "list"), s.Hosts[2].Name, "libvirt-server", "qemu")
	// It is good for revoking what a host has.
	s.run(t, 0, "ca", "revoke", "qemu", "--host", s.Hosts[2].Name, "--in-use", "--yes")
	s.run(t, 0, "apply", "--yes", "--allow-exec")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}

// call has hosts dial each other again and again until end is called, which
// fails where one was refused.
func (s *site) call(t *testing.T, hosts ...*lab.Host) (end func()) {
	t.Helper()
	for _, from := range hosts {
		script := "rm -rf /run/calls; mkdir /run/calls\n"
		for _, to := range hosts {
			if from != to {
				script += "nohup sh -c 'cd /run/calls; dial() { timeout 60 virsh -q -c qemu+tls://" + to.FQDN + "/system hostname >/dev/null 2>said." + to.Name + "; }\n" +
					"while [ ! -e stop ]; do dial || { date; cat said." + to.Name + "; }; echo >>dials; sleep 0.1; done >>refused; echo >>ended' >/dev/null 2>&1 &\n"
			}
		}
		operator.Sh(t, from, script)
	}
	return func() {
		t.Helper()
		for _, h := range hosts {
			operator.Sh(t, h, "touch /run/calls/stop")
			operator.Until(t, limit, "the calls of "+h.Name+" end", func() bool {
				return operator.Sh(t, h, "grep -c '' /run/calls/ended || :") == fmt.Sprint(len(hosts)-1)
			})
			t.Logf("%s made %s calls", h.Name, operator.Sh(t, h, "grep -c '' /run/calls/dials"))
			if refused := operator.Sh(t, h, "cat /run/calls/refused"); refused != "" {
				t.Errorf("%s was refused:\n%s", h.Name, refused)
			}
		}
	}
}

// renewedCA fails unless the renewed certificate of a CA is on every host, and the
// leaf that was served before still is.
func (s *site) renewedCA(t *testing.T, file, served string) {
	t.Helper()
	for _, h := range s.Hosts {
		if same := operator.Sh(t, h, "openssl x509 -in /etc/pki/CA/cacert.pem -outform der | sha256sum"); same != sum(t, file) {
			t.Errorf("%s has another certificate than the renewed one", h.Name)
		}
	}
	if now := serial(t, s.Hosts[0]); now != served {
		t.Errorf("a leaf was made anew: %s, then %s", served, now)
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
	return fmt.Sprintf("%x  -", sha256.Sum256(b.Certs[0].Raw))
}
