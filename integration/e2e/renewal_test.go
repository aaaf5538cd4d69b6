package e2e

import (
	"bytes"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
	"github.com/virtrust/virtrust/plan"
)

// A renewal restarts nothing: libvirtd keeps its process, clients keep their
// connection, and new ones see the new certificate.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newReadySite(t, lab.HostSpec{}, lab.HostSpec{})
	kvm1, kvm2 := s.Hosts[0], s.Hosts[1]
	s.Run(t, 0, "apply", "--yes")

	// A client that stays: it asks once before the renewal and once after it.
	operator.Sh(t, kvm2, "rm -f /run/go /run/said")
	ended := make(chan error, 1)
	go func() {
		r, err := kvm2.Script(t.Context(), `
			{ echo hostname; n=0; while [ ! -e /run/go ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n+1)); done; echo hostname; } |
			timeout 90 virsh -q -c qemu+tls://`+kvm1.FQDN+`/system >/run/said 2>&1`)
		if err == nil {
			err = r.Err()
		}
		ended <- err
	}()
	said := func() string { return operator.Sh(t, kvm2, "cat /run/said 2>/dev/null || :") }
	answers := func() int { return strings.Count(said(), kvm1.FQDN) }
	operator.Until(t, limit, "the open virsh has its first answer", func() bool { return answers() == 1 })
	clients := func() string {
		return operator.Sh(t, kvm1, `virt-admin -q client-list libvirtd | awk '$2 == "tls" { print $1, $3, $4, $5 }'`)
	}
	client := clients()
	if client == "" || strings.Contains(client, "\n") {
		t.Fatalf("TLS clients of kvm1: %q, want the one from kvm2", client)
	}

	process, leaf := daemon(t, kvm1), s.served(t, kvm1)
	current := operator.Sh(t, kvm1, "readlink /etc/pki/libvirt/.virtrust/server/current")
	plain := operator.Sh(t, kvm1, "sha256sum /etc/libvirt/libvirtd.conf /etc/pki/libvirt/clientcert.pem /etc/pki/CA/cacert.pem")
	operator.Contains(t, s.Run(t, 0, "plan", "--replace", "certificate.libvirt-server").Stdout, "reload", "asked for")
	rep := s.report(t, 0, "--yes", "--replace", "certificate.libvirt-server")
	for _, h := range rep.Hosts {
		if h.Result != plan.Changed || h.Proof == nil || len(h.Proof.Peers) == 0 {
			t.Errorf("%s: %+v, proof %+v: want a change that a peer accepted", h.Host, h, h.Proof)
		}
	}

	if after := daemon(t, kvm1); after != process {
		t.Errorf("libvirtd was restarted: %s, then %s", process, after)
	}
	young := s.served(t, kvm1)
	if bytes.Equal(young.Raw, leaf.Raw) || bytes.Equal(young.RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) {
		t.Error("the old leaf, or its key, is still served")
	}
	if after := clients(); after != client {
		t.Errorf("TLS clients: %q, then %q", client, after)
	}
	operator.Sh(t, kvm2, "touch /run/go")
	if err := <-ended; err != nil {
		t.Errorf("the open virsh: %v\n%s", err, said())
	}
	if text := said(); answers() != 2 || strings.Contains(text, "econnected") || strings.Contains(text, "isconnected") {
		t.Errorf("the open virsh said:\n%s", text)
	}
	if after := operator.Sh(t, kvm1, "sha256sum /etc/libvirt/libvirtd.conf /etc/pki/libvirt/clientcert.pem /etc/pki/CA/cacert.pem"); after != plain {
		t.Errorf("the renewal changed other files:\n%s", diff(plain, after))
	}

	generations := func() []string {
		return strings.Fields(operator.Sh(t, kvm1, "ls /etc/pki/libvirt/.virtrust/server | grep -v current"))
	}
	if g := generations(); len(g) != 2 || !strings.Contains(strings.Join(g, " "), current) {
		t.Errorf("generations %v, want the new one and the previous one, %s", g, current)
	}
	s.Run(t, 0, "apply", "--yes", "--replace", "certificate.libvirt-server")
	if g := generations(); len(g) != 2 || strings.Contains(strings.Join(g, " "), current) {
		t.Errorf("generations %v after a second renewal, want two without %s", g, current)
	}
	if after := daemon(t, kvm1); after != process {
		t.Errorf("libvirtd was restarted: %s, then %s", process, after)
	}
	for _, h := range s.Hosts {
		clean(t, h)
	}
	s.Empty(t)
	s.Run(t, 0, "verify")
}
