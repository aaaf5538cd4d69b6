package pki_test

import (
	"testing"

	"github.com/virtrust/virtrust/internal/pki"
)

func TestRules(t *testing.T) {
	for version, demands := range map[string]bool{
		"": true, "garbage": true, "9.0.0": true, "9.0.0-4+deb12u2": true, "11.3.0": true, "11.3.0-3+deb13u2": true,
		"11.3.0-3+deb13u3": false, "11.5.0": true, "11.6.0": false, "12.8.0-1": false, "libvirtd (libvirt) 8.0.0": true, "libvirtd (libvirt) 12.1.0": false,
	} {
		if r := pki.LibvirtRules(version); r.RequireKeyEncipherment != demands || !r.InvertedAnyPurpose || !r.CheckAllCAs || r.ChainToSelfSigned {
			t.Errorf("libvirt %q: %+v", version, r)
		}
	}
	for version, want := range map[string]struct{ demands, chain bool }{
		"": {true, false}, "garbage": {true, false}, "6.2.0": {true, false}, "7.2.22": {false, false}, "7.2.1": {true, false},
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)": {false, false},
		"1:7.2+dfsg-7+deb12u18": {false, false}, "1:7.2+dfsg-7+deb12u3": {true, false}, "8.2.2": {true, false}, "10.0.2": {true, false}, "1:10.0.13+ds-0+deb13u1": {false, false},
		"10.2.0": {false, true}, "1:11.1.2+ds-1": {false, true},
	} {
		r := pki.QEMURules(version)
		if r.RequireKeyEncipherment != want.demands || r.ChainToSelfSigned != want.chain || r.CheckAllCAs == want.chain || r.ReadCertChain != want.chain || (r.MaxCAs == 0) != want.chain {
			t.Errorf("QEMU %q: %+v", version, r)
		}
	}
}
