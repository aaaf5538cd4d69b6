package remotetest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/needed"
	"github.com/virtrust/virtrust/internal/remote"
)

// OpenSSH is a real sshd of its own, apart from the machine's.
type OpenSSH struct {
	Endpoint remote.Endpoint
	log      *lockedBuffer
}

// Log returns what sshd has logged so far.
func (s *OpenSSH) Log() string { return s.log.String() }

// StartOpenSSH starts the machine's sshd program on a free port of 127.0.0.1,
// with its own configuration, host key and client key, until the test ends.
// extra are further lines of sshd_config.
//
// Where sshd is not installed the test is skipped, or fails when CI=true or
// REQUIRE_LAB=1.
func StartOpenSSH(t testing.TB, extra string) *OpenSSH {
	t.Helper()
	sshd := ""
	for _, p := range []string{"/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"} {
		if _, err := os.Stat(p); err == nil {
			sshd = p
			break
		}
	}
	if sshd == "" {
		needed.Missing(t, "sshd is not installed: install openssh-server")
	}
	if os.Geteuid() == 0 {
		// Where sshd drops its privileges; systems make it when their sshd starts.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	host, hostKey := NewKey()
	client, clientKey := NewKey()
	WriteIdentity(t, filepath.Join(dir, "host_key"), hostKey)
	WriteIdentity(t, filepath.Join(dir, "id_ed25519"), clientKey)
	if err := os.WriteFile(filepath.Join(dir, "authorized_keys"), ssh.MarshalAuthorizedKey(client.PublicKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	config := fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %s/host_key
AuthorizedKeysFile %s/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
LogLevel VERBOSE
%s
Subsystem sftp internal-sftp
`, port, dir, dir, extra)
	file := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	cmd := exec.Command(sshd, "-D", "-e", "-f", file)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
		if t.Failed() {
			t.Logf("sshd:\n%s", log)
		}
	})
	for range 100 {
		c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			_ = c.Close()
			return &OpenSSH{log: log, Endpoint: remote.Endpoint{Name: "kvm1", Address: "127.0.0.1", Port: port, User: me.Username,
				HostKeys: []string{ssh.FingerprintSHA256(host.PublicKey())}, Identity: []string{filepath.Join(dir, "id_ed25519")}}}
		}
		select {
		case err := <-gone:
			gone <- err
			t.Fatalf("sshd ended: %v\n%s", err, log)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("sshd does not listen:\n%s", log)
	return nil
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
