package life

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pavlo-v-chernykh/keystore-go/v4"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/authority/authoritytest"
)

// company: authorities below a root that is kept offline, one by a request and
// one brought in with its key, then one for each cluster, and then CAs that
// somebody made and used before, on hosts that had others.
func company(t *testing.T, s *site) {
	c := s.anew(t)
	for _, p := range []struct {
		name string
		do   func(*testing.T, *site)
	}{{"root", belowRoot}, {"clusters", apart}, {"taken", func(t *testing.T, s *site) { taken(t, s.anew(t)) }}} {
		if !t.Run(p.name, func(t *testing.T) { p.do(t, c) }) {
			return
		}
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
    %[2]s
  }
  trust "/etc/monitor/ca.p12" {
    authorities = [authority.%[1]s]
    format      = "pkcs12"
  }
  trust "/etc/monitor/ca.jks" {
    authorities = [authority.%[1]s]
    format      = "jks"
  }
  certificate "libvirt-server" {
    authority = authority.%[1]s
  }
  certificate "libvirt-client" {
    authority = authority.%[1]s
  }
  rollout {
    canary = 0
    batch  = "100%%"
  }
}
`, signs, trusts))
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
		if in := stored(t, h, "/etc/monitor/ca.jks"); !slices.Equal(in, []string{"CN=Company libvirt g1,O=Company"}) {
			t.Errorf("the store of %s: %v", h.Name, in)
		}
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

	// The root certifies the same key again, before the first certificate ends.
	served := serial(t, s.Hosts[0])
	root.Run(t, `openssl x509 -req -in libvirt.csr -CA root.crt -CAkey root.key -CAcreateserial -days 1400 -copy_extensions copyall -out libvirt.crt`)
	operator.Contains(t, s.run(t, 0, "ca", "import", "libvirt", file("libvirt.crt"), file("root.crt")), "renewed with its key")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	s.renewedCA(t, file("libvirt.crt"), served)
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	person(t, s, root.Dir)
}

// person: somebody whose key was made elsewhere logs in to every host, until that
// is withdrawn.
func person(t *testing.T, s *site, dir string) {
	t.Helper()
	at, file := s.Hosts[1], func(name string) string { return filepath.Join(dir, name) }
	csr := operator.Sh(t, at, "rm -rf /root/ann; mkdir -m 0700 /root/ann; cd /root/ann; openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout clientkey.pem -subj /CN=anybody 2>/dev/null")
	if err := os.WriteFile(file("ann.csr"), []byte(csr+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(t, 0, "cert", "issue", "--authority", "libvirt", "--csr", file("ann.csr"), "--cn", "ann.example.com", "--lifetime", "30d", "--out", file("ann.pem"), "--yes")
	s.run(t, 0, "ca", "export", "libvirt", "--out", file("trust.pem"))
	bring(t, at, "/root/ann", dir, map[string]string{"clientcert.pem": "ann.pem", "cacert.pem": "trust.pem"})
	for _, h := range s.Hosts {
		if r := dial(t, at, h, "?pkipath=/root/ann"); r.Code != 0 {
			t.Errorf("%s (%s) refuses a person's certificate: %s", h.Name, h.Suite, r.Stderr)
		}
	}
	operator.Contains(t, s.run(t, 0, "cert", "list", "--host", "cert:ann.example.com"), "ann.example.com")
	// What is not on any host is no reason for a plan.
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	s.run(t, 0, "ca", "revoke", "libvirt", "--host", "cert:ann.example.com", "--yes")
	s.run(t, 0, "apply", "--yes")
	for _, h := range s.Hosts {
		if r := dial(t, at, h, "?pkipath=/root/ann"); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s (%s) accepts a person whose certificate is revoked: %d", h.Name, h.Suite, r.Code)
		}
	}
}

// bring writes files of a directory here to one on a host, under other names.
func bring(t *testing.T, to *lab.Host, dir, from string, files map[string]string) {
	t.Helper()
	for name, file := range files {
		text, err := os.ReadFile(filepath.Join(from, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := to.WriteFile(t.Context(), dir+"/"+name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// stored are the subjects in a key store of Java's on a host.
func stored(t *testing.T, h *lab.Host, path string) (subjects []string) {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(operator.Sh(t, h, "base64 "+path), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	ks := keystore.New()
	if err := ks.Load(bytes.NewReader(data), []byte("changeit")); err != nil {
		t.Fatalf("%s: %s: %v", h.Name, path, err)
	}
	for _, alias := range ks.Aliases() {
		e, err := ks.GetTrustedCertificateEntry(alias)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(e.Certificate.Content)
		if err != nil {
			t.Fatal(err)
		}
		subjects = append(subjects, c.Subject.String())
	}
	return subjects
}

// taken: a CA that has signed for years goes on here with its key and its list,
// and one made after libvirt's guide, which may sign no list, goes on without.
func taken(t *testing.T, s *site) {
	s.policy(t, "", "")
	s.inventory(t, s.Hosts)
	old := authoritytest.NewCompany(t)
	file := func(name string) string { return filepath.Join(old.Dir, name) }
	// What the CA signed for two people before, one of them on its list.
	old.Run(t, `
printf 'keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=clientAuth\n' >person.ext
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=30\n' >ca.cnf
: >index.txt; echo 2A >crlnumber
for who in ann bob; do
	openssl ecparam -name prime256v1 -genkey -noout -out $who.key
	openssl req -new -key $who.key -subj /CN=$who -out $who.csr
	openssl x509 -req -in $who.csr -CA root.crt -CAkey root.key -set_serial "0x0$(openssl rand -hex 15)" -days 300 -extfile person.ext -out $who.crt
done
printf 'R\t300101000000Z\t260101000000Z\t%s\tunknown\t/CN=bob\n' "$(openssl x509 -in bob.crt -noout -serial | cut -d= -f2)" >index.txt
openssl ca -config ca.cnf -gencrl -cert root.crt -keyfile root.key -out root.crl
openssl req -x509 -new -key sub.key -subj "/CN=Guide" -days 900 -out guide.crt -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign
chmod 600 root.key sub.key`)
	operator.Contains(t, s.run(t, 0, "ca", "import", "libvirt", file("root.crt"), "--key", file("root.key"), "--crl", file("root.crl")), "Company Root", "issuing")
	operator.Contains(t, s.run(t, 0, "ca", "import", "qemu", file("guide.crt"), "--key", file("sub.key")), "Guide", "may not sign revocation lists")
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	at := s.Hosts[0]
	for _, who := range []string{"ann", "bob"} {
		operator.Sh(t, at, "rm -rf /root/"+who+"; mkdir -m 0700 /root/"+who)
		bring(t, at, "/root/"+who, old.Dir, map[string]string{"clientcert.pem": who + ".crt", "clientkey.pem": who + ".key", "cacert.pem": "root.crt"})
	}
	for _, h := range s.Hosts {
		if r := dial(t, at, h, "?pkipath=/root/ann"); r.Code != 0 {
			t.Errorf("%s (%s) refuses what the CA signed before: %s", h.Name, h.Suite, r.Stderr)
		}
		if r := dial(t, at, h, "?pkipath=/root/bob"); r.Code == 0 || r.Code == 124 {
			t.Errorf("%s (%s) accepts what the CA revoked before: %d", h.Name, h.Suite, r.Code)
		}
	}
	// A CA that may sign no list serves migrations all the same.
	s.run(t, 0, "verify", "--migrate", "--from", s.Hosts[0].Name, "--to", s.Hosts[1].Name)
	operator.Contains(t, s.run(t, 4, "ca", "revoke", "qemu", "--host", s.Hosts[0].Name, "--in-use", "--yes"), "may not sign revocation lists")
	// The list goes on where it was.
	s.run(t, 0, "ca", "revoke", "libvirt", "--file", file("ann.crt"), "--yes")
	s.run(t, 0, "apply", "--yes")
	for _, h := range s.Hosts {
		if n := operator.Sh(t, h, "openssl crl -in /etc/pki/CA/cacrl.pem -noout -crlnumber"); !strings.EqualFold(n, "crlNumber=0x2B") && !strings.EqualFold(n, "crlNumber=2B") {
			t.Errorf("the list of %s has %s", h.Name, n)
		}
		for _, who := range []string{"ann", "bob"} {
			if r := dial(t, at, h, "?pkipath=/root/"+who); r.Code == 0 || r.Code == 124 {
				t.Errorf("%s (%s) accepts %s: %d", h.Name, h.Suite, who, r.Code)
			}
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
	// A guest stays where it is, until the third host joins the others.
	guest(t, a, "stays")
	operator.Contains(t, s.run(t, 4, "migrate", "stays", "--from", a.Name, "--to", alone.Name), "keeps clusters apart")
	operator.Sh(t, a, "virsh -q domstate stays | grep -q running")
	s.clusters(t, nil)
	s.run(t, 0, "apply", "--yes")
	operator.Contains(t, s.run(t, 0, "plan"), "Nothing to do")
	operator.Contains(t, s.run(t, 0, "verify"), "6 of 6 dials accepted")
	if n := subjects(t, alone, "/etc/pki/CA/cacert.pem"); strings.Contains(n, "rack2") || strings.Count(n, "subject") != 1 {
		t.Errorf("the bundle of the host that moved:\n%s", n)
	}
	s.run(t, 0, "migrate", "stays", "--to", alone.Name)
	operator.Sh(t, alone, "virsh -q domstate stays | grep -q running && virsh -q destroy stays")
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
