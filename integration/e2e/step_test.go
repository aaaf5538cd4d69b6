package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/authority/authoritytest"
	"github.com/virtrust/virtrust/plan"
)

// stepTemplate is what docs/pki.md gives for hosts of every libvirt.
const stepTemplate = `{
	"subject": {{ toJson .Subject }},
	"sans": {{ toJson .SANs }},
	"keyUsage": ["digitalSignature", "keyEncipherment"],
	"extKeyUsage": {{ toJson .Insecure.User.extKeyUsage }}
}`

// stepCA builds step-ca and starts it in the lab's network, with the company's
// issuing certificate, and gives its address.
func (s *site) stepCA(t *testing.T, c *authoritytest.Company, password string) string {
	t.Helper()
	program := filepath.Join(c.Dir, "step-ca")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "github.com/smallstep/certificates/cmd/step-ca")
	build.Dir = "../stepca"
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building step-ca: %v\n%s", err, out)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: key, KeyID: "virtrust-test", Algorithm: string(jose.ES256), Use: "sig"}
	private, err := jwk.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	e, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.PBES2_HS256_A128KW, Key: []byte(password), PBES2Count: 100000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := e.Encrypt(private)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := sealed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	const address = "127.0.0.1:9443"
	conf, err := json.Marshal(map[string]any{
		"root": filepath.Join(c.Dir, "root.crt"), "crt": filepath.Join(c.Dir, "sub.crt"), "key": filepath.Join(c.Dir, "sub.key"),
		"address": address, "dnsNames": []string{"127.0.0.1"}, "logger": map[string]string{"format": "text"},
		"authority": map[string]any{"provisioners": []any{map[string]any{
			"type": "JWK", "name": "virtrust", "key": jwk.Public(), "encryptedKey": compact,
			"claims":  map[string]string{"maxTLSCertDuration": "2400h", "defaultTLSCertDuration": "1440h"},
			"options": map[string]any{"x509": map[string]string{"template": stepTemplate}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.Dir, "ca.json")
	if err := os.WriteFile(file, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	s.serve(t, filepath.Join(c.Dir, "step-ca.log"), []string{"STEPPATH=" + c.Dir}, program, file)
	operator.Until(t, limit, "step-ca answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := s.Lab.Dial(ctx, "tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return "https://" + address
}

// A real step-ca signs for hosts, with the provisioner's password from a file.
func TestStepCA(t *testing.T) {
	t.Parallel()
	company := authoritytest.NewCompany(t)
	s := newSite(t, lab.HostSpec{}, lab.HostSpec{})
	s.Env = nil
	password := rand.Text()
	url := s.stepCA(t, company, password)
	s.Write(t, "password", password+"\n")
	block := `authority "libvirt" {
  kind = "step"

  step {
    url           = %q
    roots         = %q
    provisioner   = %q
    password_from = "file:password"
  }
}
`
	s.trust(t, fmt.Sprintf(block, url, filepath.Join(company.Dir, "root.crt"), "virtrust"))
	s.Run(t, 0, "ca", "import", "libvirt", filepath.Join(company.Dir, "chain.pem"))
	r := s.Run(t, 0, "apply", "--yes")
	operator.Contains(t, r.Stdout, "2 changed")
	s.Empty(t)
	s.Run(t, 0, "verify")
	leaf := s.served(t, s.Hosts[0])
	if leaf.Issuer.CommonName != "Company Issuing 1" || len(leaf.ExtKeyUsage) != 1 {
		t.Errorf("served is a leaf of %q with usages %v", leaf.Issuer.CommonName, leaf.ExtKeyUsage)
	}
	if err := virsh(t, s.Hosts[0], s.Hosts[1]); err != nil {
		t.Error(err)
	}

	// What goes wrong is said, and changes nothing.
	for _, tc := range []struct{ name, provisioner, password, want string }{
		{"another password", "virtrust", "wrong", "does not open it"},
		{"another provisioner", "nobody", password, `no provisioner "nobody"`},
	} {
		s.Write(t, "password", tc.password+"\n")
		s.trust(t, fmt.Sprintf(block, url, filepath.Join(company.Dir, "root.crt"), tc.provisioner))
		h := s.report(t, 3, "--yes", "--limit", "kvm1", "--replace", "certificate.libvirt-server").Hosts[0]
		if h.Result != plan.Failed || h.Failure == nil || h.Failure.Class != "signing" || !strings.Contains(h.Failure.Text, tc.want) {
			t.Errorf("%s: %s, %+v", tc.name, h.Result, h.Failure)
		}
	}
	s.Write(t, "password", password+"\n")
	s.trust(t, fmt.Sprintf(block, url, filepath.Join(company.Dir, "root.crt"), "virtrust"))
	s.Empty(t)
	if now := s.served(t, s.Hosts[0]); !now.Equal(leaf) {
		t.Error("another leaf is served")
	}
}
