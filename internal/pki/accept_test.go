package pki_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/needed"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/pki/pkitest"
)

func publicKey(t *testing.T, keyPEM []byte) crypto.PublicKey {
	t.Helper()
	if len(keyPEM) == 0 {
		return nil
	}
	block, _ := pem.Decode(keyPEM)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer).Public()
}

func TestJudge(t *testing.T) {
	now := time.Now()
	accepted, refused := 0, 0
	for _, c := range pkitest.Cases(now) {
		for _, target := range pkitest.Targets() {
			t.Run(c.Suite+"/"+c.Name+"/"+target.Name, func(t *testing.T) {
				v := pki.Judge(pki.Question{Rules: target.Rules, Role: c.Role, Now: now, Cert: c.Cert, CA: c.CA, Key: publicKey(t, c.Key)})
				if want := c.Accepts(target.Name); v.OK != want {
					t.Fatalf("OK = %v, want %v: %v", v.OK, want, v.Problems)
				}
				if !v.OK && c.Code != "" && !v.Has(c.Code) {
					t.Errorf("no problem %q in %v", c.Code, v.Problems)
				}
				if v.OK {
					accepted++
				} else {
					refused++
				}
			})
		}
	}
	if accepted == 0 || refused == 0 {
		t.Errorf("accepted %d and refused %d", accepted, refused)
	}
}

func TestJudgePeer(t *testing.T) {
	now := time.Now()
	for _, s := range pkitest.Sessions(now) {
		for _, target := range pkitest.Targets() {
			if target.Rules.Consumer != pki.ConsumerLibvirt {
				continue
			}
			t.Run(s.Name+"/"+target.Name, func(t *testing.T) {
				byServer := pki.JudgePeer(pki.PeerQuestion{Rules: target.Rules, Role: pki.UsageClient, Now: now,
					Chain: [][]byte{s.Client.X509.Raw}, CA: s.ServerCA, CheckDN: s.CheckDN, AllowedDNs: s.AllowedDNs})
				if byServer.OK == s.ServerFails {
					t.Errorf("server: OK = %v: %v", byServer.OK, byServer.Problems)
				}
				byClient := pki.JudgePeer(pki.PeerQuestion{Rules: target.Rules, Role: pki.UsageServer, Now: now,
					Chain: [][]byte{s.Server.X509.Raw}, CA: s.ClientCA, Host: s.Host})
				if byClient.OK == s.ClientFails {
					t.Errorf("client: OK = %v: %v", byClient.OK, byClient.Problems)
				}
			})
		}
	}
}

// TestAgainstQEMU asks the QEMU of this machine what it makes of every case.
func TestAgainstQEMU(t *testing.T) {
	if testing.Short() {
		needed.Missing(t, "not with -short: starts QEMU once for each case")
	}
	qemu := needed.Program(t, "qemu-system-x86_64", "qemu-system-x86")
	version, err := exec.Command(qemu, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	rules := pki.QEMURules(strings.SplitN(string(version), "\n", 2)[0])
	t.Logf("%s: %+v", strings.TrimSpace(string(version)), rules)
	now := time.Now()
	for _, c := range pkitest.Cases(now) {
		t.Run(c.Suite+"/"+c.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := c.WriteQEMU(dir); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(qemu, "-M", "none", "-nodefaults", "-display", "none", "-monitor", "stdio",
				"-object", "tls-creds-x509,id=t,dir="+dir+",endpoint="+string(c.Role)+",verify-peer=on")
			cmd.Stdin = strings.NewReader("quit\n")
			out, _ := cmd.CombinedOutput()
			real := !strings.Contains(string(out), "qemu-system-x86_64:")
			v := pki.Judge(pki.Question{Rules: rules, Role: c.Role, Now: now, Cert: c.Cert, CA: c.CA, Key: publicKey(t, c.Key)})
			if v.OK != real {
				t.Errorf("QEMU accepts: %v, Judge: %v %v\n%s", real, v.OK, v.Problems, out)
			}
		})
	}
}

// TestAgainstCerttool compares the rules of chains and names alone.
func TestAgainstCerttool(t *testing.T) {
	certtool := needed.Program(t, "certtool", "gnutls-bin")
	now := time.Now()
	for _, s := range pkitest.Sessions(now) {
		t.Run(s.Name, func(t *testing.T) {
			dir := t.TempDir()
			ca, cert := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem")
			if err := os.WriteFile(ca, s.ClientCA, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(cert, s.Server.PEM(), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(certtool, "--verify", "--load-ca-certificate", ca, "--infile", cert, "--verify-hostname", s.Host).CombinedOutput()
			v := pki.JudgePeer(pki.PeerQuestion{Rules: pki.Rules{}, Role: pki.UsageServer, Now: now, Chain: [][]byte{s.Server.X509.Raw}, CA: s.ClientCA, Host: s.Host})
			if v.OK != (err == nil) {
				t.Errorf("certtool: %v, JudgePeer: %v %v\n%s", err, v.OK, v.Problems, out)
			}
		})
	}
}
