//go:build vault

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/authority/authoritytest"
)

const vaultAddress = "127.0.0.1:8200"

// A vaultServer is HashiCorp Vault in the lab's network, with an issuing CA of
// its own below the company's root at the mount pki-kvm.
type vaultServer struct {
	site    *site
	company *authoritytest.Company
	client  *http.Client
	root    string // token
	unseal  string
}

// startVault builds the server, starts it and makes it ready, over its API.
func (s *site) startVault(t *testing.T, c *authoritytest.Company) *vaultServer {
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
	began := time.Now()
	if out, err := build.CombinedOutput(); err != nil {
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
	v := &vaultServer{site: s, company: c, client: &http.Client{Timeout: limit, Transport: &http.Transport{
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
	v.ask(t, "POST", "sys/mounts/pki-kvm", map[string]any{"type": "pki", "config": map[string]any{"max_lease_ttl": "8760h"}}, nil)
	// The issuing key is made in Vault and stays there.
	var made struct {
		Data struct {
			CSR string `json:"csr"`
		} `json:"data"`
	}
	v.ask(t, "POST", "pki-kvm/intermediate/generate/internal", map[string]any{"common_name": "Vault Issuing 1", "organization": "Company", "key_type": "ec", "key_bits": 256}, &made)
	if err := os.WriteFile(filepath.Join(c.Dir, "vault.csr"), []byte(made.Data.CSR), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Run(t, `openssl x509 -req -in vault.csr -CA root.crt -CAkey root.key -CAcreateserial -days 1000 -extfile sub.ext -out vault.crt
cat vault.crt root.crt >vault-chain.pem`)
	v.ask(t, "POST", "pki-kvm/intermediate/set-signed", map[string]any{"certificate": string(c.Read(t, "vault-chain.pem"))}, nil)
	return v
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
