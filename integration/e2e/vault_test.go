//go:build vault

package e2e

import (
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
	v := s.startVault(t, company)
	// docs/pki.md gives these.
	role := func(name, usage string, more map[string]any) {
		in := map[string]any{
			"allowed_domains": lab.Domain, "allow_subdomains": true, "allow_ip_sans": true, "cn_validations": []string{"disabled"},
			"server_flag": usage != "clients", "client_flag": usage != "hosts", "key_usage": []string{"DigitalSignature", "KeyEncipherment"},
			"key_type": "any", "max_ttl": "2400h", "organization": "Company",
		}
		for k, v := range more {
			in[k] = v
		}
		v.ask(t, "POST", "pki-kvm/roles/"+name, in, nil)
	}
	role("hosts", "hosts", nil)
	role("clients", "clients", nil)
	role("both", "both", nil)
	role("people", "clients", map[string]any{"key_type": "ec", "key_bits": 256})
	role("elsewhere", "both", map[string]any{"allowed_domains": "other.example"})
	v.ask(t, "PUT", "sys/policies/acl/kvm-signer", map[string]any{"policy": `
path "pki-kvm/sign/hosts"     { capabilities = ["update"] }
path "pki-kvm/sign/clients"   { capabilities = ["update"] }
path "pki-kvm/sign/elsewhere" { capabilities = ["update"] }`}, nil)
	v.ask(t, "POST", "sys/auth/approle", map[string]any{"type": "approle"}, nil)
	v.ask(t, "POST", "auth/approle/role/kvm", map[string]any{"token_policies": "kvm-signer", "token_ttl": "1h"}, nil)
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
	for what, token := range map[string]string{"the token": strings.TrimSpace(good), "the wide token": wide.Auth.Token} {
		if where := findIn(t, s.Dir, []byte(token)); len(where) != 1 {
			t.Errorf("%s stands in %v", what, where)
		}
		if strings.Contains(s.Said.String(), token) {
			t.Errorf("%s was printed", what)
		}
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
