package swarm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// host is one host of a swarm.
type host struct {
	name, address string
	tree          string // has etc, lib and run
	hang          bool

	mu    sync.Mutex
	looks map[string]look // by the script without its nonce
}

// plant makes the host's files, those that a scripts' programs need and
// libvirt's settings.
func (h *host) plant() error {
	for _, d := range []string{"etc/libvirt", "lib/dpkg", "run"} {
		if err := os.MkdirAll(filepath.Join(h.tree, d), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"etc/machine-id":            randomHex() + "\n",
		"etc/passwd":                "root:x:0:0:root:/root:/bin/sh\n",
		"etc/group":                 "root:x:0:\n",
		"etc/libvirt/libvirtd.conf": strings.Repeat("# A line of explanation, of which libvirt's own file has many hundreds.\n", 200) + "#listen_tcp = 1\n",
		"lib/dpkg/status":           "Package: libvirt-daemon\nStatus: install ok installed\nVersion: 11.3.0-3\n\nPackage: openssl\nStatus: install ok installed\nVersion: 3.5.1-1\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(h.tree, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// session answers the requests of one channel: one program in each.
func (s *Swarm) session(h *host, nc ssh.NewChannel) {
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	started := false
	for r := range requests {
		var what struct{ Text string }
		_ = ssh.Unmarshal(r.Payload, &what)
		ok := !started && (r.Type == "exec" || r.Type == "subsystem" && what.Text == "sftp")
		if ok {
			started = true
			wg.Go(func() {
				var status int
				switch {
				case r.Type == "subsystem":
					status = s.run(h, ch, ch, "/usr/lib/openssh/sftp-server")
				case what.Text == "/bin/sh -s":
					status = s.script(h, ch)
				default:
					status = s.run(h, ch, ch, "/bin/sh", "-c", what.Text)
				}
				_ = ch.CloseWrite()
				_, _ = ch.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, uint32(status)))
				_ = ch.Close()
			})
		}
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
	}
}

// look is what a host said to a look, as pieces: between two of them stands
// the nonce, and within one the clock.
type look struct {
	pieces [][]byte
	clock  int // the piece that is the frame of the clock
}

var nonceOf = regexp.MustCompile(`(?m)^N=([0-9a-f]{32})`)

// script runs a script, or says again what the host said to the same one.
func (s *Swarm) script(h *host, ch ssh.Channel) int {
	text, _ := io.ReadAll(ch)
	m := nonceOf.FindSubmatch(text)
	// What changes a host takes its lock; the rest is a look.
	if m == nil || bytes.Contains(text, []byte("flock -w")) {
		return s.run(h, bytes.NewReader(text), ch, "/bin/sh", "-s")
	}
	key, nonce := string(bytes.Replace(text, m[1], nil, 1)), m[1]
	h.mu.Lock()
	said, known := h.looks[key]
	h.mu.Unlock()
	if !known || !s.replay.Load() {
		var out bytes.Buffer
		if status := s.run(h, bytes.NewReader(text), &out, "/bin/sh", "-s"); status != 0 {
			_, _ = ch.Write(out.Bytes())
			return status
		}
		said = look{pieces: bytes.Split(out.Bytes(), nonce)}
		said.clock = slices.IndexFunc(said.pieces, func(p []byte) bool { return bytes.HasPrefix(p, []byte(" clock ")) })
		h.mu.Lock()
		h.looks = map[string]look{key: said}
		h.mu.Unlock()
	}
	var out bytes.Buffer
	for i, p := range said.pieces {
		if i > 0 {
			out.Write(nonce)
		}
		if i == said.clock {
			now := fmt.Sprintf("%.6f", float64(time.Now().UnixMicro())/1e6)
			fmt.Fprintf(&out, " clock %d \n%s\n", len(now), now)
			continue
		}
		out.Write(p)
	}
	_, _ = ch.Write(out.Bytes())
	return 0
}

// run runs a program in the host's own /etc, /var/lib and /run.
func (s *Swarm) run(h *host, in io.Reader, out io.Writer, program ...string) int {
	s.scripts.Add(1)
	const enter = `mount --bind "$0/etc" /etc && mount --bind "$0/lib" /var/lib && mount --bind "$0/run" /run && exec "$@"`
	cmd := exec.Command("/bin/sh", append([]string{"-c", enter, h.tree}, program...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	cmd.Stdout = out
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	stdin, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return 127
	}
	// Not by exec's own copying, which Wait would wait for.
	go func() {
		_, _ = io.Copy(stdin, in)
		_ = stdin.Close()
	}()
	_ = cmd.Wait()
	return max(cmd.ProcessState.ExitCode(), 0)
}
