package remote_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
)

// settled waits until no more goroutines run than before, leaving out those
// whose stack holds except, if that is not empty.
func settled(t *testing.T, before int, except string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	n := 0
	for range 100 {
		all := stacks[:runtime.Stack(stacks, true)]
		n = 0
		for _, g := range bytes.Split(all, []byte("\n\n")) {
			if except == "" || !bytes.Contains(g, []byte(except)) {
				n++
			}
		}
		if n <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before:\n%s", n, before, stacks[:runtime.Stack(stacks, true)])
}

func TestHostileSession(t *testing.T) {
	junk := bytes.Repeat([]byte("\x1b[2Jx"), 8192)
	tests := []struct {
		name string
		exec func(ch ssh.Channel) int
		want remote.Class
		is   error
	}{
		{"endless stdout", func(ch ssh.Channel) int {
			for {
				if _, err := ch.Write(junk); err != nil {
					return 0
				}
			}
		}, remote.ClassUnknown, remote.ErrOutputLimit},
		{"endless stderr", func(ch ssh.Channel) int {
			for {
				if _, err := ch.Stderr().Write(junk); err != nil {
					return 0
				}
			}
		}, remote.ClassUnknown, remote.ErrOutputLimit},
		{"no exit status", func(ssh.Channel) int { return -1 }, remote.ClassUnknown, nil},
		{"short exit status", func(ch ssh.Channel) int {
			_, _ = ch.SendRequest("exit-status", false, []byte{0})
			return -1
		}, remote.ClassUnknown, nil},
		{"malformed exit signal", func(ch ssh.Channel) int {
			_, _ = ch.SendRequest("exit-signal", false, []byte{0xff, 0xff, 0xff, 0xff})
			return -1
		}, remote.ClassUnknown, nil},
		{"status before the output", func(ch ssh.Channel) int {
			_, _ = ch.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, 0))
			_, _ = ch.Write([]byte("late"))
			return 0
		}, "", nil},
		{"a flood of requests", func(ch ssh.Channel) int {
			for range 20_000 {
				if _, err := ch.SendRequest("nonsense@example.org", false, junk[:100]); err != nil {
					return 0
				}
			}
			return 0
		}, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := remotetest.Start(t, remotetest.Options{Exec: func(_ string, ch ssh.Channel) int { return tt.exec(ch) }})
			before := runtime.NumGoroutine()
			var mem0, mem1 runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&mem0)
			d := &remote.Dialer{}
			c, err := d.Connect(t.Context(), s.Endpoint)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err = c.Run(t.Context(), []byte("x"), remote.Limits{Timeout: 10 * time.Second})
			runtime.ReadMemStats(&mem1)
			if remote.ClassOf(err) != tt.want || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("class %q, want %q: %v", remote.ClassOf(err), tt.want, err)
			}
			if took := time.Since(start); took > 9*time.Second {
				t.Errorf("took %s", took)
			}
			if grown := int64(mem1.HeapInuse) - int64(mem0.HeapInuse); grown > 48<<20 {
				t.Errorf("%d MiB more memory in use", grown>>20)
			}
			_ = c.Close()
			_ = d.Close()
			settled(t, before, "")
		})
	}
}

// sftpReply reads requests and answers each with what reply makes of it.
func sftpReply(reply func(kind byte, id uint32) []byte) func(io.ReadWriteCloser) {
	return func(ch io.ReadWriteCloser) {
		for {
			var head [4]byte
			if _, err := io.ReadFull(ch, head[:]); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(head[:]))
			if _, err := io.ReadFull(ch, body); err != nil || len(body) < 5 {
				return
			}
			out := []byte{2, 0, 0, 0, 3} // VERSION 3
			if body[0] != 1 {
				out = reply(body[0], binary.BigEndian.Uint32(body[1:]))
			}
			if out == nil {
				continue
			}
			_, _ = ch.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(out))), out...))
		}
	}
}

func TestHostileSFTP(t *testing.T) {
	id := func(kind byte, n uint32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind}, n), rest...)
	}
	const status, handle, data, name, attrs = 101, 102, 103, 104, 105
	tests := map[string]func(io.ReadWriteCloser){
		"closes at once":         func(ch io.ReadWriteCloser) { _ = ch.Close() },
		"says a greeting first":  func(ch io.ReadWriteCloser) { _, _ = io.WriteString(ch, "Welcome to kvm1!\n") },
		"packet of 4 GiB":        func(ch io.ReadWriteCloser) { _, _ = ch.Write([]byte{0xff, 0xff, 0xff, 0xff}) },
		"empty packet":           func(ch io.ReadWriteCloser) { _, _ = ch.Write([]byte{0, 0, 0, 0}) },
		"version cut short":      func(ch io.ReadWriteCloser) { _, _ = ch.Write([]byte{0, 0, 0, 2, 2, 0}); _ = ch.Close() },
		"old version":            func(ch io.ReadWriteCloser) { _, _ = ch.Write([]byte{0, 0, 0, 5, 2, 0, 0, 0, 1}) },
		"extensions cut short":   func(ch io.ReadWriteCloser) { _, _ = ch.Write([]byte{0, 0, 0, 9, 2, 0, 0, 0, 3, 0, 0, 0, 99}) },
		"reply without an id":    sftpReply(func(byte, uint32) []byte { return []byte{status} }),
		"another id":             sftpReply(func(_ byte, n uint32) []byte { return id(status, n+7, 0, 0, 0, 0) }),
		"status cut short":       sftpReply(func(_ byte, n uint32) []byte { return id(status, n, 0) }),
		"status, message cut":    sftpReply(func(_ byte, n uint32) []byte { return id(status, n, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff) }),
		"OK instead of a handle": sftpReply(func(_ byte, n uint32) []byte { return id(status, n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) }),
		"handle cut short":       sftpReply(func(_ byte, n uint32) []byte { return id(handle, n, 0, 0) }),
		"handle of 4 GiB":        sftpReply(func(_ byte, n uint32) []byte { return id(handle, n, 0xff, 0xff, 0xff, 0xff) }),
		"data instead":           sftpReply(func(_ byte, n uint32) []byte { return id(data, n, 0, 0, 0, 1, 7) }),
		"names cut short":        sftpReply(func(_ byte, n uint32) []byte { return id(name, n, 0xff, 0xff, 0xff, 0xff) }),
		"attributes cut short":   sftpReply(func(_ byte, n uint32) []byte { return id(attrs, n, 0xff, 0xff, 0xff, 0xff) }),
		"unknown kind":           sftpReply(func(_ byte, n uint32) []byte { return id(250, n) }),
		"handles for everything": sftpReply(func(_ byte, n uint32) []byte { return id(handle, n, 0, 0, 0, 1, 'h') }),
		"never":                  sftpReply(func(byte, uint32) []byte { return nil }),
		"control characters": sftpReply(func(_ byte, n uint32) []byte {
			return append(id(status, n, 0, 0, 0, 4, 0, 0, 0, 8), "\x1b[2J\r\x07\x9b!\x00\x00\x00\x00"...)
		}),
		"every reply twice": func(ch io.ReadWriteCloser) {
			sftpReply(func(_ byte, n uint32) []byte {
				one := id(handle, n, 0, 0, 0, 1, 'h')
				return append(append(one, 0, 0, 0, byte(len(one))), one...)
			})(ch)
		},
	}
	for what, serve := range tests {
		t.Run(what, func(t *testing.T) {
			// Where SFTP cannot start, a script is next.
			s := remotetest.Start(t, remotetest.Options{SFTP: serve, Exec: func(string, ssh.Channel) int { return 7 }})
			before := runtime.NumGoroutine()
			c, err := (&remote.Dialer{}).Connect(t.Context(), s.Endpoint)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var files []remote.Upload
			for _, n := range []string{"/a", "/b", "/c"} {
				files = append(files, remote.Upload{Path: n, Mode: 0o600, Content: []byte("x")})
			}
			start := time.Now()
			err = c.Upload(ctx, files)
			if remote.ClassOf(err) == "" || time.Since(start) > 4*time.Second {
				t.Errorf("%v after %s", err, time.Since(start))
			}
			if err != nil && bytes.ContainsAny([]byte(err.Error()), "\x1b\r\x07\x00") {
				t.Errorf("control characters in %q", err)
			}
			_ = c.Close()
			settled(t, before, "")
		})
	}
}

// A hostile server may answer with anything; only the client's process must live.
func FuzzSFTPReplies(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 3}, []byte{101, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 3, 0, 0, 0, 1, 'x'}, []byte{102, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, version, reply []byte) {
		s := remotetest.New(t, remotetest.Options{SFTP: func(ch io.ReadWriteCloser) {
			for _, p := range [][]byte{version, reply, reply, reply} {
				_, _ = ch.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
			}
			_, _ = io.CopyN(io.Discard, ch, 60)
		}})
		client, far := remotetest.Pipe(0)
		go s.Serve(far)
		d := &remote.Dialer{Dial: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
		c, err := d.Connect(t.Context(), s.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_ = c.Upload(ctx, []remote.Upload{{Path: "/a", Mode: 0o600, Content: []byte("x")}})
		_ = c.Close()
	})
}

// cutConn ends, or is damaged, after a number of bytes in one direction.
type cutConn struct {
	net.Conn
	readLeft, writeLeft atomic.Int64
	flip                bool // damage instead of cutting
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	left := c.readLeft.Add(-int64(n))
	if left < 0 && n > 0 {
		if c.flip {
			p[n-1] ^= 0x40
			return n, err
		}
		_ = c.Conn.Close()
		return 0, io.EOF
	}
	return n, err
}

func (c *cutConn) Write(p []byte) (int, error) {
	if left := c.writeLeft.Add(-int64(len(p))); left < 0 {
		if c.flip {
			p = bytes.Clone(p)
			p[len(p)-1] ^= 0x40
			return c.Conn.Write(p)
		}
		n, _ := c.Conn.Write(p[:max(0, int64(len(p))+left)])
		_ = c.Conn.Close()
		return n, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// Wherever a connection is cut or damaged, in either direction, every call ends
// soon and with an error of a class, or had its full answer before.
func TestCutAnywhere(t *testing.T) {
	s := remotetest.Start(t, remotetest.Options{})
	dir := t.TempDir()
	before := runtime.NumGoroutine()
	work := func(wrap func(net.Conn) net.Conn) (classes map[remote.Class]int, read, wrote int64) {
		classes = map[remote.Class]int{}
		var meter *cutConn
		d := &remote.Dialer{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			meter = &cutConn{Conn: c}
			meter.readLeft.Store(1 << 40)
			meter.writeLeft.Store(1 << 40)
			return wrap(meter), nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := d.Connect(ctx, s.Endpoint)
		if err != nil {
			classes[remote.ClassOf(err)]++
			return classes, 0, 0
		}
		defer c.Close()
		var mu sync.Mutex
		note := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				classes[remote.ClassOf(err)]++
			}
		}
		out, err := c.Run(ctx, []byte("echo "+string(bytes.Repeat([]byte("x"), 3000))), remote.Limits{})
		note(err)
		// The server kills a shell whose connection is damaged, and may still say so.
		if err == nil && out.Exit == 0 && len(out.Stdout) != 3001 {
			t.Errorf("a cut run gave %d bytes, exit status 0 and no error", len(out.Stdout))
		}
		note(c.Upload(ctx, []remote.Upload{{Path: dir + "/" + strconv.FormatUint(rand.Uint64(), 36), Mode: 0o600, Content: make([]byte, 5000)}}))
		return classes, 1<<40 - meter.readLeft.Load(), 1<<40 - meter.writeLeft.Load()
	}
	classes, read, wrote := work(func(c net.Conn) net.Conn { return c })
	if len(classes) != 0 {
		t.Fatalf("uncut: %v", classes)
	}
	tests := []struct {
		name string
		flip bool
	}{{"cut", false}, {"damaged", true}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			seen := map[remote.Class]int{}
			start := time.Now()
			for i := range 80 {
				classes, _, _ := work(func(c net.Conn) net.Conn {
					cut := &cutConn{Conn: c, flip: tt.flip}
					cut.readLeft.Store(1 << 40)
					cut.writeLeft.Store(1 << 40)
					if i%2 == 0 {
						cut.readLeft.Store(rand.Int64N(read))
					} else {
						cut.writeLeft.Store(rand.Int64N(wrote))
					}
					return cut
				})
				for c, n := range classes {
					seen[c] += n
				}
			}
			took := time.Since(start)
			t.Logf("%d and %d bytes; 80 faults in %s gave %v", read, wrote, took.Round(time.Millisecond), seen)
			if took > 60*time.Second {
				t.Errorf("80 faults took %s", took)
			}
			if seen[""] != 0 {
				t.Errorf("%d errors have no class", seen[""])
			}
			if seen[remote.ClassUnknown] == 0 || seen[remote.ClassLost] == 0 {
				t.Errorf("the faults hit too little: %v", seen)
			}
			if seen[remote.ClassTimeout] != 0 {
				t.Errorf("%d calls waited for their deadline", seen[remote.ClassTimeout])
			}
			if seen[remote.ClassHostKeyChanged]+seen[remote.ClassHostKeyUnknown]+seen[remote.ClassAuthentication] != 0 {
				t.Errorf("a fault of the line was taken for a refusal: %v", seen)
			}
			if !tt.flip && seen[remote.ClassProtocol] != 0 {
				t.Errorf("a cut was taken for bad protocol: %v", seen)
			}
			// One more is the subtest's own. What x/crypto/ssh may leave behind:
			// see Conn.open, which does not wait for it.
			settled(t, before+1, "ssh.(*mux).openChannel(")
		})
	}
}
