package remote_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

const oneWay = 10 * time.Millisecond

// inBubble runs f against a server in memory, 20 ms of virtual time away. A
// goroutine that outlives f fails the test.
func inBubble(t *testing.T, opts remotetest.Options, f func(t *testing.T, d *remote.Dialer, e remote.Endpoint)) {
	synctest.Test(t, func(t *testing.T) {
		server := remotetest.New(t, serving(t, opts))
		var wg sync.WaitGroup
		d := &remote.Dialer{Dial: away(&wg, server)}
		f(t, d, server.Endpoint)
		wg.Wait()
	})
}

// behindJump is inBubble with a jump host 20 ms away, and the host beside it.
func behindJump(t *testing.T, opts remotetest.Options, f func(t *testing.T, d *remote.Dialer, e remote.Endpoint)) {
	synctest.Test(t, func(t *testing.T) {
		server := remotetest.New(t, serving(t, opts))
		var wg sync.WaitGroup
		jump := remotetest.New(t, remotetest.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			client, far := remotetest.Pipe(0)
			wg.Go(func() { server.Serve(far) })
			return client, nil
		}})
		jump.Endpoint.Name, jump.Endpoint.Address = "bastion", "127.0.0.2"
		d := &remote.Dialer{Dial: away(&wg, jump)}
		e := server.Endpoint
		e.Jump = []remote.Endpoint{jump.Endpoint}
		f(t, d, e)
		_ = d.Close()
		wg.Wait()
	})
}

// away dials a server in memory, 20 ms of virtual time from here.
func away(wg *sync.WaitGroup, s *remotetest.Server) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		time.Sleep(2 * oneWay) // TCP's own round trip
		client, far := remotetest.Pipe(oneWay)
		wg.Go(func() { s.Serve(far) })
		return client, nil
	}
}

// serving completes options: a shell that says how long its script is, and a
// TLS listener on the host.
func serving(t *testing.T, opts remotetest.Options) remotetest.Options {
	cert := leaf(t)
	if opts.Exec == nil {
		opts.Exec = func(_ string, ch ssh.Channel) int {
			script, _ := io.ReadAll(ch)
			_, _ = fmt.Fprintf(ch, "read %d bytes", len(script))
			return 0
		}
	}
	opts.Dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			s := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{cert}})
			_ = s.Handshake()
			_, _ = s.Read(make([]byte, 1))
			_ = theirs.Close()
		}()
		return ours, nil
	}
	return opts
}

// The budget of a whole plan is 11 round trips for a host, TCP's own included.
func TestRoundTrips(t *testing.T) {
	big := make([]byte, 100_000)
	files := make([]remote.Upload, 8)
	for i := range files {
		files[i] = remote.Upload{Path: fmt.Sprintf("%s/%d", t.TempDir(), i), Mode: 0o600, Content: []byte("x")}
	}
	run := func(ctx context.Context, c *remote.Conn) error {
		_, err := c.Run(ctx, big, remote.Limits{})
		return err
	}
	tests := []struct {
		name    string
		elapsed int // round trips, with TCP's own
		do      func(ctx context.Context, c *remote.Conn) error
	}{
		{"connect", 7, func(context.Context, *remote.Conn) error { return nil }},
		{"connect and run", 9, run},
		{"connect, run, and look at what is served meanwhile", 9, func(ctx context.Context, c *remote.Conn) error {
			var served error
			var wg sync.WaitGroup
			wg.Go(func() { _, served = c.Served(ctx, "127.0.0.1:16514", "kvm1") })
			err := run(ctx, c)
			wg.Wait()
			return errors.Join(err, served)
		}},
		{"connect, run, and look by a script where forwarding is forbidden", 10, func(ctx context.Context, c *remote.Conn) error {
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = c.Served(ctx, "127.0.0.1:16514", "kvm1") })
			err := run(ctx, c)
			wg.Wait()
			return err
		}},
		{"connect and upload eight files", 13, func(ctx context.Context, c *remote.Conn) error { return c.Upload(ctx, files) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, remotetest.Options{ProhibitForward: strings.Contains(tt.name, "forbidden")}, func(t *testing.T, d *remote.Dialer, e remote.Endpoint) {
				start := time.Now()
				c, err := d.Connect(t.Context(), e)
				if err != nil {
					t.Fatal(err)
				}
				if err := tt.do(t.Context(), c); err != nil {
					t.Error(err)
				}
				elapsed := float64(time.Since(start)) / float64(2*oneWay)
				t.Logf("%s: %.1f round trips with TCP's own, Trips() = %d", tt.name, elapsed, c.Trips())
				if elapsed != float64(tt.elapsed) {
					t.Errorf("took %.1f round trips, want %d", elapsed, tt.elapsed)
				}
				// Trips leaves out TCP's own, and may count a little more than was waited for.
				if got := c.Trips(); got < tt.elapsed-1 || got > tt.elapsed+2 {
					t.Errorf("Trips() = %d, want about %d", got, tt.elapsed-1)
				}
				_ = c.Close()
			})
		})
	}
}

func TestKeepalive(t *testing.T) {
	for _, mute := range []bool{false, true} {
		inBubble(t, remotetest.Options{MuteGlobal: mute, Exec: func(_ string, ch ssh.Channel) int {
			_, _ = io.Copy(io.Discard, ch)
			time.Sleep(90 * time.Second)
			return 0
		}}, func(t *testing.T, d *remote.Dialer, e remote.Endpoint) {
			c, err := d.Connect(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err = c.Run(t.Context(), []byte("sleep 90"), remote.Limits{Timeout: 5 * time.Minute})
			took := time.Since(start)
			_ = c.Close()
			if mute && (remote.ClassOf(err) != remote.ClassUnknown || took > 50*time.Second) {
				t.Errorf("a host that answers no keepalive: %v after %s", err, took)
			}
			if !mute && (err != nil || took < 90*time.Second) {
				t.Errorf("a host that answers keepalives: %v after %s", err, took)
			}
			time.Sleep(2 * time.Minute) // the server's own sleep
		})
	}
}

// A host that falls silent at any point holds nobody longer than the deadline.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := remotetest.New(t, remotetest.Options{})
		d := &remote.Dialer{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		start := time.Now()
		_, err := d.Connect(t.Context(), server.Endpoint)
		if remote.ClassOf(err) != remote.ClassTimeout || time.Since(start) != 10*time.Second {
			t.Errorf("TCP: %v after %s", err, time.Since(start))
		}
		for _, say := range []string{"", "SSH-2.0-OpenSSH_10.0\r\n"} {
			var far net.Conn
			d := &remote.Dialer{Dial: func(context.Context, string, string) (net.Conn, error) {
				var client net.Conn
				client, far = remotetest.Pipe(oneWay)
				_, _ = io.WriteString(far, say)
				return client, nil
			}}
			start := time.Now()
			_, err := d.Connect(t.Context(), server.Endpoint)
			if remote.ClassOf(err) != remote.ClassTimeout || time.Since(start) != 15*time.Second {
				t.Errorf("after %q: %v after %s", say, err, time.Since(start))
			}
			_ = far.Close()
		}
	})
	t.Run("in a script", func(t *testing.T) {
		inBubble(t, remotetest.Options{Exec: func(_ string, ch ssh.Channel) int {
			_, _ = io.Copy(io.Discard, ch)
			return -1
		}}, func(t *testing.T, d *remote.Dialer, e remote.Endpoint) {
			c, err := d.Connect(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Run(t.Context(), []byte("exit"), remote.Limits{}); remote.ClassOf(err) != remote.ClassUnknown {
				t.Errorf("no exit status: %v", err)
			}
			_ = c.Close()
		})
	})
	t.Run("in SFTP", func(t *testing.T) {
		inBubble(t, remotetest.Options{SFTP: func(ch io.ReadWriteCloser) { _, _ = io.Copy(io.Discard, ch) }}, func(t *testing.T, d *remote.Dialer, e remote.Endpoint) {
			c, err := d.Connect(t.Context(), e)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			err = c.Upload(t.Context(), []remote.Upload{{Path: "/tmp/never", Mode: 0o600}})
			if remote.ClassOf(err) != remote.ClassTimeout || time.Since(start) != time.Minute {
				t.Errorf("%v (class %q) after %s", err, remote.ClassOf(err), time.Since(start))
			}
			_ = c.Close()
		})
	})
}

// With a real sshd the time of its processes is added, so the count stands for
// the time; the log shows both.
func TestRoundTripsOpenSSH(t *testing.T) {
	s := remotetest.StartOpenSSH(t, "")
	cert := leaf(t)
	addr := listen(t, serveTLS(&tls.Config{Certificates: []tls.Certificate{cert}}, nil))
	measure := func(delay time.Duration) (trips int, took time.Duration) {
		d := &remote.Dialer{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			real, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			time.Sleep(2 * delay)
			near, far := remotetest.Pipe(delay)
			go func() { _, _ = io.Copy(real, far); _ = real.Close() }()
			go func() { _, _ = io.Copy(far, real); _ = far.Close() }()
			return near, nil
		}}
		start := time.Now()
		c, err := d.Connect(t.Context(), s.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Served(t.Context(), addr, ""); err != nil {
				t.Error(err)
			}
		})
		out, err := c.Run(t.Context(), []byte("cat <<'end' | wc -c\nx\nend\n"), remote.Limits{})
		wg.Wait()
		if err != nil || string(out.Stdout) != "2\n" {
			t.Errorf("%q, %v", out.Stdout, err)
		}
		return c.Trips(), time.Since(start)
	}
	_, near := measure(0)
	trips, far := measure(50 * time.Millisecond)
	t.Logf("Trips() = %d; 100 ms away it takes %s more, %.1f round trips", trips, far-near, float64(far-near)/float64(100*time.Millisecond))
	if trips > 12 {
		t.Errorf("Trips() = %d, want at most 12", trips)
	}
}
