package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/internal/pki/pkitest"
)

// foreignPKI are the files of a host that someone else gave TLS to.
func foreignPKI(b *pkitest.Builder, ca *pkitest.Cert, host string) map[string]lab.File {
	leaf := func(purpose string) *pkitest.Cert {
		return b.Make(pkitest.Spec{CommonName: host, Names: []string{host}, Basic: "c leaf", Usage: "c DS KE", Purpose: "c " + purpose, Signer: ca})
	}
	server, client := leaf("server"), leaf("client")
	return map[string]lab.File{
		"/etc/pki/CA/cacert.pem":                 {Content: ca.PEM()},
		"/etc/pki/libvirt/servercert.pem":        {Content: server.PEM()},
		"/etc/pki/libvirt/private/serverkey.pem": {Content: server.KeyPEM(), Mode: 0o600},
		"/etc/pki/libvirt/clientcert.pem":        {Content: client.PEM()},
		"/etc/pki/libvirt/private/clientkey.pem": {Content: client.KeyPEM(), Mode: 0o600},
	}
}

// A host with certificates of another authority is taken over without a moment
// in which a certificate and a key of different pairs stand together, and goes
// on trusting the other authority until it is told not to.
func TestAdoption(t *testing.T) {
	t.Parallel()
	b := pkitest.NewBuilder(time.Now())
	ca := b.Make(pkitest.Spec{Country: "UK", CommonName: "The old CA", Basic: "c ca", Usage: "c CS"})
	s := newReadySite(t,
		lab.HostSpec{Files: foreignPKI(b, ca, "kvm1."+lab.Domain)},
		lab.HostSpec{Files: foreignPKI(b, ca, "kvm2."+lab.Domain)})
	kvm1, kvm2 := s.Hosts[0], s.Hosts[1]
	for _, h := range s.Hosts {
		operator.Sh(t, h, "systemctl stop libvirtd.service; systemctl enable --now libvirtd-tls.socket; systemctl start libvirtd.service")
	}
	if err := virsh(t, kvm2, kvm1); err != nil {
		t.Fatalf("the hosts do not accept each other before: %v", err)
	}
	process, old := daemon(t, kvm1), s.served(t, kvm1)

	r := s.Run(t, 0, "plan")
	operator.Contains(t, r.Stdout, "The old CA")
	p := s.Run(t, 0, "plan", "--json").Stdout
	operator.Contains(t, p, `"foreign-ca"`)

	watch := startPairWatch(t, kvm1)
	s.Run(t, 0, "apply", "--yes", "--limit", "kvm1")
	for _, seen := range watch() {
		t.Logf("%s: %d whole reads, %d leaves", seen.Cert, seen.Whole, seen.Leaves)
		if len(seen.Mixed) > 0 || seen.Gone > 0 {
			t.Errorf("%s: gone %d times, mixed: %s", seen.Cert, seen.Gone, strings.Join(seen.Mixed, "\n"))
		}
		if seen.Leaves != 2 || seen.Whole < 100 {
			t.Errorf("%s: %d leaves in %d reads: the watch did not see the old pair and the new one", seen.Cert, seen.Leaves, seen.Whole)
		}
	}
	if now := s.served(t, kvm1); now.Equal(old) || now.Issuer.CommonName == "The old CA" {
		t.Errorf("kvm1 still serves the leaf of %s", now.Issuer.CommonName)
	}
	t.Logf("libvirtd: %s, then %s", process, daemon(t, kvm1))

	// kvm2 still has what the old CA gave it, and trusts nobody else.
	if err := virsh(t, kvm1, kvm2); err == nil {
		t.Error("kvm2 accepts a client of an authority that it does not trust: this shows nothing")
	}
	operator.Contains(t, operator.Sh(t, kvm1, "openssl storeutl -noout -text -certs /etc/pki/CA/cacert.pem"), "The old CA", "Example libvirt g1")
	dir := "/root/old"
	operator.Sh(t, kvm2, "mkdir -p "+dir+"; cp /etc/pki/libvirt/clientcert.pem /etc/pki/libvirt/private/clientkey.pem "+dir)
	s.Run(t, 0, "apply", "--yes")
	operator.Sh(t, kvm2, "cp /etc/pki/CA/cacert.pem "+dir)
	out := operator.Sh(t, kvm2, "virsh -q -c 'qemu+tls://"+kvm1.FQDN+"/system?pkipath="+dir+"' hostname 2>&1")
	operator.Contains(t, out, kvm1.FQDN)
	s.Empty(t)
	operator.Contains(t, s.Run(t, 0, "plan", "--json").Stdout, `"foreign-ca"`)
	s.Run(t, 0, "verify")

	s.Write(t, "policy.hcl", strings.Replace(policyHCL, "template = \"libvirt\"", "template = \"libvirt\"\n  trust \"/etc/pki/CA/cacert.pem\" {\n    foreign = \"remove\"\n  }", 1))
	s.Run(t, 0, "apply", "--yes")
	r2, err := kvm2.Run(t.Context(), "timeout", "20", "virsh", "-q", "-c", "qemu+tls://"+kvm1.FQDN+"/system?pkipath="+dir, "hostname")
	if err != nil {
		t.Fatal(err)
	}
	if r2.Err() == nil {
		t.Error("the old CA's client is accepted after its removal")
	}
	s.Empty(t)
	s.Run(t, 0, "verify")
}

// A pair is what pairwatch saw of one.
type pair struct {
	Cert   string
	Whole  int
	Mixed  []string
	Gone   int
	Leaves int
}

// startPairWatch watches a host's two pairs until the returned function is called.
func startPairWatch(t *testing.T, h *lab.Host) func() []pair {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pairwatch")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", file, "./pairwatch")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building pairwatch: %v\n%s", err, out)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.WriteFile(t.Context(), "/usr/local/bin/pairwatch", program, 0o755); err != nil {
		t.Fatal(err)
	}
	out := make(chan string, 1)
	go func() {
		r, err := h.Script(t.Context(), `rm -f /run/pairwatch.stop
			pairwatch /run/pairwatch.stop /etc/pki/libvirt/servercert.pem /etc/pki/libvirt/private/serverkey.pem /etc/pki/libvirt/clientcert.pem /etc/pki/libvirt/private/clientkey.pem`)
		if err != nil || r.Err() != nil {
			r.Stdout = "pairwatch: " + r.Stderr
		}
		out <- r.Stdout
	}()
	operator.Until(t, limit, "pairwatch runs", func() bool { return operator.Sh(t, h, "pgrep -x pairwatch || :") != "" })
	return func() []pair {
		t.Helper()
		operator.Sh(t, h, "touch /run/pairwatch.stop")
		text := <-out
		var seen []pair
		if err := json.Unmarshal([]byte(text), &seen); err != nil || len(seen) != 2 {
			t.Fatalf("pairwatch: %v: %s", err, text)
		}
		return seen
	}
}

// The watch sees what it is there for.
func TestPairWatchSees(t *testing.T) {
	t.Parallel()
	b := pkitest.NewBuilder(time.Now())
	ca := b.Make(pkitest.Spec{Country: "UK", CommonName: "CA", Basic: "c ca", Usage: "c CS"})
	files := foreignPKI(b, ca, "kvm1."+lab.Domain)
	s := newSite(t, lab.HostSpec{Cheap: true, Files: files})
	h := s.Hosts[0]
	// Leaves of one builder share a key; this one is another's.
	other := pkitest.NewBuilder(time.Now()).Make(pkitest.Spec{CommonName: "x", Basic: "c leaf", Usage: "c DS KE", Signer: ca})
	if err := h.WriteFile(t.Context(), "/root/other.pem", other.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	watch := startPairWatch(t, h)
	operator.Sh(t, h, "sleep 0.2; mv /root/other.pem /etc/pki/libvirt/servercert.pem; rm /etc/pki/libvirt/clientcert.pem; sleep 0.2")
	seen := watch()
	if len(seen[0].Mixed) == 0 || seen[1].Gone == 0 {
		t.Errorf("a mixed pair and a missing one were not seen: %d, %d", len(seen[0].Mixed), seen[1].Gone)
	}
}
