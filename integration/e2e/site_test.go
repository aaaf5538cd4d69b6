package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/plan"
)

// limit bounds every wait for something that takes seconds.
const limit = time.Minute

// A site is hosts in one cluster with a policy; the passphrase of its
// authorities is in VT_PASSPHRASE, until Env is emptied.
type site struct {
	*operator.Site
	passphrase string
}

// newSite starts hosts and writes a configuration for all of them. There is no
// authority yet.
func newSite(t *testing.T, specs ...lab.HostSpec) *site {
	t.Helper()
	s := &site{operator.New(t, specs...), rand.Text()}
	s.Env = []string{"VT_PASSPHRASE=" + s.passphrase}
	s.Write(t, "inventory.hcl", s.Inventory("", s.Hosts...))
	s.Write(t, "policy.hcl", policyHCL)
	return s
}

// newReadySite is newSite with an authority.
func newReadySite(t *testing.T, specs ...lab.HostSpec) *site {
	t.Helper()
	s := newSite(t, specs...)
	s.Run(t, 0, "ca", "init")
	return s
}

const policyHCL = `authority "libvirt" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

authority "qemu" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

policy "standard" {
  template = "libvirt"
}
`

// report is apply --json.
func (s *site) report(t *testing.T, code int, args ...string) *plan.Report {
	t.Helper()
	return operator.Decode[plan.Report](t, s.Run(t, code, append([]string{"apply", "--json"}, args...)...).Stdout)
}

// serve runs a server in the lab's network until the test ends. What it says goes
// into a file, and is told when the test fails.
func (s *site) serve(t *testing.T, to string, env []string, program string, args ...string) {
	t.Helper()
	cmd := s.Lab.Command(context.Background(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	log, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			text, _ := os.ReadFile(to)
			t.Logf("%s said:\n%s", filepath.Base(program), text)
		}
	})
}

// virsh opens libvirt on a host over TLS, from another host.
func virsh(t *testing.T, from, to *lab.Host) error {
	t.Helper()
	r, err := from.Run(t.Context(), "timeout", "20", "virsh", "-q", "-c", "qemu+tls://"+to.FQDN+"/system", "hostname")
	if err != nil {
		t.Fatal(err)
	}
	if r.Err() == nil && strings.TrimSpace(r.Stdout) != to.FQDN {
		return fmt.Errorf("%s answered as %q", to.FQDN, r.Stdout)
	}
	return r.Err()
}

// served is the leaf that a host's listener shows.
func (s *site) served(t *testing.T, h *lab.Host) *x509.Certificate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	conn, err := s.Lab.Dial(ctx, "tcp", h.FQDN+":16514")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err := c.HandshakeContext(ctx); err != nil && len(c.ConnectionState().PeerCertificates) == 0 {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0]
}

// daemon is libvirtd's process and the id of its start.
func daemon(t *testing.T, h *lab.Host) string {
	t.Helper()
	// Asked one by one: systemd gives properties in an order of its own.
	d := operator.Sh(t, h, "for p in MainPID InvocationID; do systemctl show -p $p --value libvirtd.service; done")
	if strings.HasPrefix(d, "0") {
		t.Fatalf("%s: libvirtd does not run", h.Name)
	}
	return d
}

// tree lists what virtrust could touch on a host: type, mode, owner, target and
// content; with times, inode and times as well.
func tree(t *testing.T, h *lab.Host, times bool) string {
	t.Helper()
	format := `%p %y %m %U:%G %l`
	if times {
		format += ` %i %T@ %C@`
	}
	return operator.Sh(t, h, `set -- /etc/pki /etc/libvirt /etc/systemd/system /etc/default
		[ ! -d /var/lib/virtrust ] || set -- "$@" /var/lib/virtrust/*
		find "$@" -printf '`+format+`\n' 2>/dev/null | sort
		find "$@" -type f -exec sha256sum {} + 2>/dev/null | sort -k2`)
}

// clean fails if a transaction left something on a host that should be gone.
func clean(t *testing.T, h *lab.Host) {
	t.Helper()
	left := operator.Sh(t, h, `find /etc /var/lib/virtrust -name '.virtrust-*' 2>/dev/null || :
		ls -d /var/lib/virtrust/armed /var/lib/virtrust/staging /var/lib/virtrust/run-*/saved/.new 2>/dev/null || :
		grep '^run ' /run/virtrust/lease 2>/dev/null || :
		[ ! -d /run/systemd/system ] || systemctl list-units --all --no-legend --plain 'virtrust-revert-*'`)
	if left != "" {
		t.Errorf("%s: a transaction left:\n%s", h.Name, left)
	}
}
