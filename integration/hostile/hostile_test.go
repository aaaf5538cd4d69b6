package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/needed"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
	"github.com/virtrust/virtrust/plan"
)

const evil = "\x1b]0;owned\x07\x1b[2J\u202e\u2066\x9b31m\r"

// maxRSS is what a run may use, in KiB: a hostile host may send 32 MiB.
const maxRSS = 256 << 10

// raw serves bytes, again and again if endless, to whoever connects.
func raw(t *testing.T, text string, endless bool) remote.Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, err := io.WriteString(c, text)
				for junk := bytes.Repeat([]byte(evil), 4096); endless && err == nil; {
					_, err = c.Write(junk)
				}
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	_, identity := remotetest.NewKey()
	e := remote.Endpoint{Port: l.Addr().(*net.TCPAddr).Port, HostKeys: []string{"SHA256:" + strings.Repeat("A", 43)}, Identity: []string{filepath.Join(t.TempDir(), "id")}}
	remotetest.WriteIdentity(t, e.Identity[0], identity)
	return e
}

// shell runs a script on this machine and gives what it said to change, which
// answers with what is said in its place.
func shell(change func(out []byte) []byte) func(string, ssh.Channel) int {
	return func(_ string, ch ssh.Channel) int {
		cmd := exec.Command("/bin/sh", "-s")
		cmd.Stdin = ch
		out, _ := cmd.Output()
		_, _ = ch.Write(change(out))
		return 0
	}
}

func build(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "virtrust")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", file, "github.com/virtrust/virtrust/cmd/virtrust")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

func TestOneOfThreeIsHostile(t *testing.T) {
	if testing.Short() {
		needed.Missing(t, "not with -short: builds the program")
	}
	virtrust := build(t)
	base := filepath.Join(t.TempDir(), "base")
	if err := os.Mkdir(base, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "ssh_config"), []byte("HostName 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	honest := []remote.Endpoint{remotetest.Start(t, remotetest.Options{}).Endpoint, remotetest.Start(t, remotetest.Options{}).Endpoint}
	server := func(o remotetest.Options) func(*testing.T) remote.Endpoint {
		return func(t *testing.T) remote.Endpoint { return remotetest.Start(t, o).Endpoint }
	}
	tests := []struct {
		name   string
		host   func(*testing.T) remote.Endpoint
		readOK bool // it may be read all the same
	}{
		{name: "escapes in place of a version", host: func(t *testing.T) remote.Endpoint { return raw(t, evil+"\r\n", false) }},
		{name: "endless lines", host: func(t *testing.T) remote.Endpoint { return raw(t, evil, true) }},
		{name: "endless bytes after the version", host: func(t *testing.T) remote.Endpoint { return raw(t, "SSH-2.0-x"+"\r\n", true) }},
		{name: "a packet of 4 GiB", host: func(t *testing.T) remote.Endpoint { return raw(t, "SSH-2.0-x\r\n\xff\xff\xff\xff\x00", false) }},
		{name: "a huge banner", host: server(remotetest.Options{Banner: strings.Repeat(evil, 8000)}), readOK: true},
		{name: "endless output", host: server(remotetest.Options{Exec: func(_ string, ch ssh.Channel) int {
			junk := bytes.Repeat([]byte(evil), 4096)
			for {
				if _, err := ch.Write(junk); err != nil {
					return 1
				}
			}
		}})},
		{name: "endless complaints", host: server(remotetest.Options{Exec: func(_ string, ch ssh.Channel) int {
			junk := bytes.Repeat([]byte(evil), 4096)
			for range 500 {
				if _, err := ch.Stderr().Write(junk); err != nil {
					return 1
				}
			}
			return 255
		}})},
		{name: "no status", host: server(remotetest.Options{Exec: func(_ string, ch ssh.Channel) int {
			_, _ = io.Copy(io.Discard, ch)
			return -1
		}})},
		{name: "half an answer", host: server(remotetest.Options{Exec: shell(func(out []byte) []byte { return out[:len(out)/2] })})},
		{name: "noise before the answer", host: server(remotetest.Options{Exec: shell(func(out []byte) []byte { return append([]byte(evil+"\n"), out...) })}), readOK: true},
		{name: "escapes in what it says of itself", host: server(remotetest.Options{Exec: shell(func(out []byte) []byte {
			return bytes.ReplaceAll(bytes.ReplaceAll(out, []byte("Debian"), []byte("\x1b[31m\x07")), []byte("libvirt"), []byte("\x1b[2J\u202e"))
		})}), readOK: true},
		{name: "refuses everything", host: server(remotetest.Options{RefuseExec: true, RefuseSFTP: true, ProhibitForward: true})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "site")
			if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			inventory := policy
			for i, e := range append(honest[:2:2], tt.host(t)) {
				inventory += fmt.Sprintf("\nhost \"kvm%d\" {\n  address  = \"kvm%d.example.test\"\n  policy   = policy.standard\n  host_key = [%q]\n  ssh {\n    port     = %d\n    identity = [%q]\n    config   = \"ssh_config\"\n  }\n}\n",
					i+1, i+1, e.HostKeys[0], e.Port, e.Identity[0])
			}
			if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte(inventory), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(base, "authorities")); err != nil {
				if out, code, _ := run(t, virtrust, dir, "ca", "init"); code != 0 {
					t.Fatalf("ca init: %d\n%s", code, out)
				}
				for _, d := range []string{"authorities", ".virtrust"} {
					if err := os.CopyFS(filepath.Join(base, d), os.DirFS(filepath.Join(dir, d))); err != nil {
						t.Fatal(err)
					}
				}
			}
			text, code, rss := run(t, virtrust, dir, "plan")
			t.Logf("exit status %d, %d MiB", code, rss>>10)
			if code != 3 && !(tt.readOK && code == 0) {
				t.Errorf("exit status %d, want 3:\n%s", code, text)
			}
			if i := strings.IndexFunc(text, func(r rune) bool {
				return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r))
			}); i >= 0 {
				t.Errorf("the terminal is told %q", text[max(0, i-40):min(len(text), i+40)])
			}
			if rss > maxRSS {
				t.Errorf("the run used %d KiB, %d are allowed", rss, maxRSS)
			}
			out, _, _ := run(t, virtrust, dir, "plan", "--json")
			var p plan.Plan
			if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &p); err != nil {
				t.Fatalf("not JSON: %v\n%s", err, out)
			}
			for i, h := range p.Hosts {
				if i < 2 && h.Failure != nil {
					t.Errorf("%s is honest and was not read: %+v", h.Host, h.Failure)
				}
				if i == 2 && h.Failure == nil && !tt.readOK {
					t.Errorf("%s was read", h.Host)
				}
			}
			if len(p.Hosts) != 3 {
				t.Errorf("%d hosts are in the plan, want 3", len(p.Hosts))
			}
		})
	}
}

const policy = `authority "libvirt" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

authority "qemu" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

policy "standard" {
  template = "libvirt"
}
`

// run gives what the program wrote on both streams, its status and the KiB of
// memory that it had at most.
func run(t *testing.T, program, dir string, args ...string) (string, int, int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"-C", dir}, args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "VT_PASSPHRASE=p4ss-of-the-lab", "SSH_AUTH_SOCK=")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
}
