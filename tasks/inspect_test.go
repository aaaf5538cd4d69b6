package tasks

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/inventory"
)

func TestInspect(t *testing.T) {
	w := newWorld(t)
	inv, h := w.host("kvm1"), w.seen()
	w.apply(h, w.plan(inv, h, Options{}).Ops)
	w.file(h, "/etc/os-release", []byte("NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n"), 0o644)
	w.file(h, qemuConf, []byte("vnc_password = \"geheim\"\nmigrate_tls_x509_verify = 1\n"), 0o600)
	h.Listening = append(h.Listening, netip.MustParseAddrPort("0.0.0.0:16509"), netip.MustParseAddrPort("0.0.0.0:22"))
	for _, a := range []string{"10.0.0.9/24", "10.0.0.1/24", "127.0.0.1/8", "fe80::1/64", "192.0.2.1/24"} {
		h.Addresses = append(h.Addresses, netip.MustParsePrefix(a))
	}
	h.Guests = []facts.Guest{{Name: "a", Job: "none"}, {Name: "b", Job: "migration out"}}
	networks := []inventory.Network{{Name: "management", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("127.0.0.0/8")}}}
	i := Inspect(inv, networks, h)
	if i.System != "Debian GNU/Linux 13 (trixie)" || i.Versions["libvirt"] != "11.3.0-3+deb13u3" || i.Layout.Kind != string(bySockets) || i.Layout.Listener != libvirtdService {
		t.Errorf("%+v", i)
	}
	if len(i.Listening) != 1 || len(i.Plain) != 1 || i.Served == nil || i.Served.DNSNames[0] != "kvm1.example.test" || i.NotServed != "" {
		t.Errorf("listening %v, plain %v, served %v", i.Listening, i.Plain, i.Served)
	}
	if len(i.Certificates) != 2 || !i.Certificates[0].Mine || !strings.HasPrefix(i.Certificates[0].Key, "ok (root:root 0600)") || i.Certificates[0].Usages[0] != "server" {
		t.Errorf("certificates %+v", i.Certificates)
	}
	if len(i.Bundles) != 1 || len(i.Bundles[0].Authorities) != 1 {
		t.Errorf("bundles %+v", i.Bundles)
	}
	if got := i.Networks["management"]; len(got) != 2 || got[0].String() != "10.0.0.1" {
		t.Errorf("addresses %v", got)
	}
	if i.Guests != 2 || i.Busy != 1 || i.Firewall != "none" || len(i.Missing) != 0 {
		t.Errorf("guests %d, busy %d, firewall %q, missing %q", i.Guests, i.Busy, i.Firewall, i.Missing)
	}
	text, err := json.Marshal(i)
	if err != nil || strings.Contains(string(text), "geheim") || !strings.Contains(string(text), `["vnc_password","(set)"]`) || !strings.Contains(string(text), `["listen_tcp","0"]`) {
		t.Errorf("%v: %s", err, text)
	}
	// Every path that Inspect reads is asked for.
	asked := map[string]bool{}
	for _, q := range InspectQueries() {
		asked[q.Subject] = true
	}
	for _, p := range []string{"/etc/os-release", qemuConf, libvirtdConf, virtproxydConf, libvirtTrust, "/etc/pki/qemu/server-cert.pem", "/etc/pki/qemu/ca-cert.pem", "/etc/pki/libvirt/private/serverkey.pem", virtproxydTLS} {
		if !asked[p] {
			t.Errorf("%s is not asked for", p)
		}
	}
}
