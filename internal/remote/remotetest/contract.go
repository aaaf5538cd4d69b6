package remotetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/remote"
)

// Subject is a host that the contract is checked on.
type Subject struct {
	Endpoint remote.Endpoint
	Dialer   *remote.Dialer

	// TLSAddr is a TLS listener as the host sees it, TLSLeaf its leaf in DER.
	// Empty: that part is skipped.
	TLSAddr string
	TLSLeaf []byte

	// RefusedAddr is an address where nothing listens, as the host sees it.
	RefusedAddr string

	// PlainAddr is a listener that answers anything with text that is not TLS.
	PlainAddr string
}

// Contract checks all that package remote promises of a host that is well. It
// writes only below a directory that it makes with `mktemp -d` on the host.
func Contract(t *testing.T, s Subject) {
	connect := func(t *testing.T) *remote.Conn {
		t.Helper()
		c, err := s.Dialer.Connect(t.Context(), s.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	run := func(t *testing.T, c *remote.Conn, script string) remote.Output {
		t.Helper()
		out, err := c.Run(t.Context(), []byte(script), remote.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}

	t.Run("host key is the one expected", func(t *testing.T) {
		c := connect(t)
		found := false
		for _, k := range s.Endpoint.HostKeys {
			found = found || k == c.HostKey()
		}
		if len(s.Endpoint.HostKeys) > 0 && !found || !strings.HasPrefix(c.HostKey(), "SHA256:") {
			t.Errorf("HostKey() = %q, want one of %q", c.HostKey(), s.Endpoint.HostKeys)
		}
	})

	t.Run("another pin is refused", func(t *testing.T) {
		e := s.Endpoint
		e.HostKeys = []string{"SHA256:" + strings.Repeat("A", 43)}
		c, err := s.Dialer.Connect(t.Context(), e)
		if remote.ClassOf(err) != remote.ClassHostKeyChanged {
			t.Errorf("Connect = %v, %v; want class %q", c, err, remote.ClassHostKeyChanged)
		}
	})

	t.Run("run", func(t *testing.T) {
		c := connect(t)
		tests := []struct{ name, script, stdout, stderr string }{
			{"streams apart", "echo out; echo err >&2", "out\n", "err\n"},
			{"empty", "", "", ""},
			{"no expansion of ours", "printf '%s\\n' '$HOME `id` \\\\'", "$HOME `id` \\\\\n", ""},
			{"bytes", "printf '\\000\\377\\033'", "\x00\xff\x1b", ""},
			{"long script", strings.Repeat("# padding\n", 30_000) + "echo end", "end\n", ""},
			{"leaves early", "echo early; exit 0\n" + strings.Repeat("# never read\n", 200_000), "early\n", ""},
			{"argv is bare", "echo \"$#\"", "0\n", ""},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				out := run(t, c, tt.script)
				if string(out.Stdout) != tt.stdout || string(out.Stderr) != tt.stderr || out.Exit != 0 {
					t.Errorf("got %q, %q, %d; want %q, %q, 0", out.Stdout, out.Stderr, out.Exit, tt.stdout, tt.stderr)
				}
			})
		}
		if out := run(t, c, "exit 7"); out.Exit != 7 {
			t.Errorf("exit status %d, want 7", out.Exit)
		}
		if out := run(t, c, "kill -9 $$"); out.Exit == 0 {
			t.Errorf("a killed shell gave exit status 0: %+v", out)
		}
		big := run(t, c, "head -c 3000000 /dev/zero")
		if len(big.Stdout) != 3_000_000 {
			t.Errorf("got %d bytes of stdout, want 3000000", len(big.Stdout))
		}
	})

	t.Run("five at once", func(t *testing.T) {
		c := connect(t)
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				out, err := c.Run(t.Context(), []byte("echo "+strconv.Itoa(i)), remote.Limits{})
				if err != nil || string(out.Stdout) != fmt.Sprintf("%d\n", i) {
					t.Errorf("run %d: %q, %v", i, out.Stdout, err)
				}
			})
		}
		wg.Wait()
	})

	t.Run("stderr is cut, stdout is refused", func(t *testing.T) {
		c := connect(t)
		out, err := c.Run(t.Context(), []byte("head -c 100000 /dev/zero >&2; echo ok"), remote.Limits{Stderr: 100})
		if err != nil || len(out.Stderr) != 100 || !out.StderrTruncated || string(out.Stdout) != "ok\n" {
			t.Errorf("stderr %d bytes, truncated %v, stdout %q, %v", len(out.Stderr), out.StderrTruncated, out.Stdout, err)
		}
		out, err = c.Run(t.Context(), []byte("cat /dev/zero"), remote.Limits{Stdout: 1000})
		if remote.ClassOf(err) != remote.ClassUnknown || !errors.Is(err, remote.ErrOutputLimit) || len(out.Stdout) != 1000 {
			t.Errorf("endless stdout: %d bytes, %v", len(out.Stdout), err)
		}
	})

	t.Run("a script that hangs ends by its limit", func(t *testing.T) {
		c := connect(t)
		start := time.Now()
		_, err := c.Run(t.Context(), []byte("sleep 20"), remote.Limits{Timeout: 300 * time.Millisecond})
		if remote.ClassOf(err) != remote.ClassUnknown || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		if _, err := c.Run(t.Context(), []byte("true"), remote.Limits{}); err == nil {
			t.Error("the connection lives on, though its state is unknown")
		}
	})

	t.Run("upload", func(t *testing.T) {
		c := connect(t)
		dir := strings.TrimSpace(string(run(t, c, "umask 077; mktemp -d /tmp/remotetest.XXXXXX").Stdout))
		if !path.IsAbs(dir) {
			t.Fatalf("mktemp gave %q", dir)
		}
		t.Cleanup(func() {
			// The test's own context has ended by now.
			if _, err := c.Run(context.Background(), []byte("rm -r '"+dir+"'"), remote.Limits{}); err != nil {
				t.Error(err)
			}
		})
		files := []remote.Upload{{Path: dir + "/empty", Mode: 0o600}, {Path: dir + "/key", Mode: 0o400, Content: []byte("secret\n")}}
		for i := range 12 {
			files = append(files, remote.Upload{Path: fmt.Sprintf("%s/%d", dir, i), Mode: 0o640, Content: bytes.Repeat([]byte{byte(i), '\n'}, 1+i*20_000)})
		}
		if err := c.Upload(t.Context(), files); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			got := run(t, c, fmt.Sprintf("stat -c %%a '%s'; cat '%s'", f.Path, f.Path))
			want := fmt.Sprintf("%o\n%s", f.Mode, f.Content)
			if string(got.Stdout) != want {
				t.Errorf("%s: %d bytes that differ from the %d wanted; %s", f.Path, len(got.Stdout), len(want), got.Stderr)
			}
		}
		again := c.Upload(t.Context(), []remote.Upload{{Path: dir + "/key", Mode: 0o600, Content: []byte("other")}})
		if remote.ClassOf(again) != remote.ClassFile {
			t.Errorf("over an existing file: %v", again)
		}
		run(t, c, "ln -s '"+dir+"/target' '"+dir+"/link'")
		if err := c.Upload(t.Context(), []remote.Upload{{Path: dir + "/link", Mode: 0o600, Content: []byte("x")}}); remote.ClassOf(err) != remote.ClassFile {
			t.Errorf("through a dangling link: %v", err)
		}
		if err := c.Upload(t.Context(), []remote.Upload{{Path: dir + "/none/file", Mode: 0o600}}); remote.ClassOf(err) != remote.ClassFile {
			t.Errorf("into a directory that is missing: %v", err)
		}
		for _, bad := range []string{"relative", dir + "/../x", dir + "/", dir + "/nul\x00"} {
			if err := c.Upload(t.Context(), []remote.Upload{{Path: bad, Mode: 0o600}}); remote.ClassOf(err) != remote.ClassConfiguration {
				t.Errorf("%q: %v", bad, err)
			}
		}
		if out := run(t, c, "cat '"+dir+"/key'; ls '"+dir+"' | wc -l"); strings.Join(strings.Fields(string(out.Stdout)), " ") != "secret 15" {
			t.Errorf("after refused uploads: %q", out.Stdout)
		}
	})

	t.Run("served", func(t *testing.T) {
		c := connect(t)
		if s.TLSAddr != "" {
			got, err := c.Served(t.Context(), s.TLSAddr, "")
			if err != nil || len(got.Chain) == 0 || !bytes.Equal(got.Chain[0], s.TLSLeaf) || got.Version < tls.VersionTLS12 {
				t.Errorf("Served: %d certificates, version %x, %v", len(got.Chain), got.Version, err)
			}
			conn, err := c.Forward(t.Context(), "tcp", s.TLSAddr)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			var timeout net.Error
			if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("a read deadline gave %v", err)
			}
			_ = conn.Close()
		}
		if s.RefusedAddr != "" {
			if _, err := c.Served(t.Context(), s.RefusedAddr, ""); remote.ClassOf(err) != remote.ClassRefused {
				t.Errorf("nothing listens: %v (class %q)", err, remote.ClassOf(err))
			}
		}
		if s.PlainAddr != "" {
			if _, err := c.Served(t.Context(), s.PlainAddr, ""); remote.ClassOf(err) != remote.ClassProtocol {
				t.Errorf("not TLS: %v (class %q)", err, remote.ClassOf(err))
			}
		}
		if out := run(t, c, "echo alive"); string(out.Stdout) != "alive\n" {
			t.Errorf("after looks that failed, the connection says %q", out.Stdout)
		}
	})

	t.Run("a call that is given up ends", func(t *testing.T) {
		c := connect(t)
		ctx, cancel := context.WithCancel(t.Context())
		// Long enough for a busy host to have started the script.
		time.AfterFunc(3*time.Second, cancel)
		if _, err := c.Run(ctx, []byte("sleep 40"), remote.Limits{}); remote.ClassOf(err) != remote.ClassUnknown || !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, err := s.Dialer.Connect(ctx, s.Endpoint); remote.ClassOf(err) != remote.ClassInterrupted {
			t.Errorf("Connect: %v", err)
		}
	})

	t.Run("after Close", func(t *testing.T) {
		c := connect(t)
		_ = c.Close()
		_ = c.Close()
		if _, err := c.Run(t.Context(), []byte("true"), remote.Limits{}); remote.ClassOf(err) != remote.ClassLost {
			t.Errorf("Run: %v", err)
		}
		if err := c.Upload(t.Context(), []remote.Upload{{Path: "/tmp/never", Mode: 0o600}}); remote.ClassOf(err) != remote.ClassLost {
			t.Errorf("Upload: %v", err)
		}
		if _, err := c.Forward(t.Context(), "tcp", "127.0.0.1:1"); remote.ClassOf(err) != remote.ClassLost {
			t.Errorf("Forward: %v", err)
		}
	})
}

// Plain accepts connections on a listener and answers each with text.
func Plain(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.WriteString(c, "220 this is no TLS, but a greeting\r\n")
			_ = c.Close()
		}()
	}
}
