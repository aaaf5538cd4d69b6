package remote

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// Where there is an index, it knows of each name exactly the keys that the
// library knows, in the same order.
func TestIndexAgreesWithLibrary(t *testing.T) {
	var keys []string
	for range 4 {
		public, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k, err := ssh.NewPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))))
	}
	names := []string{"kvm1:22", "kvm1:2222", "kvm2:22", "10.0.0.1:22", "10.0.0.1:2222", "[fd00::1]:22", "[fd00::1]:2222", "nobody:22"}
	hash := xknownhosts.HashHostname
	tests := []struct {
		name    string
		lines   []string
		indexed bool
	}{
		{"plain", []string{"kvm1 K0", "# words", "", "kvm1,10.0.0.1 K1 someone@somewhere", "[kvm1]:2222 K2", "[10.0.0.1]:2222,kvm2 K3"}, true},
		{"IPv6", []string{"fd00::1 K0", "[fd00::1]:2222 K1"}, true},
		{"a port without brackets", []string{"kvm1:2222 K0", "kvm2:22 K1"}, true},
		{"hashed", []string{hash("kvm1") + " K0", "kvm1 K1", hash("[kvm1]:2222") + " K2", hash("fd00::1") + " K3", hash("10.0.0.1:22") + " K0"}, true},
		{"twice", []string{"kvm1 K0", hash("kvm1") + " K1", "kvm1 K2"}, true},
		{"revoked", []string{"kvm1 K0", "@revoked * K0", "kvm2 K1"}, true},
		{"upper case", []string{"KVM1 K0"}, true},
		{"pattern", []string{"kvm1 K0", "kvm? K1"}, false},
		{"negation", []string{"kvm*,!kvm2 K1"}, false},
		{"authority", []string{"@cert-authority kvm1 K1"}, false},
		{"nothing", nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Join(tt.lines, "\n") + "\n"
			for i, k := range keys {
				text = strings.ReplaceAll(text, fmt.Sprintf(" K%d", i), " "+k)
			}
			file := filepath.Join(t.TempDir(), "known_hosts")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := knownhosts.NewDB(file)
			if err != nil {
				t.Fatal(err)
			}
			x := newKnownIndex([]string{file})
			if (x != nil) != tt.indexed {
				t.Fatalf("indexed: %v, want %v", x != nil, tt.indexed)
			}
			if x == nil {
				return
			}
			found := 0
			for _, n := range names {
				var want, got []string
				for _, k := range db.HostKeys(n) {
					want = append(want, ssh.FingerprintSHA256(k))
				}
				for _, k := range x.find(n) {
					got = append(got, ssh.FingerprintSHA256(k))
				}
				found += len(got)
				if strings.Join(got, " ") != strings.Join(want, " ") {
					t.Errorf("%s: %q, the library says %q", n, got, want)
				}
			}
			if found == 0 && tt.name != "nothing" && tt.name != "upper case" {
				t.Error("no name was found")
			}
		})
	}
}
