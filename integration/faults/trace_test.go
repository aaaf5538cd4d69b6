package faults

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sshd finds the host's listening sshd among this machine's processes.
func (s *site) sshd() int {
	ns := strings.TrimSpace(s.must("readlink /proc/self/ns/pid"))
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, l := range links {
		if got, _ := os.Readlink(l); got != ns {
			continue
		}
		dir := strings.TrimSuffix(l, "/ns/pid")
		if cmd, _ := os.ReadFile(dir + "/cmdline"); bytes.Contains(cmd, []byte("[listener]")) {
			pid, _ := strconv.Atoi(path.Base(dir))
			return pid
		}
	}
	s.t.Fatalf("%s: its sshd is not found", s.host.Name)
	return 0
}

// trace records what every process under the host's sshd writes, syncs and
// renames while run lasts.
func (s *site) trace(run func()) []string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "trace")
	cmd := exec.Command("strace", "-f", "-y", "-s", "0", "-o", file, "-p", strconv.Itoa(s.sshd()),
		"-e", "trace=write,pwrite64,writev,copy_file_range,sendfile,ftruncate,fsync,fdatasync,syncfs,sync,rename,renameat,renameat2")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	status := fmt.Sprintf("/proc/%d/status", s.sshd())
	for try := 0; ; try++ {
		text, _ := os.ReadFile(status)
		if !bytes.Contains(text, []byte("TracerPid:\t0\n")) {
			break
		}
		if try == 200 {
			s.t.Fatalf("strace does not attach: %s", said.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	run()
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait()
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return whole(strings.Split(string(text), "\n"))
}

// whole joins calls that strace shows in two parts, at the place of the second.
func whole(lines []string) []string {
	begun := map[string]string{}
	var out []string
	for _, l := range lines {
		pid, rest, _ := strings.Cut(l, " ")
		rest = strings.TrimSpace(rest)
		if head, ok := strings.CutSuffix(rest, "<unfinished ...>"); ok {
			begun[pid] = head
			continue
		}
		if strings.HasPrefix(rest, "<... ") {
			_, tail, _ := strings.Cut(rest, "resumed>")
			rest = begun[pid] + tail
		}
		out = append(out, rest)
	}
	return out
}

var (
	// strace fills short calls up with spaces.
	succeeded = regexp.MustCompile(`\)\s+= \d`)
	onFile    = regexp.MustCompile(`^(\w+)\(\d+<([^>]*)>`)
	renamed   = regexp.MustCompile(`^rename\w*\(.*?"([^"]+)".*?"([^"]+)"`)
)

// undurable lists what a loss of power could take although the switch is done:
// staged content that was renamed into place, or kept for the reverter, and not
// synced after its last write; renames whose directory was not synced.
func undurable(calls []string) (problems []string, renames int) {
	written, synced := map[string]int{}, map[string]int{}
	all := 0 // last sync of everything
	type move struct {
		at       int
		from, to string
	}
	var moves []move
	first := true
	check := func(p string, why string) {
		if at, ok := written[p]; ok && synced[p] < at && all < at {
			problems = append(problems, fmt.Sprintf("%s was not synced after its last write: %s", p, why))
		}
	}
	for i, c := range calls {
		i++
		if !succeeded.MatchString(c) {
			continue
		}
		if strings.HasPrefix(c, "sync(") || strings.HasPrefix(c, "syncfs(") {
			all = i
			continue
		}
		if m := renamed.FindStringSubmatch(c); m != nil {
			from, to := m[1], m[2]
			if live := strings.HasPrefix(to, "/etc/") && (strings.Contains(from, "/.virtrust-") || strings.HasSuffix(from, ".virtrust-new")); live {
				renames++
				moves = append(moves, move{i, from, to})
				for p := range written {
					if p == from || strings.HasPrefix(p, from+"/") {
						check(p, "renamed to "+to)
					}
				}
				if first {
					first = false
					for p := range written {
						if strings.HasPrefix(p, "/var/lib/virtrust/") && !strings.HasSuffix(p, "/staging") && !strings.HasSuffix(p, "/unit") && !strings.HasSuffix(p, "/walls") { // live rules do not outlive the power
							check(p, "the reverter needs it before the first rename, to "+to)
						}
					}
				}
			}
			for p, at := range written {
				if p == from {
					written[to] = at
					synced[to] = synced[from]
					delete(written, p)
				}
			}
			continue
		}
		if m := onFile.FindStringSubmatch(c); m != nil {
			switch m[1] {
			case "fsync", "fdatasync":
				synced[m[2]] = i
			case "write", "pwrite64", "writev", "ftruncate":
				written[m[2]] = i
			case "copy_file_range", "sendfile":
				if all := regexp.MustCompile(`<(/[^>]*)>`).FindAllStringSubmatch(c, 2); len(all) > 0 {
					p := all[0][1] // sendfile writes to its first, copy_file_range to its second
					if m[1] == "copy_file_range" && len(all) == 2 {
						p = all[1][1]
					}
					written[p] = i
				}
			}
		}
	}
	for _, m := range moves {
		if dir := path.Dir(m.to); synced[dir] < m.at && all < m.at {
			problems = append(problems, fmt.Sprintf("%s was not synced after the rename to %s", dir, m.to))
		}
	}
	return problems, renames
}

// needStrace fails where the proof would be left out.
func needStrace(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("strace is missing: run 'apt-get install strace'")
	}
}
