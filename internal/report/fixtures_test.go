package report

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/plan"
)

var now = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)

const lifetime = 90 * 24 * time.Hour

// bundle is a CA file with one self-signed authority.
func bundle(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newPlan(hosts ...plan.HostPlan) *plan.Plan {
	return &plan.Plan{Format: plan.Format, Version: "0.1.0", Created: now, Configuration: plan.Digest([]byte("configuration")), Trust: plan.Digest([]byte("trust")), Hosts: hosts}
}

func profile(name, host string, n int, usages ...pki.Usage) pki.Profile {
	p := pki.Profile{Name: name, CommonName: host, Organization: "Example", OrganizationalUnit: name, Usages: usages, Lifetime: lifetime}
	if usages[0] == pki.UsageServer {
		p.DNSNames = []string{host, host + ".example.org"}
		p.IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})}
	}
	return p
}

func enrol(t *testing.T, name, host string, n int, reason string, old *plan.Leaf, usages ...pki.Usage) plan.Enrol {
	t.Helper()
	p := profile(name, host, n, usages...)
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	role := string(usages[0])
	e := plan.Enrol{
		Meta: plan.Meta{Task: plan.ID("certificate." + name), Wave: plan.WaveIdentity, Reason: reason}, Certificate: name, Authority: "libvirt", Issuer: "a1b2c3",
		Profile: p, Tree: "/etc/pki/libvirt/.virtrust/" + role, Generation: fmt.Sprint(n%7 + 1), Owner: "root", Group: "root", KeyMode: 0o400, Old: old,
	}
	if old == nil {
		e.Links = []plan.PublicName{
			{Path: "/etc/pki/libvirt/" + role + "cert.pem", Target: ".virtrust/" + role + "/current/cert.pem"},
			{Path: "/etc/pki/libvirt/private/" + role + "key.pem", Target: "../.virtrust/" + role + "/current/key.pem"},
		}
	}
	return e
}

// oldLeaf is the certificate that host n has today.
func oldLeaf(host string, n int, ends time.Time) *plan.Leaf {
	p := profile("libvirt-server", host, n, pki.UsageServer)
	return &plan.Leaf{
		Subject: "O=Example,OU=libvirt-server,CN=" + host, Issuer: "O=Example,CN=Example libvirt g1", Serial: fmt.Sprintf("4f%06x", n),
		NotBefore: ends.Add(-lifetime).Format(time.RFC3339), NotAfter: ends.Format(time.RFC3339), DNSNames: p.DNSNames, IPs: p.IPs, SHA256: plan.Digest([]byte(host)),
	}
}

// fresh is a host that has nothing yet.
func fresh(t *testing.T, host string, n int) plan.HostPlan {
	t.Helper()
	dir := func(p string, wave plan.Wave) plan.Op {
		return plan.MakeDir{Meta: plan.Meta{Task: "trust./etc/pki/CA/cacert.pem", Wave: wave, Reason: "new"}, Path: p, Mode: 0o755, Owner: "root", Group: "root"}
	}
	content := bundle(t)
	settings := plan.Meta{Task: "settings./etc/libvirt/libvirtd.conf", Wave: plan.WaveIdentity, Reason: "settings differ"}
	return plan.HostPlan{
		Host: host, Cluster: "prod", MachineID: fmt.Sprintf("%032x", n), HostKey: "SHA256:abc",
		Ops: plan.Ops{
			dir("/etc/pki/CA", plan.WaveTrust),
			plan.WriteFile{
				Meta: plan.Meta{Task: "trust./etc/pki/CA/cacert.pem", Wave: plan.WaveTrust, Reason: "new"}, Path: "/etc/pki/CA/cacert.pem", Content: content,
				After: plan.State{Type: "file", Digest: plan.Digest(content), Mode: 0o644, Owner: "root", Group: "root"},
			},
			dir("/etc/pki/libvirt", plan.WaveIdentity), dir("/etc/pki/libvirt/.virtrust", plan.WaveIdentity), dir("/etc/pki/libvirt/.virtrust/client", plan.WaveIdentity),
			dir("/etc/pki/libvirt/.virtrust/server", plan.WaveIdentity), dir("/etc/pki/libvirt/private", plan.WaveIdentity),
			enrol(t, "libvirt-server", host, n, "new", nil, pki.UsageServer),
			enrol(t, "libvirt-client", host, n, "new", nil, pki.UsageClient),
			plan.WriteFile{
				Meta: settings, Path: "/etc/libvirt/libvirtd.conf",
				Before: plan.State{Type: "file", Digest: plan.Digest([]byte{byte(n)}), Mode: 0o644, Owner: "root", Group: "root"},
				After:  plan.State{Type: "file", Digest: plan.Digest([]byte{byte(n), 1}), Mode: 0o644, Owner: "root", Group: "root"},
				Edits:  []plan.Edit{{Key: "tls_no_verify_certificate", Old: "1", New: "0"}, {Key: "tls_priority", New: `"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"`}},
			},
			plan.SetUnit{Meta: plan.Meta{Task: "listener.libvirt", Wave: plan.WaveListen, Reason: "new"}, Unit: "libvirtd-tls.socket", Enabled: true, Active: true, Service: "libvirtd.service", Running: true},
			plan.Activate{Meta: settings, Unit: "libvirtd.service", How: plan.Restart},
		},
	}
}

// renewal is a host whose server certificate is due.
func renewal(t *testing.T, host string, n int, ends time.Time) plan.HostPlan {
	t.Helper()
	reason := fmt.Sprintf("expires %s, renewal is due since %s", ends.Format("2006-01-02"), ends.Add(-lifetime/3).Format("2006-01-02"))
	e := enrol(t, "libvirt-server", host, n, reason, oldLeaf(host, n, ends), pki.UsageServer)
	return plan.HostPlan{
		Host: host, Cluster: "prod", MachineID: fmt.Sprintf("%032x", n), Due: ends.Add(-lifetime / 3),
		Ops: plan.Ops{e, plan.Activate{Meta: e.Meta, Unit: "libvirtd.service", How: plan.Reload}},
	}
}

func settled(host string, due time.Time) plan.HostPlan {
	return plan.HostPlan{Host: host, Cluster: "prod", Due: due}
}

func timeout(host string) plan.HostPlan {
	return plan.HostPlan{Host: host, Cluster: "prod", Failure: &plan.Failure{Class: "timeout", Text: "dial tcp " + host + ".example.org:22: i/o timeout", Hint: "is the host up, and does the way to it let port 22 through?"}}
}

func name(n int) string { return fmt.Sprintf("kvm%03d", n) }
