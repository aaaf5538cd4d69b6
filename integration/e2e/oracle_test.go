package e2e

import (
	"crypto"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/pki/pkitest"
)

//go:embed oracle.sh
var oracleScript string

// The real libvirt and QEMU of every suite judge every case as package pki does.
func TestOracle(t *testing.T) {
	t.Parallel()
	for _, suite := range lab.Suites {
		t.Run(suite, func(t *testing.T) {
			now := time.Now()
			cases := pkitest.Cases(now)
			files := map[string]lab.File{}
			for i, c := range cases {
				dir := fmt.Sprintf("/root/oracle/%03d/", i)
				files[dir+"role"] = lab.File{Content: []byte(c.Role)}
				if len(c.CA) > 0 {
					files[dir+"ca.pem"] = lab.File{Content: c.CA}
				}
				if len(c.Cert) > 0 {
					files[dir+"cert.pem"] = lab.File{Content: c.Cert}
					files[dir+"key.pem"] = lab.File{Content: c.Key, Mode: 0o600}
				}
			}
			s := newSite(t, lab.HostSpec{Suite: suite, Files: files})
			h := s.hosts[0]
			libvirt := sh(t, h, "dpkg-query -W -f '${Version}' libvirt-daemon")
			qemu := sh(t, h, "qemu-system-x86_64 --version | head -n 1")
			began := time.Now()
			r, err := h.Run(t.Context(), "/bin/sh", "-c", oracleScript)
			if err != nil {
				t.Fatal(err)
			}
			rules := map[string]pki.Rules{"libvirt": pki.LibvirtRules(libvirt), "qemu": pki.QEMURules(qemu)}
			asked, refused := 0, 0
			for line := range strings.Lines(r.Stdout) {
				var i int
				var consumer, verdict string
				if _, err := fmt.Sscan(line, &i, &consumer, &verdict); err != nil || verdict != "ok" && verdict != "no" {
					t.Errorf("the script says %q", line)
					continue
				}
				asked++
				if verdict == "no" {
					refused++
				}
				c := cases[i]
				v := pki.Judge(pki.Question{Rules: rules[consumer], Role: c.Role, Now: now, Cert: c.Cert, CA: c.CA, Key: publicKey(t, c.Key)})
				if v.OK != (verdict == "ok") {
					t.Errorf("%s/%s as %s: %s says %s, Judge %v %v", c.Suite, c.Name, c.Role, consumer, strings.TrimSpace(line), v.OK, v.Problems)
				}
			}
			if asked != 2*len(cases) || refused == 0 || refused == asked {
				t.Errorf("%d answers to %d questions, %d refusals: %s", asked, 2*len(cases), refused, r.Stderr)
			}
			t.Logf("libvirt %s, %s: %d questions, %d refusals, %s", libvirt, qemu, asked, refused, time.Since(began).Round(time.Second))
		})
	}
}

func publicKey(t *testing.T, text []byte) crypto.PublicKey {
	t.Helper()
	if len(text) == 0 {
		return nil
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer).Public()
}
