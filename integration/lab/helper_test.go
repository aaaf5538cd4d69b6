package lab

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// start makes a lab with hosts. When the test ends the lab is closed and
// searched for.
func start(t *testing.T, specs ...HostSpec) (*Lab, []*Host) {
	t.Helper()
	Require(t)
	l, err := New(t.Context(), Config{Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if len(traces(t, l.ID)) == 0 {
			t.Error("the search for traces finds none of a running lab")
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if left := traces(t, l.ID); len(left) > 0 {
			t.Errorf("the closed lab left:\n%s", strings.Join(left, "\n"))
		}
	})
	hosts, err := l.Start(t.Context(), specs...)
	if err != nil {
		t.Fatal(err)
	}
	return l, hosts
}

// traces finds whatever on this machine belongs to a lab.
func traces(t *testing.T, id string) []string {
	t.Helper()
	var found []string
	runs, err := cacheDir("run")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{
		filepath.Join(runs, id), filepath.Join(netnsDir, "vt"+id+"*"), "/etc/netns/vt" + id + "*",
		"/sys/fs/cgroup/virtrust-lab/" + id, "/sys/fs/cgroup/*/virtrust-lab/" + id,
		"/run/systemd/nspawn/*/vt-" + id + "-*",
	} {
		paths, _ := filepath.Glob(pattern)
		found = append(found, paths...)
	}
	found = append(found, nspawnLocks(t, id)...)
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		if command, _ := os.ReadFile(p + "/cmdline"); bytes.Contains(command, []byte("vt-"+id+"-")) || bytes.Contains(command, []byte("vt"+id+"c")) {
			found = append(found, p+" "+string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
		}
		if mounts, _ := os.ReadFile(p + "/mountinfo"); bytes.Contains(mounts, []byte("/run/"+id+"/")) || bytes.Contains(mounts, []byte("/vt"+id)) {
			found = append(found, p+"/mountinfo")
		}
	}
	return found
}

// seenInodes remembers the root directories of labs, by lab and inode.
var seenInodes = map[string][]uint64{}

// nspawnLocks finds the lock files of a lab's containers. A lab that is closed
// must have been looked at while it ran.
func nspawnLocks(t *testing.T, id string) []string {
	t.Helper()
	runs, err := cacheDir("run")
	if err != nil {
		t.Fatal(err)
	}
	uppers, _ := filepath.Glob(filepath.Join(runs, id, "*", "upper"))
	for _, upper := range uppers {
		info, err := os.Stat(upper)
		if err != nil {
			t.Fatal(err)
		}
		seenInodes[id] = append(seenInodes[id], info.Sys().(*syscall.Stat_t).Ino)
	}
	var found []string
	for _, inode := range seenInodes[id] {
		locks, _ := filepath.Glob(fmt.Sprintf("/run/systemd/nspawn/locks/inode-*:%d", inode))
		found = append(found, locks...)
	}
	return found
}

func must(t *testing.T) func(Result, error) string {
	return func(r Result, err error) string {
		t.Helper()
		if err == nil {
			err = r.Err()
		}
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(r.Stdout)
	}
}

// login opens an SSH connection from this process, strict about the host's key.
func login(t *testing.T, l *Lab, user, address string) (*ssh.Client, error) {
	t.Helper()
	key, err := os.ReadFile(l.IdentityFile())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	check, err := knownhosts.New(l.KnownHosts())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: check,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

func output(t *testing.T, c *ssh.Client, command string) string {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.CombinedOutput(command)
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}
