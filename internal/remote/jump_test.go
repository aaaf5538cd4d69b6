package remote_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/needed"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
	"github.com/virtrust/virtrust/internal/remote/sshconfig"
)

// Three real sshd in a row, and the contract of a host at the end.
func TestContractThroughJumpHosts(t *testing.T) {
	if testing.Short() {
		needed.Missing(t, "not with -short: three sshd and a whole contract")
	}
	first, second, host := remotetest.StartOpenSSH(t, ""), remotetest.StartOpenSSH(t, ""), remotetest.StartOpenSSH(t, "")
	e := host.Endpoint
	e.Jump = []remote.Endpoint{first.Endpoint, second.Endpoint}
	remotetest.Contract(t, subject(t, e))
	for name, s := range map[string]*remotetest.OpenSSH{"first": first, "second": second} {
		if n := strings.Count(s.Log(), "Accepted publickey"); n != 1 {
			t.Errorf("%d logins on the %s jump host, want one for all connections", n, name)
		}
	}
}

// anywhere starts a server on a free port of every 127.0.0.0/8 address.
func anywhere(t *testing.T, opts remotetest.Options) (*remotetest.Server, int) {
	t.Helper()
	s := remotetest.New(t, opts)
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.Serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return s, l.Addr().(*net.TCPAddr).Port
}

// 500 hosts at once through one sshd with OpenSSH's own limits: one login, and
// nobody is turned away.
func TestManyHostsThroughOneJumpHost(t *testing.T) {
	const hosts = 500
	jump := remotetest.StartOpenSSH(t, "MaxStartups 10:30:100\nMaxSessions 10")
	target, port := anywhere(t, remotetest.Options{})
	d := &remote.Dialer{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := map[remote.Class]error{}
	conns := make([]*remote.Conn, hosts)
	for i := range hosts {
		e := target.Endpoint
		e.Name, e.Address, e.Port = fmt.Sprintf("kvm%d", i), fmt.Sprintf("127.1.%d.%d", i/250, i%250+1), port
		e.Jump = []remote.Endpoint{jump.Endpoint}
		wg.Go(func() {
			c, err := d.Connect(t.Context(), e)
			mu.Lock()
			defer mu.Unlock()
			if conns[i] = c; err != nil {
				failed[remote.ClassOf(err)] = err
			}
		})
	}
	wg.Wait()
	for class, err := range failed {
		t.Errorf("class %q: %v", class, err)
	}
	if n := target.Connections.Load(); n != hosts {
		t.Errorf("%d connections reached the hosts, want %d", n, hosts)
	}
	log := jump.Log()
	if n := strings.Count(log, "Accepted publickey"); n != 1 || strings.Contains(log, "MaxStartups") || strings.Contains(log, "drop connection") {
		t.Errorf("%d logins on the jump host, want 1; it says:\n%s", n, log[:min(len(log), 4000)])
	}
	for _, c := range conns {
		if c != nil {
			_ = c.Close()
		}
	}
	_ = d.Close()
}

func TestJumpHostFailures(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	tests := []struct {
		name   string
		opts   remotetest.Options
		jump   func(*remote.Endpoint) // changes the jump host's endpoint
		host   func(*remote.Endpoint)
		want   remote.Class
		says   string
		logins int64 // connections that the jump host saw for ten hosts
		keys   int64 // keys that it was offered
	}{
		{name: "another host key", jump: func(e *remote.Endpoint) { e.HostKeys = []string{"SHA256:" + strings.Repeat("A", 43)} },
			want: remote.ClassHostKeyChanged, says: "jump host bastion: checking the host key", logins: 1},
		{name: "refuses our key", opts: remotetest.Options{Config: func(c *ssh.ServerConfig) {
			check := c.PublicKeyCallback
			c.PublicKeyCallback = func(m ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
				_, _ = check(m, k)
				return nil, errors.New("no")
			}
		}}, want: remote.ClassAuthentication, says: "jump host bastion: logging in as", logins: 1, keys: 1},
		{name: "nothing listens", jump: func(e *remote.Endpoint) { e.Port = nobody }, want: remote.ClassRefused, says: "jump host bastion: connecting to"},
		{name: "forbids forwarding", opts: remotetest.Options{ProhibitForward: true}, want: remote.ClassProhibited, says: "from jump host bastion", logins: 1, keys: 1},
		{name: "no name", opts: remotetest.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("Name or service not known")
		}}, want: remote.ClassDNS, says: "from jump host bastion", logins: 1, keys: 1},
		{name: "no route", opts: remotetest.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("No route to host")
		}}, want: remote.ClassUnreachable, logins: 1, keys: 1},
		{name: "nothing listens on the host", host: func(e *remote.Endpoint) { e.Port = nobody }, want: remote.ClassRefused, says: "connecting to 127.0.0.1:", logins: 1, keys: 1},
		{name: "names itself for ever", jump: func(e *remote.Endpoint) {
			next := *e
			for range 10 {
				next.Jump = []remote.Endpoint{next}
				next.Port++
			}
			*e = next
		}, want: remote.ClassConfiguration, says: "more than 8 jump hosts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			jump, target := remotetest.Start(t, tt.opts), remotetest.Start(t, remotetest.Options{})
			e := target.Endpoint
			if tt.host != nil {
				tt.host(&e)
			}
			via := jump.Endpoint
			via.Name = "bastion"
			if tt.jump != nil {
				tt.jump(&via)
			}
			e.Jump = []remote.Endpoint{via}
			d := &remote.Dialer{}
			var wg sync.WaitGroup
			for i := range 10 {
				e := e
				e.Name = "kvm" + strconv.Itoa(i)
				wg.Go(func() {
					c, err := d.Connect(t.Context(), e)
					if err == nil {
						t.Errorf("connected: %v", c)
						return
					}
					if remote.ClassOf(err) != tt.want || !strings.HasPrefix(err.Error(), e.Name+": ") || !strings.Contains(err.Error(), tt.says) {
						t.Errorf("class %q, want %q: %v", remote.ClassOf(err), tt.want, err)
					}
				})
			}
			wg.Wait()
			_ = d.Close()
			if n := jump.Connections.Load(); n != tt.logins {
				t.Errorf("the jump host saw %d connections, want %d", n, tt.logins)
			}
			if n := jump.Attempts.Load(); tt.keys > 0 && n > 2*tt.keys || tt.keys == 0 && n > 0 {
				t.Errorf("the jump host was offered %d keys", n)
			}
			if n := target.Connections.Load(); n != 0 {
				t.Errorf("the host saw %d connections", n)
			}
		})
	}
}

// A jump host's connection that died is made anew, once for all.
func TestJumpHostDies(t *testing.T) {
	jump, target := remotetest.New(t, remotetest.Options{}), remotetest.Start(t, remotetest.Options{})
	var mu sync.Mutex
	var lines []net.Conn
	d := &remote.Dialer{Dial: func(context.Context, string, string) (net.Conn, error) {
		client, far := remotetest.Pipe(0)
		mu.Lock()
		lines = append(lines, client)
		mu.Unlock()
		go jump.Serve(far)
		return client, nil
	}}
	e := target.Endpoint
	jump.Endpoint.Port = 22
	e.Jump = []remote.Endpoint{jump.Endpoint}
	connect := func() *remote.Conn {
		t.Helper()
		c, err := d.Connect(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := connect()
	mu.Lock()
	_ = lines[0].Close()
	mu.Unlock()
	if _, err := first.Run(t.Context(), []byte("true"), remote.Limits{}); err == nil {
		t.Error("the connection outlived the one under it")
	}
	second, third := connect(), connect()
	if out, err := second.Run(t.Context(), []byte("echo again"), remote.Limits{}); err != nil || string(out.Stdout) != "again\n" {
		t.Errorf("%q, %v", out.Stdout, err)
	}
	if n := jump.Connections.Load(); n != 2 {
		t.Errorf("%d logins on the jump host, want 2", n)
	}
	// The run's end leaves it to those who still use it.
	_ = d.Close()
	if out, err := third.Run(t.Context(), []byte("echo still"), remote.Limits{}); err != nil || string(out.Stdout) != "still\n" {
		t.Errorf("after Close: %q, %v", out.Stdout, err)
	}
	_ = first.Close()
	_ = second.Close()
	_ = third.Close()
	mu.Lock()
	defer mu.Unlock()
	if _, err := lines[1].Write([]byte("x")); err == nil {
		t.Error("the jump host's connection outlived its last user")
	}
}

// configured is an endpoint of which only a configuration file knows anything.
func configured(t *testing.T, text string) remote.Endpoint {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return remote.Endpoint{Name: "kvm1", Address: "kvm1", Config: []sshconfig.File{{Path: file}}}
}

func TestConfigDecides(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	t.Setenv("HOME", t.TempDir())
	jump, target := remotetest.Start(t, remotetest.Options{}), remotetest.Start(t, remotetest.Options{})
	pin := func(s *remotetest.Server, name string) string {
		t.Helper()
		var line string
		c, err := (&remote.Dialer{}).Connect(t.Context(), remote.Endpoint{Name: "x", Address: "127.0.0.1", Port: s.Endpoint.Port, KnownHosts: []string{os.DevNull}})
		var e *remote.Error
		if err == nil || !errors.As(err, &e) {
			t.Fatal(c, err)
		}
		_, line, _ = strings.Cut(e.Hint, os.DevNull+": ")
		_, key, _ := strings.Cut(line, " ")
		return name + " " + key + "\n"
	}
	known := filepath.Join(t.TempDir(), "known_hosts")
	at := func(s *remotetest.Server) string { return fmt.Sprintf("[127.0.0.1]:%d", s.Endpoint.Port) }
	if err := os.WriteFile(known, []byte(pin(target, at(target))+pin(target, "rack-one")+pin(jump, at(jump))), 0o600); err != nil {
		t.Fatal(err)
	}
	base := fmt.Sprintf("Host kvm1\n  HostName 127.0.0.1\n  Port %d\n  User root\n  IdentityFile %s\nHost bastion\n  HostName 127.0.0.1\n  Port %d\n  IdentityFile %s\nHost *\n  UserKnownHostsFile %s\n  GlobalKnownHostsFile none\n",
		target.Endpoint.Port, target.Endpoint.Identity[0], jump.Endpoint.Port, jump.Endpoint.Identity[0], known)
	tests := []struct {
		name, text string
		change     func(*remote.Endpoint)
		want       remote.Class
		says       string
		jumps      int64
	}{
		{name: "everything", text: base},
		{name: "a jump host with a block of its own", text: base + "Match host 127.0.0.1 user root\n  ProxyJump bastion\n", jumps: 1},
		{name: "a jump host of all", text: base + "Host *\n  ProxyJump bastion\n", jumps: 1},
		{name: "tokens", text: "Host kvm1\n  HostName 127.0.0.%p\n" + base, want: remote.ClassConfiguration, says: "is no name or address"},
		{name: "the name of the host key", text: "HostKeyAlias rack-one\n" + base},
		{name: "another name of the host key", text: "HostKeyAlias rack-two\n" + base, want: remote.ClassHostKeyUnknown},
		{name: "the inventory says to go directly", text: base + "Host *\n  ProxyJump nowhere.invalid\n", change: func(e *remote.Endpoint) { e.Jump = []remote.Endpoint{} }},
		{name: "the inventory's port wins", text: base, change: func(e *remote.Endpoint) { e.Port = 1 }, want: remote.ClassRefused, says: "127.0.0.1:1 (HostName from "},
		{name: "the inventory's key wins", text: base, change: func(e *remote.Endpoint) { e.Identity = []string{jump.Endpoint.Identity[0]} }, want: remote.ClassAuthentication},
		{name: "the inventory's known_hosts win", text: base, change: func(e *remote.Endpoint) { e.KnownHosts = []string{os.DevNull} }, want: remote.ClassHostKeyUnknown},
		{name: "a program as the way", text: base + "Host *\n  ProxyCommand nc %h %p\n", want: remote.ClassConfiguration, says: "ProxyCommand"},
		{name: "no program as the way", text: "ProxyCommand none\n" + base},
		{name: "a program decides", text: base + "Match exec true\n  ProxyJump bastion\n", want: remote.ClassConfiguration, says: "Match exec would decide ProxyJump"},
		{name: "a port that is none", text: "Port ssh\n" + base, want: remote.ClassConfiguration, says: "is no port"},
		{name: "a jump host that is none", text: base + "Host *\n  ProxyJump a@b@c:d\n", want: remote.ClassConfiguration, says: "[USER@]HOST[:PORT]"},
		{name: "revoked", text: "RevokedHostKeys " + known + ".revoked\n" + base, want: remote.ClassHostKeyChanged, says: "RevokedHostKeys"},
	}
	_, key, _ := strings.Cut(pin(target, "x"), " ")
	if err := os.WriteFile(known+".revoked", []byte("# lost\n"+key), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := configured(t, tt.text)
			if tt.change != nil {
				tt.change(&e)
			}
			d := &remote.Dialer{}
			defer d.Close()
			before := jump.Connections.Load()
			c, err := d.Connect(t.Context(), e)
			if remote.ClassOf(err) != tt.want || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("class %q, want %q: %v", remote.ClassOf(err), tt.want, err)
			}
			if err == nil {
				_ = c.Close()
			}
			if n := jump.Connections.Load() - before; n != tt.jumps {
				t.Errorf("%d connections to the jump host, want %d", n, tt.jumps)
			}
		})
	}
	said, err := (&remote.Dialer{}).Describe(configured(t, base+"Host *\n  ProxyJump bastion\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range said {
		got[s.Name] = fmt.Sprintf("%s %d", strings.Join(s.Values, " "), s.Source.Line)
	}
	for name, want := range map[string]string{"host_name": "127.0.0.1 2", "user": "root 4", "identity": target.Endpoint.Identity[0] + " 5"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if !strings.Contains(got["jump"], at(jump)[1:10]) || !strings.HasSuffix(got["jump"], " 14") {
		t.Errorf("jump is %q", got["jump"])
	}
}

// A login that was refused is not tried again, whoever asks.
func TestRefusedLoginIsRemembered(t *testing.T) {
	s := remotetest.Start(t, remotetest.Options{})
	e := s.Endpoint
	_, other := remotetest.NewKey()
	e.Identity = []string{filepath.Join(t.TempDir(), "other")}
	remotetest.WriteIdentity(t, e.Identity[0], other)
	d := &remote.Dialer{}
	for range 3 {
		if _, err := d.Connect(t.Context(), e); remote.ClassOf(err) != remote.ClassAuthentication {
			t.Fatal(err)
		}
	}
	if n, c := s.Attempts.Load(), s.Connections.Load(); n != 1 || c != 1 {
		t.Errorf("%d keys were tried in %d connections, want one", n, c)
	}
}

func TestParseJump(t *testing.T) {
	for text, want := range map[string]string{
		"gw": " gw 0", "ops@gw.example.com:2222": "ops gw.example.com 2222", "[2001:db8::1]:22": " 2001:db8::1 22", "2001:db8::1": " 2001:db8::1 0",
		"ssh://a@b:3": "a b 3", "[fe80::1%eth0]": " fe80::1%eth0 22", "a@b@c": "a@b c 0",
	} {
		e, err := remote.ParseJump(text)
		if got := fmt.Sprintf("%s %s %d", e.User, e.Address, e.Port); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "a@", "@b", "b:0", "b:x", "b:70000", "-oProxyCommand=x", "a b", "[::1", "x:1:2"} {
		if e, err := remote.ParseJump(text); err == nil {
			t.Errorf("%q gave %+v", text, e)
		}
	}
}
