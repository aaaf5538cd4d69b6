package authority

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
)

// Recorded of Vault 1.13.1, see integration/vault: the requests that virtrust
// sent for a host, and what Vault answered.
type vaultExchange struct {
	Method, Path string
	Token        bool
	Ask          map[string]any
	Status       int
	Answer       json.RawMessage
}

// What virtrust asks of Vault, and what it makes of the answers, is what a real
// one was asked and answered.
func TestVaultContract(t *testing.T) {
	text, err := os.ReadFile("testdata/vault-1.13.1.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vaultExchange
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	var first struct {
		Data struct {
			Chain []string `json:"ca_chain"`
		} `json:"data"`
	}
	if err := json.Unmarshal(all[0].Answer, &first); err != nil {
		t.Fatal(err)
	}
	chain, err := joinChain(first.Data.Chain...)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	if _, err := Import(t.Context(), ImportParams{Name: "corp", Dir: p.dir("corp"), Chain: pki.RenderCerts(chain...), Run: p.run, Now: chain[0].NotBefore.Add(time.Hour)}, p.l); err != nil {
		t.Fatal(err)
	}
	server, client := []pki.Usage{pki.UsageServer}, []pki.Usage{pki.UsageClient}
	want := []struct {
		usages []pki.Usage
		err    string // empty: it is signed
		excess bool
	}{
		{usages: server},
		{usages: client},
		{usages: server, excess: true},
		{usages: server, err: "400 Bad Request: \"subject alternate name kvm1.example.test not allowed by this role\""},
		{usages: server, err: "usages is client, wanted server"},
		{usages: server, err: "permission denied\": the token has ended, or its policy lacks update on pki-kvm/sign/both"},
		{usages: server, err: "unknown role: nobody"},
		{usages: server, err: "503 Service Unavailable: \"Vault is sealed\""},
		{usages: server, err: "403 Forbidden: \"permission denied\": the token has ended"},
	}
	if len(all) != len(want) {
		t.Fatalf("%d exchanges are recorded", len(all))
	}
	for i, x := range all {
		role := strings.TrimPrefix(x.Path, "/v1/pki-kvm/sign/")
		srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var ask map[string]any
			if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
				t.Error(err)
			}
			if r.Method != x.Method || r.URL.Path != x.Path || (r.Header.Get("X-Vault-Token") != "") != x.Token {
				t.Errorf("%s: asked %s %s", role, r.Method, r.URL.Path)
			}
			for k := range x.Ask {
				if ask[k] != x.Ask[k] {
					t.Errorf("%s: %s is %v, recorded is %v", role, k, ask[k], x.Ask[k])
				}
			}
			if len(ask) != len(x.Ask) {
				t.Errorf("%s: asked %v", role, ask)
			}
			w.WriteHeader(x.Status)
			_, _ = w.Write(x.Answer)
		}))
		defer srv.Close()
		roots := filepath.Join(p.root, "roots.pem")
		if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		v := Vault{Address: srv.URL, Mount: "pki-kvm", Role: role, Roots: roots, Token: NewSecret([]byte(canary))}
		if len(want[i].usages) == 1 && want[i].usages[0] == pki.UsageClient {
			v.Role, v.ClientRole = "hosts", role
		}
		a, err := OpenVault(t.Context(), "corp", p.dir("corp"), p.run, v, p.l)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(x.Ask["csr"].(string)))
		csr, err := pki.ParseCSR(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := a.Sign(t.Context(), Request{Run: p.run, Host: "kvm1", CSR: csr, Profile: pki.Profile{
			Name: "libvirt", CommonName: "kvm1", DNSNames: []string{"kvm1.example.test"}, Usages: want[i].usages, Lifetime: 90 * 24 * time.Hour, Foreign: true,
		}})
		switch {
		case want[i].err != "" && (err == nil || !strings.Contains(err.Error(), want[i].err)):
			t.Errorf("%d %s: %v, want %q", i, role, err, want[i].err)
		case want[i].err == "" && err != nil:
			t.Errorf("%d %s: %v", i, role, err)
		case err == nil && (len(pki.Excess(leaf[0], pki.Profile{Usages: want[i].usages})) > 0) != want[i].excess:
			t.Errorf("%d %s: usages %v", i, role, leaf[0].ExtKeyUsage)
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("the token is in %v", err)
		}
	}
}
