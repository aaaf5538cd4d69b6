package e2e

import (
	"crypto"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/pki/pkitest"
)

//go:embed oracle.sh
var oracleScript string

// The real libvirt and QEMU of every suite judge every case as package pki does.
// libvirtd is asked by a reload, which makes the same checks as a start; some
// cases, and with VIRTRUST_LONG=1 all, are also started with.
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
			h := s.Hosts[0]
			libvirt := operator.Sh(t, h, "dpkg-query -W -f '${Version}' libvirt-daemon")
			qemu := operator.Sh(t, h, "qemu-system-x86_64 --version | head -n 1")
			began := time.Now()
			perfect := slices.IndexFunc(cases, func(c pkitest.Case) bool { return c.Suite == "libvirt" && c.Name == "servercert" })
			every := 8
			if os.Getenv("VIRTRUST_LONG") == "1" {
				every = 1
			}
			r, err := h.Run(t.Context(), "/bin/sh", "-c", fmt.Sprintf("perfect=%03d every=%d\n%s", perfect, every, oracleScript))
			if err != nil {
				t.Fatal(err)
			}
			rules := map[string]pki.Rules{"libvirt": pki.LibvirtRules(libvirt), "start": pki.LibvirtRules(libvirt), "qemu": pki.QEMURules(qemu)}
			asked, refused := 0, 0
			for line := range strings.Lines(r.Stdout) {
				words := strings.Fields(line)
				if len(words) < 3 || words[2] != "ok" && words[2] != "no" {
					t.Errorf("the script says %q", line)
					continue
				}
				consumer, verdict := words[1], words[2]
				i, err := strconv.Atoi(words[0])
				if err != nil || i >= len(cases) {
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
			if asked < 2*len(cases) || refused == 0 || refused == asked {
				t.Errorf("%d answers about %d cases, %d refusals: %s%s", asked, len(cases), refused, r.Stdout, r.Stderr)
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
