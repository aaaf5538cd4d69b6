package facts

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"

	"github.com/virtrust/virtrust/internal/needed"
)

func nonce(t testing.TB) string {
	t.Helper()
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// shells are the ones a host's /bin/sh may be.
func shells(t testing.TB) map[string][]string {
	found := map[string][]string{}
	for name, argv := range map[string][]string{"dash": {"dash", "-s"}, "bash": {"bash", "--posix", "-s"}, "busybox": {"busybox", "sh", "-s"}} {
		if _, err := exec.LookPath(argv[0]); err != nil {
			if needed.Everything() {
				t.Fatalf("%s is needed: apt-get install %s", name, argv[0])
			}
			continue
		}
		found[name] = argv
	}
	if len(found) == 0 {
		t.Fatal("no shell to test with")
	}
	return found
}

func ask(t testing.TB, argv []string, qs []Query) *Host {
	t.Helper()
	n := nonce(t)
	script, err := Script(n, qs)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", argv, err, stderr.String())
	}
	if stderr.Len() > 0 {
		t.Errorf("%v printed on stderr: %s", argv, stderr.String())
	}
	h, err := Parse(n, out)
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return h
}

func TestScriptIsPOSIX(t *testing.T) {
	script, err := Script(strings.Repeat("ab", 16), []Query{Stat("/etc"), Content("/etc/x", "ca_file"), Unit("a.service")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(bytes.NewReader(script), "script"); err != nil {
		t.Fatal(err)
	}
}

func TestScriptInShells(t *testing.T) {
	dir := "/etc/virtrust-facts-test"
	if os.Geteuid() != 0 {
		needed.Missing(t, "needs root: links are followed below /etc only")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write := func(name, content string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	plain := write("plain", "one\ntwo", 0o640)
	empty := write("empty", "", 0o600)
	binary := write("binary", "\x00\xff'\n\n\x1b]0;x\x07", 0o644)
	big := write("big", strings.Repeat("x", MaxContent+1), 0o644)
	odd := write("odd name 'q' $x *", "odd", 0o644)
	conf := write("daemon.conf", "# comment\nca_file = \""+plain+"\"\n  key_file = '"+dir+"/k'\ncert_file=\"/root/no\"\n", 0o644)
	for _, l := range [][2]string{{"plain", "rel"}, {dir + "/rel", "abs"}, {"loop", "loop"}, {"/proc/version", "out"}, {"nowhere", "dangling"}, {"k", "keylink"}, {"new\nline", "broken"}} {
		if err := os.Symlink(l[0], filepath.Join(dir, l[1])); err != nil {
			t.Fatal(err)
		}
	}
	key := filepath.Join(dir, "k")
	if out, err := exec.Command("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"g1", ".hidden", "a b", "new\nline"} {
		if err := os.WriteFile(filepath.Join(sub, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort()
	queries := []Query{
		Content(plain), Content(empty), Content(binary), Content(big), Content(odd), Content(conf, "ca_file", "key_file", "cert_file"),
		Content(dir + "/abs"), Content(dir + "/loop"), Content(dir + "/out"), Content(dir + "/dangling"), Content(dir + "/absent"),
		Key(key), Key(dir + "/keylink"), Dir(sub), Dir(dir + "/absent"), Unit("no-such.service"),
	}
	for name, argv := range shells(t) {
		t.Run(name, func(t *testing.T) {
			h := ask(t, argv, queries)
			for p, want := range map[string]string{plain: "one\ntwo", empty: "", binary: "\x00\xff'\n\n\x1b]0;x\x07", odd: "odd", dir + "/abs": "one\ntwo"} {
				got, ok := h.Content(p)
				if !ok || string(got) != want {
					t.Errorf("content of %s = %q, %v; want %q", p, got, ok, want)
				}
			}
			if f := h.Path(plain); f.Mode != 0o640 || f.Type != Regular || f.Owner != "root" || f.Size != 7 {
				t.Errorf("plain is %+v", f)
			}
			if f := h.Path(big); !f.TooBig || f.HasData {
				t.Errorf("big: TooBig %v, HasData %v", f.TooBig, f.HasData)
			}
			if _, ok := h.Content(dir + "/out"); ok {
				t.Error("a link out of /etc was followed")
			}
			if f := h.Path(dir + "/out"); f.Type != Symlink || f.Target != "/proc/version" {
				t.Errorf("out is %+v", f)
			}
			if _, f, ok := h.Resolve(dir + "/dangling"); !ok || f.Type != Absent {
				t.Errorf("dangling resolves to %+v, %v", f, ok)
			}
			if _, _, ok := h.Resolve(dir + "/loop"); ok {
				t.Error("a loop resolves")
			}
			if h.Path(dir+"/absent").Type != Absent {
				t.Error("absent exists")
			}
			for _, k := range []string{key, dir + "/keylink"} {
				if _, ok := h.PublicKey(k); !ok {
					t.Errorf("no public key of %s", k)
				}
			}
			if len(h.Keys) != 1 {
				t.Errorf("%d keys were read, there is one", len(h.Keys))
			}
			if f := h.Path("/root/no"); f.Type != Absent {
				t.Error("a setting was followed out of /etc")
			}
			for p, f := range h.Paths {
				if bytes.Contains(f.Content, []byte("PRIVATE KEY")) {
					t.Errorf("%s brought a private key back", p)
				}
			}
			if got := h.Dirs[sub]; len(got) != 4 {
				t.Errorf("entries of sub: %q", got)
			}
			// A target with a line break does not shift the others.
			odd := ask(t, argv, []Query{Content(dir + "/abs"), Stat(dir + "/broken"), Key(dir + "/keylink")})
			if got, _ := odd.Content(dir + "/abs"); string(got) != "one\ntwo" {
				t.Errorf("beside a broken link, abs reads %q", got)
			}
			if f := odd.Path(dir + "/broken"); f.Type != Symlink || f.Target != "new\nline" {
				t.Errorf("broken is %+v", f)
			}
			if h.UID != 0 || h.MachineID == "" && h.BootID == "" || h.Uptime <= 0 || h.Clock.Year() < 2020 {
				t.Errorf("base facts: %+v", h)
			}
			if !h.Tools["openssl"] || h.Tools["virsh-no"] {
				t.Errorf("tools: %v", h.Tools)
			}
			if h.Listening != nil || h.Addresses != nil {
				t.Errorf("nobody asked: listening %v, addresses %v", h.Listening, h.Addresses)
			}
			seen := ask(t, argv, []Query{Listening(), Addresses()})
			if !slices.Contains(seen.Listening, port) {
				t.Errorf("%s is not among %v", port, seen.Listening)
			}
			if loopback := netip.MustParsePrefix("127.0.0.1/8"); h.Tools["ip"] && !slices.Contains(seen.Addresses, loopback) {
				t.Errorf("%s is not among %v", loopback, seen.Addresses)
			}
		})
	}
}

func TestQuoteInShells(t *testing.T) {
	words := []string{"", "a b", "it's", "$(id)", "`id`", "\\", "\n", "*", "-n", "\"", "'''", "a\tb", "é", "\x01\x7f"}
	for name, argv := range shells(t) {
		for _, w := range words {
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Stdin = strings.NewReader("printf %s " + Quote(w) + "\n")
			out, err := cmd.Output()
			if err != nil || string(out) != w {
				t.Errorf("%s: %q became %q (%v)", name, w, out, err)
			}
		}
	}
}

func TestQueryCheck(t *testing.T) {
	for _, q := range []Query{Stat("etc"), Stat("/etc/../x"), Stat("/a\nb"), Unit("a b"), Unit("-x"), Unit(""), Content("/etc/a", "a b"), {Kind: "x", Subject: "/a"}} {
		if q.Check() == nil {
			t.Errorf("%+v is accepted", q)
		}
		if _, err := Script(strings.Repeat("0", 32), []Query{q}); err == nil {
			t.Errorf("a script for %+v", q)
		}
	}
}
