//go:build vault

package e2e

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/authority/authoritytest"
)

// A real Vault signs for a host, with a token of an AppRole that may do nothing
// else: plan, apply, renewal, its revocation list, and what it refuses.
func TestVault(t *testing.T) {
	t.Parallel()
	company := authoritytest.NewCompany(t)
	s := newSite(t, lab.HostSpec{})
	s.Env = nil
	kvm1 := s.Hosts[0]
	v := s.startVault(t, company, "pki-kvm")
	role := func(name, usage string, more map[string]any) {
		t.Helper()
		v.role(t, name, usage, more)
	}
	role("hosts", "hosts", nil)
	role("clients", "clients", nil)
	role("both", "both", nil)
	role("people", "clients", map[string]any{"key_type": "ec", "key_bits": 256})
	role("elsewhere", "both", map[string]any{"allowed_domains": "other.example"})
	v.approle(t, "hosts", "clients", "elsewhere")
	// What an agent would write to its sink.
	s.Write(t, "token", v.login(t)+"\n")

	trust := func(roles string) {
		s.Write(t, "policy.hcl", fmt.Sprintf(`authority "libvirt" {
  kind = "vault"

  vault {
    address    = %q
    mount      = "pki-kvm"
    %s
    roots      = %q
    token_from = "file:token"
  }
}

fleet {
  migration = "off"
}

policy "standard" {
  template = "libvirt"
}
`, "https://"+vaultAddress, roles, filepath.Join(company.Dir, "root.crt")))
	}
	const twoRoles = "role = \"hosts\"\n    client_role = \"clients\""
	trust(twoRoles)
	operator.Contains(t, s.Run(t, 1, "plan").Stderr, "virtrust ca import libvirt")
	operator.Contains(t, s.Run(t, 0, "ca", "import", "libvirt", filepath.Join(company.Dir, "vault-chain.pem")).Stdout, "Vault Issuing 1")
	s.Run(t, 0, "apply", "--yes")
	s.Empty(t)
	leaf := s.served(t, kvm1)
	if leaf.Issuer.CommonName != "Vault Issuing 1" || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("served is a leaf of %q with usages %v", leaf.Issuer.CommonName, leaf.ExtKeyUsage)
	}
	dial := func(query string) error {
		r, err := kvm1.Run(t.Context(), "timeout", "60", "virsh", "-q", "-c", "qemu+tls://"+kvm1.FQDN+"/system"+query, "hostname")
		if err != nil {
			t.Fatal(err)
		}
		return r.Err()
	}
	if err := dial(""); err != nil {
		t.Error(err)
	}

	// Renewed when it is due, without a restart.
	process := daemon(t, kvm1)
	for _, name := range []string{"hosts", "clients"} {
		role(name, name, map[string]any{"max_ttl": "240h", "not_before_duration": "1900h"})
	}
	s.Run(t, 0, "apply", "--yes", "--replace", "certificate.libvirt-server,certificate.libvirt-client")
	for _, name := range []string{"hosts", "clients"} {
		role(name, name, nil)
	}
	leaf = s.served(t, kvm1)
	operator.Contains(t, s.Run(t, 0, "renew").Stdout, "1 host renewed", "libvirt-server, libvirt-client")
	s.Empty(t)
	if now := daemon(t, kvm1); now != process {
		t.Errorf("libvirtd was restarted: %s, then %s", process, now)
	}
	if s.served(t, kvm1).Equal(leaf) {
		t.Error("the old leaf is served")
	}

	// One role for both works, and what it costs is said.
	leaf = s.served(t, kvm1)
	v.ask(t, "PUT", "sys/policies/acl/kvm-wide", map[string]any{"policy": `path "pki-kvm/sign/*" { capabilities = ["update"] }`}, nil)
	var wide struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	v.ask(t, "POST", "auth/token/create", map[string]any{"policies": []string{"kvm-wide"}, "ttl": "1h"}, &wide)
	s.Write(t, "wide", wide.Auth.Token)
	trust("role = \"both\"")
	s.Write(t, "policy.hcl", strings.ReplaceAll(s.read(t, "policy.hcl"), "file:token", "file:wide"))
	s.Run(t, 0, "apply", "--yes", "--replace", "certificate.libvirt-server")
	operator.Contains(t, s.Run(t, 0, "plan").Stdout, "usage-too-wide")

	// What the server refuses is said, and changes nothing on the host.
	leaf = s.served(t, kvm1)
	// A key that waits for its certificate stays, for the next attempt.
	state := func() string {
		lines := strings.Split(tree(t, kvm1, false), "\n")
		return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "/var/lib/virtrust/waiting/") }), "\n")
	}
	before := state()
	refused := func(what, roles string, want ...string) {
		t.Helper()
		trust(roles)
		r := s.Run(t, 3, "apply", "--yes", "--replace", "certificate.libvirt-server")
		operator.Contains(t, strings.Join(strings.Fields(r.Stdout+r.Stderr), " "), want...)
		t.Logf("%s:\n%s%s", what, r.Stdout, r.Stderr)
		clean(t, kvm1)
	}
	refused("a role for other names", "role = \"elsewhere\"", "400", "not allowed by this role")
	refused("a role for clients", "role = \"clients\"", "usages")
	refused("no permission", "role = \"both\"", "403", "permission denied", "token")
	v.ask(t, "PUT", "sys/policies/acl/kvm-signer", map[string]any{"policy": `path "pki-kvm/sign/*" { capabilities = ["update"] }`}, nil)
	refused("no such role", "role = \"nobody\"", "400", "unknown role")
	v.ask(t, "PUT", "sys/seal", nil, nil)
	refused("sealed", twoRoles, "503", "sealed")
	v.ask(t, "PUT", "sys/unseal", map[string]any{"key": v.unseal}, nil)
	var short struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	v.ask(t, "POST", "auth/token/create", map[string]any{"policies": []string{"kvm-signer"}, "ttl": "1s", "explicit_max_ttl": "1s"}, &short)
	operator.Until(t, limit, "the token has ended", func() bool {
		code, _ := v.try(t, "GET", "auth/token/lookup-self", short.Auth.Token, nil, nil)
		return code == http.StatusForbidden
	})
	good := s.read(t, "token")
	s.Write(t, "token", short.Auth.Token)
	refused("a token that has ended", twoRoles, "403", "permission denied", "token")
	s.Write(t, "token", good)
	if after := state(); after != before {
		t.Errorf("what was refused changed the host:\n%s", diff(before, after))
	}
	trust(twoRoles)
	s.Empty(t)
	if !s.served(t, kvm1).Equal(leaf) {
		t.Error("another leaf is served")
	}

	// A client that Vault revoked is refused once its list is on the host.
	var ann struct {
		Data struct {
			Cert   string `json:"certificate"`
			Key    string `json:"private_key"`
			Serial string `json:"serial_number"`
		} `json:"data"`
	}
	v.ask(t, "POST", "pki-kvm/issue/people", map[string]any{"common_name": "ann", "exclude_cn_from_sans": true, "ttl": "24h"}, &ann)
	operator.Sh(t, kvm1, "mkdir -pm 0700 /root/ann; cp /etc/pki/CA/cacert.pem /root/ann/")
	for name, text := range map[string]string{"clientcert.pem": ann.Data.Cert, "clientkey.pem": ann.Data.Key} {
		if err := kvm1.WriteFile(t.Context(), "/root/ann/"+name, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := dial("?pkipath=/root/ann"); err != nil {
		t.Errorf("before it is revoked: %v", err)
	}
	v.ask(t, "POST", "pki-kvm/revoke", map[string]any{"serial_number": ann.Data.Serial}, nil)
	s.Write(t, "authorities/libvirt/g1.crl", v.get(t, "pki-kvm/crl/pem"))
	operator.Contains(t, s.Run(t, 0, "plan").Stdout, "/etc/pki/CA/cacrl.pem")
	s.Run(t, 0, "apply", "--yes")
	s.Empty(t)
	if err := dial("?pkipath=/root/ann"); err == nil {
		t.Error("a client that Vault revoked is accepted")
	}
	if err := dial(""); err != nil {
		t.Errorf("the host's own client: %v", err)
	}
	if now := daemon(t, kvm1); now != process {
		t.Errorf("libvirtd was restarted: %s, then %s", process, now)
	}

	// Vault's own issuing CA gives way to the next one.
	next := v.issuing(t, "Vault Issuing 2", "vault2")
	operator.Contains(t, s.Run(t, 0, "ca", "import", "libvirt", filepath.Join(company.Dir, "vault2-chain.pem")).Stdout, "Vault Issuing 2", "prepared")
	rotate := []string{"ca", "rotate", "libvirt", "--yes"}
	s.Run(t, 3, rotate...)
	s.Run(t, 0, "apply", "--yes")
	operator.Contains(t, s.Run(t, 0, rotate...).Stdout, "generation 2 is issuing")
	// Vault still signs with the old one: that is not taken.
	leaf = s.served(t, kvm1)
	r := s.Run(t, 3, "apply", "--yes")
	operator.Contains(t, r.Stdout+r.Stderr, "Vault Issuing 2")
	t.Logf("Vault signs with its old issuer:\n%s%s", r.Stdout, r.Stderr)
	clean(t, kvm1)
	if !s.served(t, kvm1).Equal(leaf) {
		t.Error("a leaf of the old issuer was taken")
	}
	v.ask(t, "POST", "pki-kvm/config/issuers", map[string]any{"default": next}, nil)
	s.Run(t, 0, "apply", "--yes")
	if now := s.served(t, kvm1); now.Issuer.CommonName != "Vault Issuing 2" {
		t.Errorf("served is a leaf of %s", now.Issuer.CommonName)
	}
	operator.Contains(t, s.Run(t, 0, rotate...).Stdout, "generation 1 is retired")
	s.Run(t, 0, "apply", "--yes")
	// Its key is not here, so nothing is left to destroy.
	s.Empty(t)
	if err := dial(""); err != nil {
		t.Errorf("after the rollover: %v", err)
	}
	if now := daemon(t, kvm1); now != process {
		t.Errorf("libvirtd was restarted: %s, then %s", process, now)
	}
	for what, token := range map[string]string{"the token": strings.TrimSpace(good), "the wide token": wide.Auth.Token} {
		if where := findIn(t, s.Dir, []byte(token)); len(where) != 1 {
			t.Errorf("%s stands in %v", what, where)
		}
		if strings.Contains(s.Said.String(), token) {
			t.Errorf("%s was printed", what)
		}
	}
}

// The steps of examples/external-ca: libvirt's certificates by a real step-ca,
// QEMU's by a real Vault, below one root that the machine trusts.
func TestExternalExample(t *testing.T) {
	t.Parallel()
	company := authoritytest.NewCompany(t)
	s := newExample(t, "external-ca", lab.HostSpec{}, lab.HostSpec{})
	password := rand.Text()
	url := s.stepCA(t, company, password)
	v := s.startVault(t, company, "pki-qemu")
	v.role(t, "hosts", "both", nil)
	v.approle(t, "hosts")
	s.Write(t, "password", password+"\n")
	s.Env = []string{"VAULT_TOKEN=" + v.login(t), "SSL_CERT_FILE=" + filepath.Join(company.Dir, "root.crt")}
	text := s.read(t, "policy.hcl")
	for here, there := range map[string]string{"https://ca." + lab.Domain: url, "https://vault.example.com:8200": "https://" + vaultAddress, "file:/etc/virtrust/provisioner-password": "file:password"} {
		if !strings.Contains(text, here) {
			t.Fatalf("the example has no %s", here)
		}
		text = strings.ReplaceAll(text, here, there)
	}
	s.Write(t, "policy.hcl", text)

	s.Run(t, 0, "ca", "import", "libvirt", filepath.Join(company.Dir, "chain.pem"))
	s.Run(t, 0, "ca", "import", "qemu", filepath.Join(company.Dir, "vault-chain.pem"))
	s.Run(t, 0, "apply", "--yes")
	s.Empty(t)
	s.Run(t, 0, "verify")
	s.Run(t, 0, "verify", "--migrate")
	for _, h := range s.Hosts {
		for file, issuer := range map[string]string{"/etc/pki/libvirt/servercert.pem": "Company Issuing 1", "/etc/pki/libvirt/clientcert.pem": "Company Issuing 1", "/etc/pki/qemu/server-cert.pem": "Vault Issuing 1"} {
			operator.Contains(t, operator.Sh(t, h, "openssl x509 -noout -issuer -in "+file), issuer)
		}
	}
	if err := virsh(t, s.Hosts[0], s.Hosts[1]); err != nil {
		t.Error(err)
	}
	// A process of QEMU's cannot log in to libvirtd with what it has.
	operator.Sh(t, s.Hosts[0], `mkdir -m 0700 /root/guest; cd /root/guest; cp -L /etc/pki/CA/cacert.pem .; cp -L /etc/pki/qemu/client-cert.pem clientcert.pem; cp -L /etc/pki/qemu/client-key.pem clientkey.pem`)
	if r := operator.On(t, s.Hosts[0], "timeout 60 virsh -q -c 'qemu+tls://"+s.Hosts[1].FQDN+"/system?pkipath=/root/guest' hostname"); r.Code == 0 || r.Code == 124 {
		t.Errorf("QEMU's certificate opens libvirt: %d %s", r.Code, r.Stdout)
	}
}

// read reads a file of the configuration.
func (s *site) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(s.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
