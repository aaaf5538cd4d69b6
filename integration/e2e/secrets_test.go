package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

// Neither the passphrase nor a private key shows anywhere it should not, with
// every step logged.
func TestSecrets(t *testing.T) {
	t.Parallel()
	s := newSite(t, lab.HostSpec{}, lab.HostSpec{})
	w := startWitness(t, filepath.Join(s.Dir, ".virtrust"))
	// Between fork and exec, ip is a copy of this test, and then itself and
	// virtrust: one process, which the test gave the passphrase.
	s.Began = func(cmd *exec.Cmd) { w.leaveOut(cmd.Process.Pid) }

	var keys [][]byte
	remember := func() {
		for _, h := range s.Hosts {
			keys = append(keys, privateKeys(t, h)...)
		}
	}
	replace := []string{"--replace", "certificate.libvirt-server", "--replace", "certificate.libvirt-client"}
	s.Run(t, 0, "-v", "validate")
	s.Run(t, 0, "-v", "ca", "init")
	s.Run(t, 0, "-v", "plan", "--out", s.Path("a.plan.json"))
	s.Run(t, 0, "-v", "apply", s.Path("a.plan.json"))
	remember()
	// A file is opened by virtrust itself, so nobody has it in the environment.
	s.Env = nil
	s.Write(t, "passphrase", s.passphrase+"\n")
	s.Write(t, "policy.hcl", strings.ReplaceAll(policyHCL, "env:VT_PASSPHRASE", "file:passphrase"))
	s.Run(t, 0, append([]string{"-v", "apply", "--yes"}, replace...)...)
	remember()
	s.Run(t, 0, append([]string{"-v", "plan", "--json", "--out", s.Path("b.plan.json")}, replace...)...)
	s.Run(t, 0, "-v", "verify")
	s.Run(t, 0, "-v", "status", "--json")
	s.Run(t, 0, "-v", "ca", "show", "libvirt")
	s.Run(t, 0, "-v", "show", "--json")
	// A wrong passphrase is not repeated in the error.
	wrong := "wrong-" + rand.Text()
	s.Write(t, "passphrase", wrong+"\n")
	r := s.Run(t, 1, append([]string{"-v", "apply", "--yes"}, replace...)...)
	operator.Contains(t, r.Stderr, "passphrase")
	if err := os.Remove(s.Path("passphrase")); err != nil {
		t.Fatal(err)
	}

	t.Run("can be found", func(t *testing.T) {
		planted := rand.Text()
		if err := os.WriteFile(s.Path("planted"), []byte("x"+planted+"x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := findIn(t, s.Dir, []byte(planted)); !slices.Equal(got, []string{s.Path("planted")}) {
			t.Errorf("a planted file is found in %v", got)
		}
		if err := os.Remove(s.Path("planted")); err != nil {
			t.Fatal(err)
		}
		// They stay until they were seen: on a busy machine a round takes long.
		wait := `i=0; while [ ! -e /run/seen ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done; rm -f /run/seen`
		for name, p := range map[string]struct{ script, needle string }{
			"in an argument":     {`sh -c '` + wait + `; : ` + planted + `'`, planted},
			"in the environment": {`N=` + planted + `-env sh -c '` + wait + `'`, planted + "-env\x00"},
		} {
			var there sync.WaitGroup
			there.Go(func() {
				if _, err := s.Hosts[1].Script(t.Context(), p.script); err != nil {
					t.Error(err)
				}
			})
			for i := 0; i < 600 && len(w.find([]byte(p.needle))) == 0; i++ {
				time.Sleep(100 * time.Millisecond)
			}
			operator.Sh(t, s.Hosts[1], "touch /run/seen")
			there.Wait()
			if len(w.find([]byte(p.needle))) == 0 {
				t.Errorf("a planted secret %s on a host is not found", name)
			}
		}
		if operator.Sh(t, s.Hosts[0], "echo "+planted+" >/var/tmp/planted; "+grepHost(planted)) == "" {
			t.Error("a planted file on a host is not found")
		}
		now := []byte(operator.Sh(t, s.Hosts[0], "cat /etc/pki/libvirt/private/serverkey.pem"))
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Contains(now, k) }) {
			t.Error("the key that a host has now is not among those that are searched for")
		}
		// The loop saw what virtrust runs on a host.
		if len(w.find([]byte("/bin/sh\x00-s\x00"))) == 0 && len(w.find([]byte("virsh\x00-q\x00-c\x00qemu+tls://"))) == 0 {
			t.Error("no script of virtrust was seen on a host")
		}
	})
	w.end()
	t.Logf("%d rounds over all processes, %d different texts, %d forms of keys", w.rounds, len(w.seen), len(keys))

	needles := map[string][]byte{"the passphrase": []byte(s.passphrase), "the wrong passphrase": []byte(wrong)}
	for name, needle := range needles {
		report(t, name, w.find(needle), findIn(t, s.Dir, needle), said(s, needle))
		for _, h := range s.Hosts {
			if where := operator.Sh(t, h, grepHost(string(needle))); where != "" {
				t.Errorf("%s is on %s in %s", name, h.Name, where)
			}
		}
	}
	for _, k := range keys {
		report(t, "a host's private key", w.find(k), findIn(t, s.Dir, k), said(s, k))
	}
	identity, err := os.ReadFile(s.Lab.IdentityFile())
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Split(identity, []byte("\n"))[2]
	report(t, "the SSH key", w.find(line), findIn(t, s.Dir, line), said(s, line))
	report(t, "a private key", nil, findIn(t, s.Dir, []byte("PRIVATE KEY")), said(s, []byte("PRIVATE KEY")))
	operator.Contains(t, s.Said.String(), "round_trips", "step=stage")
}

func report(t *testing.T, what string, where ...[]string) {
	t.Helper()
	for _, w := range slices.Concat(where...) {
		t.Errorf("%s is in %s", what, w)
	}
}

func said(s *site, needle []byte) []string {
	if bytes.Contains(s.Said.Bytes(), needle) {
		return []string{"virtrust's output"}
	}
	return nil
}

// grepHost lists where a word is on a host: files, and the journal.
func grepHost(word string) string {
	return "grep -rlF -e " + word + " /etc /var/lib/virtrust /var/log /var/tmp /run/virtrust /tmp /root 2>/dev/null || :; journalctl -q --no-pager | grep -F -e " + word + " || :"
}

// privateKeys are a host's private keys in every form in which they could leak.
func privateKeys(t *testing.T, h *lab.Host) (forms [][]byte) {
	t.Helper()
	for _, name := range strings.Fields(operator.Sh(t, h, "ls /etc/pki/*/.virtrust/*/*/key.pem")) {
		text, err := h.ReadFile(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		if block == nil {
			t.Fatalf("%s: %s is no PEM", h.Name, name)
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		d := key.(*ecdsa.PrivateKey).D.FillBytes(make([]byte, 32)) //nolint:staticcheck // SA1019: the bytes themselves are what is looked for
		// The first line is the same for all keys of the kind, up to the scalar.
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		forms = append(forms, d, []byte(hex.EncodeToString(d)), lines[1], lines[2])
	}
	return forms
}
