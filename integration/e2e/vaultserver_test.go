//go:build vault

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/authority/authoritytest"
)

const vaultAddress = "127.0.0.1:8200"

// building is one build at a time: the second finds all that the first compiled.
var building sync.Mutex

// A vaultServer is HashiCorp Vault in the lab's network, with an issuing CA of
// its own below the company's root.
type vaultServer struct {
	mount   string
	site    *site
	company *authoritytest.Company
	client  *http.Client
	root    string // token
	unseal  string
}

// startVault builds the server, starts it and makes it ready, over its API.
func (s *site) startVault(t *testing.T, c *authoritytest.Company, mount string) *vaultServer {
	t.Helper()
	// Its sources belong to another module. Their names keep tools that walk over
	// this module's files from taking them for a package of it.
	program, source := filepath.Join(c.Dir, "vault"), t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "main.go.in", "record.go.in"} {
		text, err := os.ReadFile("../vault/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(source, strings.TrimSuffix(name, ".in")), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", program, ".")
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	building.Lock()
	began := time.Now()
	out, err := build.CombinedOutput()
	building.Unlock()
	if err != nil {
		t.Fatalf("building Vault: %v\n%s", err, out)
	}
	t.Logf("Vault was built in %s", time.Since(began).Round(time.Second))
	c.Run(t, `
openssl ecparam -name prime256v1 -genkey -noout -out web.key
openssl req -new -key web.key -subj /CN=vault -out web.csr
printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >web.ext
openssl x509 -req -in web.csr -CA root.crt -CAkey root.key -CAcreateserial -days 30 -extfile web.ext -out web.crt`)
	args := []string{"-listen", vaultAddress, "-cert", filepath.Join(c.Dir, "web.crt"), "-key", filepath.Join(c.Dir, "web.key")}
	if record := os.Getenv("VIRTRUST_RECORD"); record != "" {
		args = append(args, "-record", record)
	}
	s.serve(t, filepath.Join(c.Dir, "vault.log"), nil, program, args...)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Read(t, "root.crt"))
	v := &vaultServer{mount: mount, site: s, company: c, client: &http.Client{Timeout: limit, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.Lab.Dial(ctx, network, address)
		},
	}}}
	operator.Until(t, 3*limit, "Vault answers", func() bool {
		resp, err := v.client.Get("https://" + vaultAddress + "/v1/sys/seal-status")
		return err == nil && resp.Body.Close() == nil
	})
	var keys struct {
		Keys []string `json:"keys_base64"`
		Root string   `json:"root_token"`
	}
	v.ask(t, "PUT", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1}, &keys)
	v.root, v.unseal = keys.Root, keys.Keys[0]
	v.ask(t, "PUT", "sys/unseal", map[string]any{"key": v.unseal}, nil)
	v.ask(t, "POST", "sys/mounts/"+mount, map[string]any{"type": "pki", "config": map[string]any{"max_lease_ttl": "8760h"}}, nil)
	v.issuing(t, "Vault Issuing 1", "vault")
	return v
}

// issuing makes an issuing CA whose key is made in Vault and stays there, and
// writes it with the company's root to NAME-chain.pem. It gives Vault's id of it.
func (v *vaultServer) issuing(t *testing.T, subject, name string) string {
	t.Helper()
	c := v.company
	var made struct {
		Data struct {
			CSR string `json:"csr"`
		} `json:"data"`
	}
	v.ask(t, "POST", v.mount+"/intermediate/generate/internal", map[string]any{"common_name": subject, "organization": "Company", "key_type": "ec", "key_bits": 256}, &made)
	if err := os.WriteFile(filepath.Join(c.Dir, name+".csr"), []byte(made.Data.CSR), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Run(t, fmt.Sprintf(`openssl x509 -req -in %[1]s.csr -CA root.crt -CAkey root.key -CAcreateserial -days 1000 -extfile sub.ext -out %[1]s.crt
cat %[1]s.crt root.crt >%[1]s-chain.pem`, name))
	var taken struct {
		Data struct {
			Issuers []string          `json:"imported_issuers"`
			Keys    map[string]string `json:"mapping"`
		} `json:"data"`
	}
	v.ask(t, "POST", v.mount+"/intermediate/set-signed", map[string]any{"certificate": string(c.Read(t, name+"-chain.pem"))}, &taken)
	for _, id := range taken.Data.Issuers {
		if taken.Data.Keys[id] != "" { // the root has no key here
			return id
		}
	}
	t.Fatalf("Vault took no issuer with a key: %+v", taken)
	return ""
}

// role makes a role for hosts, clients or both, as docs/pki.md gives them.
func (v *vaultServer) role(t *testing.T, name, usage string, more map[string]any) {
	t.Helper()
	in := map[string]any{
		"allowed_domains": lab.Domain, "allow_subdomains": true, "allow_ip_sans": true, "cn_validations": []string{"disabled"},
		"server_flag": usage != "clients", "client_flag": usage != "hosts", "key_usage": []string{"DigitalSignature", "KeyEncipherment"},
		"key_type": "any", "max_ttl": "2400h", "organization": "Company",
	}
	maps.Copy(in, more)
	v.ask(t, "POST", v.mount+"/roles/"+name, in, nil)
}

// approle makes an AppRole that may sign with these roles, and nothing else.
func (v *vaultServer) approle(t *testing.T, roles ...string) {
	t.Helper()
	text := ""
	for _, r := range roles {
		text += fmt.Sprintf("path \"%s/sign/%s\" { capabilities = [\"update\"] }\n", v.mount, r)
	}
	v.ask(t, "PUT", "sys/policies/acl/kvm-signer", map[string]any{"policy": text}, nil)
	v.ask(t, "POST", "sys/auth/approle", map[string]any{"type": "approle"}, nil)
	v.ask(t, "POST", "auth/approle/role/kvm", map[string]any{"token_policies": "kvm-signer", "token_ttl": "1h"}, nil)
}

// ask sends a request with the root token; it has to succeed.
func (v *vaultServer) ask(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if code, text := v.try(t, method, path, v.root, in, out); code/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
}

func (v *vaultServer) try(t *testing.T, method, path, token string, in, out any) (int, string) {
	t.Helper()
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+vaultAddress+"/v1/"+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", token)
	resp, err := v.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil && resp.StatusCode/100 == 2 {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
	return resp.StatusCode, string(text)
}

// get reads what the server gives to everybody, as it is.
func (v *vaultServer) get(t *testing.T, path string) string {
	t.Helper()
	resp, err := v.client.Get("https://" + vaultAddress + "/v1/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return string(text)
}

// login gives a token of AppRole kvm, whose policy lets it sign and no more.
func (v *vaultServer) login(t *testing.T) string {
	t.Helper()
	var id, secret struct {
		Data struct {
			Role   string `json:"role_id"`
			Secret string `json:"secret_id"`
		} `json:"data"`
	}
	v.ask(t, "GET", "auth/approle/role/kvm/role-id", nil, &id)
	v.ask(t, "POST", "auth/approle/role/kvm/secret-id", map[string]any{}, &secret)
	var in struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	v.ask(t, "POST", "auth/approle/login", map[string]any{"role_id": id.Data.Role, "secret_id": secret.Data.Secret}, &in)
	if !strings.HasPrefix(in.Auth.Token, "hvs.") {
		t.Fatalf("no token: %+v", in)
	}
	return in.Auth.Token
}
