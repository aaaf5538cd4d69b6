package life

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/authority/authoritytest"
)

// company: authorities below a root that is kept offline, one by a request and
// one brought in with its key, and then one for each cluster, on hosts that had
// others before.
func company(t *testing.T, s *site) {
	c := s.anew(t)
	t.Run("root", func(t *testing.T) { belowRoot(t, c) })
	if !t.Failed() {
		t.Run("clusters", func(t *testing.T) { apart(t, c) })
	}
}

const companyAuthorities = `authority "libvirt" {
  organization    = "Company"
  passphrase_from = "env:VT_PASSPHRASE"
}

authority "qemu" {
  organization    = "Company"
  passphrase_from = "env:VT_PASSPHRASE"
}

authority "racks" {
  organization    = "Company"
  passphrase_from = "env:VT_PASSPHRASE"
  per             = "cluster"
}

`

// companyPolicy writes a policy in which one authority signs for libvirt and
// others are trusted.
func (s *site) companyPolicy(t *testing.T, signs, trusts string) {
	t.Helper()
	s.Write(t, "policy.hcl", companyAuthorities+fmt.Sprintf(`policy "standard" {
  template = "libvirt"
  trust "/etc/pki/CA/cacert.pem" {
    %s
  }
  trust "/etc/monitor/ca.p12" {
    authorities = [authority.%s]
    format      = "pkcs12"
  }
  certificate "libvirt-server" {
    authority = authority.%[2]s
  }
  certificate "libvirt-client" {
    authority = authority.%[2]s
  }
  rollout {
    canary = 0
    batch  = "100%%"
  }
}
`, trusts, signs))
}

// belowRoot: libvirt and QEMU of every release start with such bundles, accept
// each other, and read the list of a CA that is not self-signed.
func belowRoot(t *testing.T, s *site) {
	s.companyPolicy(t, "libvirt", "authorities = [authority.libvirt]")
	s.inventory(t, s.Hosts)
	root := authoritytest.NewCompany(t)
	file := func(name string) string { return filepath.Join(root.Dir, name) }
	s.run(t, 0, "ca", "csr", "libvirt", "--out", file("libvirt.csr"))
	operator.Contains(t, s.run(t, 1, "plan"), `authority "libvirt" has no certificate yet`, "virtrust ca import libvirt")
	root.Run(t, `
openssl x509 -req -in libvirt.csr -CA root.crt -CAkey root.key -CAcreateserial -days 900 -copy_extensions copyall -out libvirt.crt
openssl pkcs8 -topk8 -in sub.key -passout pass:secret -out sub.enc
(umask 077; echo secret >password)`)
	operator.Contains(t, s.run(t, 0, "ca", "import", "libvirt", file("libvirt.crt"), file("root.crt")), "generation 1", "issuing")
	operator.Contains(t, s.run(t, 0, "ca", "import", "qemu", file("chain.pem"), "--key", file("sub.enc"), "--key-password-file", file("password")), "Company Issuing 1", "issuing")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	for _, h := range s.Hosts {
		if b := subjects(t, h, "/etc/pki/CA/cacert.pem"); !strings.Contains(b, "Company libvirt g1") || strings.Contains(b, "Company Root") {
			t.Errorf("libvirt's bundle of %s:\n%s", h.Name, b)
		}
		if b := subjects(t, h, "/etc/pki/qemu/ca-cert.pem"); !strings.Contains(b, "Company Issuing 1") || !strings.Contains(b, "Company Root") {
			t.Errorf("QEMU's bundle of %s:\n%s", h.Name, b)
		}
		operator.Sh(t, h, "openssl pkcs12 -in /etc/monitor/ca.p12 -nokeys -nomacver -passin pass: | grep -q 'BEGIN CERTIFICATE'")
		// A start is stricter than a reload.
		operator.Sh(t, h, "systemctl reset-failed libvirtd.service; systemctl restart libvirtd.service && systemctl is-active libvirtd.service")
	}
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	s.run(t, 0, "verify", "--migrate", "--from", s.Hosts[1].Name, "--to", s.Hosts[2].Name)
	thief := s.Hosts[2]
	operator.Sh(t, thief, `rm -rf /root/old; mkdir -m 0700 /root/old
cp -L /etc/pki/CA/cacert.pem /etc/pki/libvirt/clientcert.pem /root/old/; cp -L /etc/pki/libvirt/private/clientkey.pem /root/old/`)
	s.run(t, 0, "ca", "revoke", "libvirt", "--host", thief.Name, "--certificate", "libvirt-client", "--in-use", "--yes")
	s.run(t, 0, "apply", "--yes")
	for _, h := range s.Hosts {
		if r := dial(t, thief, h, "?pkipath=/root/old"); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s (%s) accepts the revoked client: %d %s", h.Name, h.Suite, r.Code, r.Stdout)
		}
	}
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
}

func subjects(t *testing.T, h *lab.Host, bundle string) string {
	t.Helper()
	return operator.Sh(t, h, "openssl crl2pkcs7 -nocrl -certfile "+bundle+" | openssl pkcs7 -print_certs -noout | grep subject")
}

// apart: from one authority to one for each cluster, and a whole rollover of one of
// them. Within the cluster a client is never refused, the clusters do not know each
// other, and a host that moves changes over.
func apart(t *testing.T, s *site) {
	a, b, alone := s.Hosts[0], s.Hosts[1], s.Hosts[2]
	s.clusters(t, map[string]string{alone.Name: "rack2"})
	s.companyPolicy(t, "libvirt", "authorities = [authority.libvirt, authority.racks]")
	operator.Contains(t, s.run(t, 0, "ca", "init"), "racks-rack1", "racks-rack2")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	operator.Sh(t, a, `rm -f /run/stop /run/dials /run/refused; nohup sh -c 'while [ ! -e /run/stop ]; do
timeout 60 virsh -q -c qemu+tls://`+b.FQDN+`/system hostname >/dev/null 2>>/run/refused || echo refused >>/run/refused; echo >>/run/dials; done' >/dev/null 2>&1 &`)
	s.companyPolicy(t, "racks", "authorities = [authority.libvirt, authority.racks]")
	s.run(t, 0, "apply", "--yes")
	s.companyPolicy(t, "racks", "authorities = [authority.racks]\n    foreign = \"remove\"")
	s.run(t, 0, "apply", "--yes")
	// A rollover of one cluster's authority leaves the other cluster alone.
	untouched := operator.Sh(t, alone, "sha256sum /etc/pki/CA/cacert.pem /etc/pki/libvirt/*.pem") + process(t, alone)
	for i, phase := range []string{"generation 2 is prepared", "generation 2 is issuing", "generation 1 is retired", "generation 1 is destroyed"} {
		operator.Contains(t, s.run(t, 0, "ca", "rotate", "racks-rack1", "--yes"), phase)
		if i < 3 {
			operator.Contains(t, s.run(t, 0, "apply", "--yes"), "2 changed")
		}
	}
	if now := operator.Sh(t, alone, "sha256sum /etc/pki/CA/cacert.pem /etc/pki/libvirt/*.pem") + process(t, alone); now != untouched {
		t.Errorf("the other cluster was changed, from\n%s\nto\n%s", untouched, now)
	}
	operator.Sh(t, a, "touch /run/stop")
	if said := operator.Sh(t, a, "wc -l </run/dials; cat /run/refused 2>/dev/null || :"); strings.Contains(said, "refused") || strings.TrimSpace(said) == "0" {
		t.Errorf("%s dialled %s all the time: %s", a.Name, b.Name, said)
	}
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "verify"), "2 of 2 dials accepted")
	s.run(t, 0, "ca", "matrix", "racks-rack1")
	for _, h := range s.Hosts {
		if n := strings.Count(subjects(t, h, "/etc/pki/CA/cacert.pem"), "subject"); n != 1 {
			t.Errorf("the bundle of %s holds %d certificates", h.Name, n)
		}
	}
	if r := dial(t, a, alone, ""); r.Code == 0 || r.Code == 124 {
		t.Errorf("a host of the other cluster is let in: %d %s", r.Code, r.Stdout)
	}
	// The third host joins the others.
	s.clusters(t, nil)
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	if n := subjects(t, alone, "/etc/pki/CA/cacert.pem"); strings.Contains(n, "rack2") || strings.Count(n, "subject") != 1 {
		t.Errorf("the bundle of the host that moved:\n%s", n)
	}
}

// clusters writes the inventory with hosts in other clusters than rack1.
func (s *site) clusters(t *testing.T, of map[string]string) {
	t.Helper()
	s.inventory(t, s.Hosts)
	path := filepath.Join(s.Dir, "inventory.hcl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := string(text)
	for host, cluster := range of {
		at := strings.Index(out, fmt.Sprintf("host %q", host))
		out = out[:at] + strings.Replace(out[at:], "cluster.rack1", "cluster."+cluster, 1)
	}
	s.Write(t, "inventory.hcl", out+"\ncluster \"rack2\" {\n  policy    = policy.standard\n  migration = \"available\"\n}\n")
}
