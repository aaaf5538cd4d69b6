package conffile

import (
	"slices"
	"strings"
	"testing"
)

func schema(t testing.TB, path string) *Schema {
	t.Helper()
	s, ok := Known(path)
	if !ok {
		t.Fatalf("%s is not known", path)
	}
	return s
}

func TestSchemasAreSound(t *testing.T) {
	for _, path := range KnownPaths() {
		s := schema(t, path)
		seen := map[string]bool{}
		for _, k := range s.Keys() {
			if !validKey(k.Name) || k.Type.String() == "unknown" || seen[k.Name] {
				t.Errorf("%s: %+v", path, k)
			}
			seen[k.Name] = true
			if strings.Contains(k.Note, "\n") || k.OneOf != nil && k.Type != TypeString {
				t.Errorf("%s: %+v", path, k)
			}
		}
	}
	if _, ok := Known("/etc/libvirt/hooks.conf"); ok {
		t.Error("a file that libvirt does not have is known")
	}
}

func TestNetworkKeysAreWhereTheListenerIs(t *testing.T) {
	for path, want := range map[string]bool{"libvirtd": true, "virtproxyd": true, "virtqemud": false, "qemu": false} {
		if _, got := schema(t, ConfDir+"/"+path+".conf").Lookup("tls_allowed_dn_list"); got != want {
			t.Errorf("%s has tls_allowed_dn_list: %v", path, got)
		}
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		path, key string
		v         Value
		want      string // part of the error, "" for none
	}{
		{"libvirtd", "tls_port", String("16514"), ""},
		{"libvirtd", "tls_port", Int(16514), `write "16514"`},
		{"libvirtd", "listen_tls", Int(1), ""},
		{"libvirtd", "listen_tls", Int(2), "0 or 1"},
		{"libvirtd", "listen_tls", String("yes"), "0 or 1"},
		{"libvirtd", "tls_allowed_dn_list", List(), ""},
		{"libvirtd", "tls_allowed_dn_list", String("CN=x"), `write [ "CN=x" ]`},
		{"libvirtd", "auth_tls", String("polki"), "none, sasl, polkit"},
		{"libvirtd", "keepalive_interval", Int(-1), ""},
		{"libvirtd", "keepalive_count", Int(-1), "not negative"},
		{"libvirtd", "max_clients", Int(1 << 32), "not negative"},
		{"libvirtd", "max_workers", Int(0), "at least 1"},
		{"libvirtd", "tcp_min_ssf", Int(40), "at least 56"},
		{"libvirtd", "listen_tsl", Int(1), "did you mean listen_tls"},
		{"virtqemud", "listen_tls", Int(1), "belongs into /etc/libvirt/libvirtd.conf"},
		{"libvirtd", "migrate_tls_force", Int(1), "belongs into /etc/libvirt/qemu.conf"},
		{"qemu", "migrate_tls_force", Bool(true), ""},
		{"qemu", "migration_port_min", Int(0), "from 1 to 65535"},
		{"qemu", "remote_display_port_min", Int(80), "from 5900"},
		{"qemu", "security_driver", String("selinux"), ""},
		{"qemu", "security_driver", List("selinux", "apparmor"), ""},
		{"qemu", "security_driver", Int(1), "a string or a list"},
		{"qemu", "max_core", String("unlimited"), ""},
		{"qemu", "max_core", Int(1 << 40), ""},
		{"qemu", "max_core", String("lots"), "unlimited"},
		{"qemu", "seccomp_sandbox", Value{}, "an integer"},
	}
	for _, tt := range tests {
		err := schema(t, ConfDir+"/"+tt.path+".conf").Check(tt.key, tt.v)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %s = %v: error %v, want %q", tt.path, tt.key, tt.v, err, tt.want)
		}
	}
}

func TestSuggest(t *testing.T) {
	s := schema(t, "/etc/libvirt/qemu.conf")
	for key, want := range map[string]string{
		"usre":                              "user",
		"migrate-tls-force":                 "migrate_tls_force",
		"MIGRATE_TLS_FORCE":                 "migrate_tls_force",
		"migate_tls_force":                  "migrate_tls_force",
		"default_tls_x509_certdir":          "default_tls_x509_cert_dir",
		"vcn_tls":                           "vnc_tls",
		"nothing_alike_at_all":              "",
		strings.Repeat("migrate_", 100_000): "",
		"":                                  "",
	} {
		if got := s.Suggest(key); got != want {
			t.Errorf("Suggest(%.40s) = %q, want %q", key, got, want)
		}
	}
}

func TestLint(t *testing.T) {
	tests := map[string]struct {
		path, src string
		want      []string // code:key, with ! for danger
	}{
		"nothing":           {"libvirtd", "# x\n", nil},
		"sound":             {"libvirtd", "listen_tls = 1\ntls_no_verify_certificate = 0\ntls_allowed_dn_list = [ \"CN=x\" ]\n", nil},
		"no verify":         {"libvirtd", "tls_no_verify_certificate = 1\n", []string{"!tls-no-verify:tls_no_verify_certificate"}},
		"first counts":      {"libvirtd", "tls_no_verify_certificate = 0\ntls_no_verify_certificate = 1\n", []string{"duplicate-key:tls_no_verify_certificate"}},
		"empty list":        {"virtproxyd", "tls_allowed_dn_list = []\n", []string{"!empty-allow-list:tls_allowed_dn_list"}},
		"partial":           {"libvirtd", "ca_file = \"/etc/pki/CA/cacert.pem\"\n", []string{"!partial-tls-files:ca_file"}},
		"two of three":      {"libvirtd", "cert_file = \"/y\"\nkey_file = \"/z\"\n", []string{"!partial-tls-files:cert_file"}},
		"defaults":          {"libvirtd", "ca_file = \"/etc/pki/CA/cacert.pem\"\ncert_file = \"/etc/pki/libvirt/servercert.pem\"\nkey_file = \"/etc/pki/libvirt/private/serverkey.pem\"\n", nil},
		"own paths":         {"libvirtd", "ca_file = \"/x\"\ncert_file = \"/y\"\nkey_file = \"/z\"\n", []string{"own-tls-paths:ca_file"}},
		"several":           {"libvirtd", "ca_file = \"/x\"\ncert_files = [\"/y\"]\nkey_files = [\"/z\"]\n", []string{"own-tls-paths:cert_files"}},
		"mixed":             {"libvirtd", "ca_file = \"/x\"\ncert_files = [\"/y\"]\nkey_file = \"/z\"\n", []string{"!mixed-tls-files:cert_files"}},
		"crl":               {"libvirtd", "crl_file = \"/x\"\n", []string{"!crl-ignored:crl_file"}},
		"tcp":               {"libvirtd", "listen_tcp = 1\nauth_tcp = \"none\"\n", []string{"!tcp-no-auth:auth_tcp", "tcp-listener:listen_tcp"}},
		"unknown, bad type": {"libvirtd", "tls_no_verify_address = 1\ntls_port = 16514\n", []string{"unknown-key:tls_no_verify_address", "!bad-value:tls_port"}},
		"open VNC":          {"qemu", "vnc_listen = \"0.0.0.0\"\n", []string{"!open-display:vnc_listen"}},
		"VNC with TLS":      {"qemu", "vnc_listen = \"::\"\nvnc_tls = 1\n", nil},
		"local SPICE":       {"qemu", "spice_listen = \"127.0.0.1\"\n", nil},
		"local migration":   {"qemu", "migration_host = \"[::1]\"\nmigration_address = \"192.0.2.1\"\n", []string{"!bad-value:migration_host"}},
		"no QEMU verify":    {"qemu", "migrate_tls_x509_verify = 0\n", []string{"!qemu-no-verify:migrate_tls_x509_verify"}},
		"AppArmor":          {"qemu", "migrate_tls_x509_cert_dir = \"/etc/pki/libvirt-migrate\"\nvnc_tls_x509_cert_dir = \"/etc/pki/libvirt-vnc/\"\n", []string{"apparmor-dir:migrate_tls_x509_cert_dir"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, n := range schema(t, ConfDir+"/"+tt.path+".conf").Lint(mustParse(t, tt.src)) {
				s := n.Code + ":" + n.Key
				if n.Danger {
					s = "!" + s
				}
				if n.Line < 1 || n.Text == "" {
					t.Errorf("%+v", n)
				}
				got = append(got, s)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
