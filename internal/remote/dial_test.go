package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

func endpointAt(t *testing.T, addr string) remote.Endpoint {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	e := remote.Endpoint{Name: "kvm1", Address: host, HostKeys: []string{"SHA256:" + strings.Repeat("A", 43)}}
	e.Port, _ = strconv.Atoi(port)
	return e
}

func speak(text string) func(net.Listener) {
	return func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(c, text)
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}
}

func TestConnectFailures(t *testing.T) {
	dialError := func(err error) *remote.Dialer {
		return &remote.Dialer{Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}}
	}
	plain := &remote.Dialer{}
	endless := func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_10.0\r\n")
				for junk := make([]byte, 4096); err == nil; {
					_, err = c.Write(junk)
				}
				_ = c.Close()
			}()
		}
	}
	tests := []struct {
		name   string
		dialer *remote.Dialer
		serve  func(net.Listener)
		want   remote.Class
		says   string
	}{
		{"nothing listens", plain, nil, remote.ClassRefused, "refused"},
		{"no route", dialError(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), nil, remote.ClassUnreachable, "no route"},
		{"no name", dialError(&net.DNSError{Err: "no such host", Name: "kvm1\x1b[2J", IsNotFound: true}), nil, remote.ClassDNS, "no such host"},
		{"timed out", dialError(os.NewSyscallError("connect", syscall.ETIMEDOUT)), nil, remote.ClassTimeout, "timed out"},
		{"closed at once", plain, speak(""), remote.ClassThrottled, "before it said its SSH version"},
		{"MaxStartups", plain, speak("Exceeded MaxStartups\r\n"), remote.ClassThrottled, "Exceeded MaxStartups"},
		{"PerSourcePenalties", plain, speak("Not allowed at this time\r\n"), remote.ClassThrottled, "Not allowed"},
		{"hostile text", plain, speak("\x1b]0;owned\x07\u202e\r\n"), remote.ClassThrottled, `\u001b]0;owned`},
		{"an HTTP server", plain, speak("HTTP/1.1 400 Bad Request\r\n\r\n"), remote.ClassThrottled, "HTTP/1.1 400"},
		{"closed after the version", plain, speak("SSH-2.0-OpenSSH_10.0\r\n"), remote.ClassLost, ""},
		{"endless lines", plain, speak(strings.Repeat("welcome\r\n", 300_000)), "", ""},
		{"endless bytes after the version", plain, endless, "", ""},
		{"packet of 4 GiB", plain, speak("SSH-2.0-OpenSSH_10.0\r\n\xff\xff\xff\xff\x00"), remote.ClassProtocol, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			c, err := tt.dialer.Connect(t.Context(), endpointAt(t, listen(t, tt.serve)))
			if err == nil {
				t.Fatalf("connected: %v", c)
			}
			if tt.want != "" && remote.ClassOf(err) != tt.want || remote.ClassOf(err) == "" {
				t.Errorf("class %q, want %q: %v", remote.ClassOf(err), tt.want, err)
			}
			if !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), "kvm1: ") || strings.ContainsAny(err.Error(), "\x1b\x07\r\n\u202e") {
				t.Errorf("text %q", err)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %s", d)
			}
		})
	}
}

func TestAlgorithmsAreNamed(t *testing.T) {
	s := remotetest.Start(t, remotetest.Options{Config: func(c *ssh.ServerConfig) {
		c.KeyExchanges = []string{ssh.InsecureKeyExchangeDH1SHA1}
	}})
	_, err := (&remote.Dialer{}).Connect(t.Context(), s.Endpoint)
	if remote.ClassOf(err) != remote.ClassAlgorithm || !strings.Contains(err.Error(), "the host offers diffie-hellman-group1-sha1") {
		t.Errorf("class %q: %v", remote.ClassOf(err), err)
	}
}

func TestBanner(t *testing.T) {
	for size, want := range map[int]remote.Class{2000: "", 200_000: ""} {
		s := remotetest.Start(t, remotetest.Options{Banner: strings.Repeat("\x1b[31mno entry\r\n", size/14)})
		c, err := (&remote.Dialer{}).Connect(t.Context(), s.Endpoint)
		if remote.ClassOf(err) != want {
			t.Errorf("a banner of %d bytes: %v", size, err)
		}
		if err == nil {
			_ = c.Close()
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	connect := func(t *testing.T, o remotetest.Options) *remote.Conn {
		c, err := (&remote.Dialer{}).Connect(t.Context(), remotetest.Start(t, o).Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	c := connect(t, remotetest.Options{RefuseExec: true})
	if out, err := c.Run(t.Context(), []byte("echo x"), remote.Limits{}); remote.ClassOf(err) != remote.ClassShell {
		t.Errorf("exec refused: %+v, %v", out, err)
	}
	c = connect(t, remotetest.Options{RefuseSFTP: true, Exec: func(string, ssh.Channel) int { return 7 }})
	err := c.Upload(t.Context(), []remote.Upload{{Path: "/tmp/never", Mode: 0o600}})
	if remote.ClassOf(err) != remote.ClassShell || !strings.Contains(err.Error(), "status 7") {
		t.Errorf("SFTP refused, and no shell: %v", err)
	}
	c = connect(t, remotetest.Options{ProhibitForward: true, Exec: func(_ string, ch ssh.Channel) int {
		script, _ := io.ReadAll(ch)
		nonce, _, _ := strings.Cut(strings.TrimPrefix(string(script), "{\nN="), " ")
		_, _ = fmt.Fprintf(ch, "%s without 0 \n\n", nonce)
		return 0
	}})
	if _, err := c.Served(t.Context(), "127.0.0.1:1", ""); remote.ClassOf(err) != remote.ClassProhibited {
		t.Errorf("forwarding prohibited, and no program to look with: %v", err)
	}
}

// What OpenSSH itself answers when it is configured to refuse.
func TestRefusalsOfOpenSSH(t *testing.T) {
	connect := func(t *testing.T, extra string) *remote.Conn {
		c, err := (&remote.Dialer{}).Connect(t.Context(), remotetest.StartOpenSSH(t, extra).Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	t.Run("no forwarding", func(t *testing.T) {
		c := connect(t, "AllowTcpForwarding no")
		if _, err := c.Forward(t.Context(), "tcp", "127.0.0.1:1"); remote.ClassOf(err) != remote.ClassProhibited {
			t.Errorf("class %q: %v", remote.ClassOf(err), err)
		}
	})
	t.Run("forwarding elsewhere", func(t *testing.T) {
		c := connect(t, "PermitOpen 127.0.0.1:2")
		if _, err := c.Forward(t.Context(), "tcp", "127.0.0.1:1"); remote.ClassOf(err) != remote.ClassProhibited {
			t.Errorf("class %q: %v", remote.ClassOf(err), err)
		}
	})
	t.Run("no sessions", func(t *testing.T) {
		c := connect(t, "MaxSessions 0")
		if _, err := c.Run(t.Context(), []byte("true"), remote.Limits{}); remote.ClassOf(err) != remote.ClassShell {
			t.Errorf("class %q: %v", remote.ClassOf(err), err)
		}
	})
	t.Run("a forced command", func(t *testing.T) {
		c := connect(t, "ForceCommand echo go away; exit 3")
		out, err := c.Run(t.Context(), []byte("echo ran"), remote.Limits{})
		if err != nil || string(out.Stdout) != "go away\n" || out.Exit != 3 {
			t.Errorf("Run: %+v, %v", out, err)
		}
		err = c.Upload(t.Context(), []remote.Upload{{Path: "/tmp/never", Mode: 0o600}})
		if remote.ClassOf(err) != remote.ClassShell {
			t.Errorf("Upload: class %q: %v", remote.ClassOf(err), err)
		}
	})
	t.Run("another key", func(t *testing.T) {
		s := remotetest.StartOpenSSH(t, "MaxAuthTries 6")
		dir := t.TempDir()
		_, key := remotetest.NewKey()
		remotetest.WriteIdentity(t, dir+"/id", key)
		s.Endpoint.Identity = []string{dir + "/id"}
		if _, err := (&remote.Dialer{}).Connect(t.Context(), s.Endpoint); remote.ClassOf(err) != remote.ClassAuthentication {
			t.Errorf("class %q: %v", remote.ClassOf(err), err)
		}
	})
	t.Run("MaxAuthTries reached", func(t *testing.T) {
		s := remotetest.StartOpenSSH(t, "MaxAuthTries 1")
		dir := t.TempDir()
		for _, n := range []string{"/a", "/b"} {
			_, key := remotetest.NewKey()
			remotetest.WriteIdentity(t, dir+n, key)
		}
		s.Endpoint.Identity = []string{dir + "/a", dir + "/b"}
		_, err := (&remote.Dialer{}).Connect(t.Context(), s.Endpoint)
		if remote.ClassOf(err) != remote.ClassAuthentication {
			t.Errorf("class %q: %v", remote.ClassOf(err), err)
		}
		var re *remote.Error
		if errors.As(err, &re) && re.Hint == "" {
			t.Error("no hint")
		}
	})
}

// An OpenSSH host logs one session for a run: the second request of a channel
// starts nothing.
func TestRunStartsOneProgram(t *testing.T) {
	s := remotetest.StartOpenSSH(t, "")
	c, err := (&remote.Dialer{}).Connect(t.Context(), s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 5 {
		if _, err := c.Run(t.Context(), []byte("true"), remote.Limits{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(s.Log(), "Starting session: "); n != 5 {
		t.Errorf("%d programs were started by 5 runs:\n%s", n, s.Log())
	}
}
