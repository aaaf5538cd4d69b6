package remote

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func TestListKnown(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	k := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	lines := []string{
		"# a comment",
		"kvm1.example.com,10.0.0.11 " + k,
		"kvm1.example.com " + k + " again",
		"[kvm2.example.com]:2222,[10.0.0.12]:2222 " + k,
		"2001:db8::3 " + k,
		"*.example.org,!bad.example.org " + k,
		"@cert-authority *.example.com " + k,
		"@revoked kvm9 " + k,
		knownhosts.HashHostname("kvm4.example.com") + " " + k,
		knownhosts.HashHostname("unknown.example.com") + " " + k,
		"broken line",
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ListKnown(file, []string{"kvm3.example.com", "kvm4.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	want := &KnownNames{Hashed: 1, Passed: 4, Hosts: []KnownName{
		{Name: "kvm1.example.com", Aliases: []string{"10.0.0.11"}, Port: 22},
		{Name: "kvm2.example.com", Aliases: []string{"10.0.0.12"}, Port: 2222},
		{Name: "2001:db8::3", Aliases: []string{}, Port: 22},
		{Name: "kvm4.example.com", Port: 22},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, err := ListKnown(file+".missing", nil); err == nil {
		t.Error("a missing file is no error")
	}
}
