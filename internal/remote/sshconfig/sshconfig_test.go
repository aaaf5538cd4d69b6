package sshconfig

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/virtrust/virtrust/internal/needed"
)

func write(t testing.TB, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// single and adding are the keywords that are compared with OpenSSH.
var (
	single = []string{"hostname", "user", "port", "identitiesonly", "identityagent", "proxyjump", "proxycommand", "hostkeyalias"}
	adding = []string{"identityfile", "certificatefile"}
)

// oracle asks the machine's ssh program.
func oracle(t testing.TB, file, host string) (map[string][]string, string) {
	t.Helper()
	cmd := exec.Command("ssh", "-G", "-F", file, "--", host)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, stderr.String()
	}
	out := map[string][]string{}
	for l := range strings.Lines(stdout.String()) {
		k, v, _ := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		out[k] = append(out[k], v)
	}
	return out, ""
}

func needSSH(t testing.TB) *user.User {
	t.Helper()
	needed.Program(t, "ssh", "openssh-client")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return me
}

// defaults are what ssh prints where a file says nothing.
func defaults(keyword, host, account string) string {
	switch keyword {
	case "hostname":
		return strings.ToLower(host)
	case "user":
		return account
	case "port":
		return "22"
	case "identitiesonly":
		return "no"
	}
	return ""
}

func compare(t testing.TB, file, host string, me *user.User) bool {
	t.Helper()
	want, refused := oracle(t, file, host)
	c, err := Read(me.HomeDir, File{Path: file})
	var got *Settings
	if err == nil {
		got, err = c.Lookup(Query{Host: host, Account: me.Username})
	}
	if refused != "" {
		// ssh also checks values that nobody here uses; what it refuses may pass.
		return false
	}
	if err != nil {
		t.Errorf("%s: %v; ssh takes it", host, err)
		return false
	}
	for _, k := range single {
		have := defaults(k, host, me.Username)
		if v, ok := got.Get(k); ok {
			have = v.Text
		}
		expect := ""
		if len(want[k]) > 0 {
			expect = want[k][0]
		}
		if (k == "proxycommand" || k == "proxyjump" || k == "hostkeyalias" || k == "identityagent") && have == "none" && expect == "" {
			continue
		}
		if k == "identityagent" && have != "" { // the one path that ssh -G expands
			have, _ = Tokens{}.ExpandPath(have, me.HomeDir)
		}
		if have != expect {
			t.Errorf("%s: %s is %q, ssh says %q", host, k, have, expect)
		}
	}
	for _, k := range adding {
		var have []string
		for _, v := range got.All(k) {
			have = append(have, v.Text)
		}
		expect := want[k]
		if k == "identityfile" && len(have) == 0 {
			continue // ssh's own defaults
		}
		if !slices.Equal(have, expect) {
			t.Errorf("%s: %s is %q, ssh says %q", host, k, have, expect)
		}
	}
	return true
}

func TestAgainstOpenSSH(t *testing.T) {
	me := needSSH(t)
	dir := t.TempDir()
	write(t, dir+"/inner.conf", "User inner\nHost kvm2\n  Port 2002\nMatch all\n  HostKeyAlias inner-alias\n")
	write(t, dir+"/more-a.conf", "IdentityFile ~/.ssh/a\n")
	write(t, dir+"/more-b.conf", "IdentityFile ~/.ssh/b\n")
	hosts := []string{"kvm1", "kvm2", "kvm1.example.com", "KVM1", "10.0.0.1", "fe80::1%lo"}
	tests := []struct{ name, text string }{
		{"empty", ""},
		{"first wins", "Host kvm1\n Port 1\n User a\nHost *\n Port 2\n User b\n IdentityFile x\nHost *\n IdentityFile y\n IdentityFile x\n"},
		{"negation", "Host !kvm1 kvm*\n Port 5\nHost kvm* !*.example.com\n User c\nHost !kvm1\n Port 6\n"},
		{"equals", "Port=77\nUser = b\nHost=kvm1\n  HostKeyAlias=\"a b\"\n"},
		{"quotes", "IdentityFile \"~/with space/id\"\nIdentityFile ~/with\\ space/id2\nUser 'q'\n"},
		{"comments", "# a\nUser a # who\n  # b\nHost kvm1 # kvm2\n  Port 9\n"},
		{"hostname", "Host kvm1\n HostName %h.example.com\nHost kvm2\n HostName 10.0.0.2\nMatch host *.example.com\n Port 3\nMatch originalhost kvm2\n User o\n"},
		{"user", "Host kvm1\n User deploy\nMatch user deploy\n Port 4\nMatch localuser root\n HostKeyAlias r\nMatch !localuser root\n HostKeyAlias nr\n"},
		{"several criteria", "Match host kvm*,10.* user root !originalhost kvm2\n Port 8\nMatch all\n User z\n"},
		{"final", "Host *.example.com\n Port 11\nHost kvm1\n HostName kvm1.example.com\nMatch final all\n User f\n"},
		{"final host", "Match final host *.example.com\n Port 12\nHost kvm2\n HostName kvm2.example.com\n"},
		{"not final", "Match !final all\n Port 12\n"},
		{"no final pass without final", "Host *.example.com\n Port 11\nHost kvm1\n HostName kvm1.example.com\n"},
		{"tags", "Host kvm1\n Tag rack\nMatch tagged rack\n Port 13\n"},
		{"include", "Include " + dir + "/inner.conf\nUser outer\nPort 1\n"},
		{"include in a block", "Host kvm2\n Include " + dir + "/inner.conf\n IdentityFile z\nHost *\n User last\n"},
		{"include glob", "Include \"" + dir + "/more-*.conf\" " + dir + "/none.conf\n"},
		{"proxies", "Host kvm1\n ProxyJump a@b:33,c\nHost kvm2\n ProxyCommand nc -X \"5\" %h %p # not a comment\nHost *\n ProxyJump d\n ProxyCommand e\n"},
		{"proxy none", "Host kvm1\n ProxyJump none\nHost kvm2\n ProxyCommand none\nHost *\n ProxyJump d\n"},
		{"agent and certificates", "IdentityAgent ~/agent.sock\nIdentitiesOnly yes\nCertificateFile ~/.ssh/x-cert.pub\nCertificateFile ~/.ssh/y-cert.pub\n"},
		{"keywords in any case", "hOST kvm1\n pORT 99\nMATCH HOST kvm2\n PORT 98\n"},
		{"carriage returns", "Host kvm1\r\n  Port 21\r\n"},
		{"match list with spaces", "Match host \"kvm1,kvm2\"\n Port 31\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, filepath.Join(t.TempDir(), "config"), tt.text)
			compared := 0
			for _, h := range hosts {
				if compare(t, file, h, me) {
					compared++
				}
			}
			if compared == 0 && tt.name != "tags" { // since OpenSSH 9.4
				_, refused := oracle(t, file, "kvm1")
				t.Errorf("ssh refuses the file, so nothing was compared: %s", refused)
			}
		})
	}
}

// Files put together by chance mean the same to OpenSSH.
func TestRandomAgainstOpenSSH(t *testing.T) {
	me := needSSH(t)
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	pattern := func() string {
		return pick("", "", "!") + pick("kvm1", "kvm*", "kvm?", "*", "*.example.com", "10.*", "other")
	}
	compared, files := 0, 150
	if testing.Short() {
		files = 30
	}
	for range files {
		var text strings.Builder
		for range r.IntN(14) + 1 {
			switch r.IntN(9) {
			case 0, 1:
				fmt.Fprintf(&text, "Host %s %s\n", pattern(), pattern())
			case 2:
				fmt.Fprintf(&text, "Match %s %s,%s\n", pick("host", "originalhost", "!host"), pattern(), pattern())
			case 3:
				fmt.Fprintf(&text, "Match %s\n", pick("all", "final all", "user root,deploy", "!localuser root", "final host *.example.com", "user deploy host kvm*"))
			default:
				fmt.Fprintf(&text, "  %s\n", pick("User deploy", "User ops", "Port 2201", "Port 2202", "HostName %h.example.com", "HostName other", "IdentityFile ~/a",
					"IdentityFile ~/b", "ProxyJump j1,j2", "ProxyJump none", "ProxyCommand nc %h", "HostKeyAlias x", "IdentitiesOnly yes", "CertificateFile ~/c"))
			}
		}
		file := write(t, filepath.Join(t.TempDir(), "config"), text.String())
		for _, h := range []string{"kvm1", "kvm1.example.com", "10.0.0.1"} {
			if compare(t, file, h, me) {
				compared++
			}
			if t.Failed() {
				t.Fatalf("seed %d:\n%s", seed, text.String())
			}
		}
	}
	if compared < 2*files {
		t.Errorf("ssh took only %d of %d", compared, 3*files)
	}
}

func lookup(t *testing.T, text string, q Query) (*Settings, error) {
	t.Helper()
	c, err := Read(t.TempDir(), File{Path: write(t, filepath.Join(t.TempDir(), "config"), text)})
	if err != nil {
		return nil, err
	}
	return c.Lookup(q)
}

// A program is never run; where it would matter, the line is named.
func TestPrograms(t *testing.T) {
	keywords := []string{"port", "proxyjump", "identityfile", "user"}
	tests := []struct {
		name, text string
		given      map[string]string
		want       string // part of the error; empty: none
	}{
		{"decides", "Match exec \"test -f /x\"\n  ProxyJump b\n", nil, ":1: Match exec would decide ProxyJump in line 2"},
		{"of another host", "Match host other exec \"test -f /x\"\n  ProxyJump b\n", nil, ""},
		{"of another host, exec first", "Match exec \"test -f /x\" host other\n  ProxyJump b\n", nil, ""},
		{"sets nothing of ours", "Match exec true\n  ForwardAgent no\nHost *\n  Port 3\n", nil, ""},
		{"is set already", "Port 2\nMatch exec true\n  Port 3\n", nil, ""},
		{"is given", "Match exec true\n  Port 3\n", map[string]string{"port": "9"}, ""},
		{"adds up", "IdentityFile a\nMatch exec true\n  IdentityFile b\n", nil, "IdentityFile"},
		{"a criterion of tomorrow", "Match version OpenSSH_99*\n  Port 3\n", nil, "Match version would decide Port"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := lookup(t, tt.text, Query{Host: "kvm1", Account: "root", Given: tt.given, Keywords: keywords})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestSourcesAndMistakes(t *testing.T) {
	s, err := lookup(t, "\n\nHost kvm1\n  Port 2201\n", Query{Host: "kvm1"})
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := s.Get("port"); !strings.HasSuffix(v.Source.String(), "config:4") {
		t.Errorf("port comes from %q", v.Source)
	}
	dir := t.TempDir()
	loop := write(t, dir+"/loop", "Include "+dir+"/loop\n")
	open := write(t, dir+"/open", "Port 1\n")
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir, File{Path: open}); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("a file that everybody may write to: %v", err)
	}
	c, err := Read(dir, File{Path: loop})
	if err == nil {
		_, err = c.Lookup(Query{Host: "x"})
	}
	if err == nil || !strings.Contains(err.Error(), "deeper") {
		t.Errorf("a file that includes itself: %v", err)
	}
	if _, err := Read(dir, File{Path: dir + "/none"}); err == nil {
		t.Error("a file that is missing")
	}
	if _, err := Read(dir, File{Path: dir + "/none", Optional: true}); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"Match nonsense x\n Port 1\n": `"nonsense" is no criterion`,
		"Match host\n Port 1\n":       "has no value",
		"Port\n":                      "no value",
		"User \"a\n":                  "quote",
		"CanonicalizeHostname yes\nCanonicalDomains example.com\n": "write the whole name",
	} {
		if _, err := lookup(t, text, Query{Host: "kvm1", Keywords: []string{"port", "user"}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestExpand(t *testing.T) {
	t.Setenv("RACK", "r%1")
	tokens := Tokens{'h': "kvm1.example.com", 'r': "deploy"}
	for text, want := range map[string]string{
		"~/.ssh/%r@%h":    "/home/u/.ssh/deploy@kvm1.example.com",
		"/a/100%%":        "/a/100%",
		"/keys/${RACK}/x": "/keys/r%1/x",
		"~root/x":         "/root/x",
	} {
		if got, err := tokens.ExpandPath(text, "/home/u"); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"%x", "%", "${NOT_SET_ANYWHERE}"} {
		if got, err := tokens.ExpandPath(text, "/home/u"); err == nil {
			t.Errorf("%q gave %q", text, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("Host a\n Port 1\nMatch host b exec x\nInclude /nonexistent/*\n", "a")
	f.Add("Match final all\nUser \"x\\\"", "b%")
	f.Fuzz(func(t *testing.T, text, host string) {
		if strings.Contains(strings.ToLower(text), "include") {
			return // files of this machine
		}
		c, err := Read("/nonexistent", File{Path: write(t, filepath.Join(t.TempDir(), "c"), text)})
		if err != nil {
			return
		}
		_, _ = c.Lookup(Query{Host: host, Keywords: []string{"port"}})
	})
}
