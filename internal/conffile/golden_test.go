package conffile

import (
	"os"
	"strings"
	"testing"
)

// TestGolden makes the edits of a whole policy on a file that people and two tools
// have written to, in both line endings.
func TestGolden(t *testing.T) {
	src, err := os.ReadFile("testdata/libvirtd.conf")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/libvirtd.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, eol := range []string{"\n", "\r\n"} {
		f := mustParse(t, strings.ReplaceAll(string(src), "\n", eol))
		for range 2 { // the second round must change nothing
			for _, s := range []struct {
				key string
				v   Value
			}{
				{"listen_tls", Bool(true)},
				{"tls_allowed_dn_list", List("CN=kvm1,O=example", `CN=kvm"2",O=example`)},
				{"keepalive_interval", Int(5)},
				{"listen_tcp", Bool(false)},
				{"access_drivers", List("polkit")},
				{"auth_unix_rw", String("sasl")},
				{"tls_no_verify_certificate", Bool(false)},
			} {
				if err := f.Set(s.key, s.v); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Unset("host_uuid"); err != nil {
				t.Fatal(err)
			}
			if got := string(f.Bytes()); got != strings.ReplaceAll(string(want), "\n", eol) {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
		}
	}
}
