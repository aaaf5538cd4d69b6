package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A witness looks again and again at the arguments and the environment of every
// process of this machine, those on the hosts included, and at the files of a
// directory that come and go, such as a database's journal.
type witness struct {
	dir  string
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex
	mine   map[string]bool   // processes whose environment is the user's own
	seen   map[string]string // what was seen, and where first
	rounds int
}

func startWitness(t *testing.T, dir string) *witness {
	w := &witness{dir: dir, stop: make(chan struct{}), done: make(chan struct{}), mine: map[string]bool{}, seen: map[string]string{}}
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.stop:
				return
			default:
				w.look()
			}
		}
	}()
	t.Cleanup(w.end)
	return w
}

func (w *witness) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	<-w.done
}

// leaveOut excuses a process whose environment was given by the test.
func (w *witness) leaveOut(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mine[fmt.Sprintf("/proc/%d/environ", pid)] = true
}

func (w *witness) look() {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files[:len(files):len(files)] {
		files = append(files, strings.TrimSuffix(f, "cmdline")+"environ")
	}
	more, _ := filepath.Glob(filepath.Join(w.dir, "*"))
	files = append(files, more...)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || len(text) == 0 {
			continue
		}
		w.mu.Lock()
		// Asked after reading: a process is excused before it can end.
		if !w.mine[f] {
			if _, ok := w.seen[string(text)]; !ok {
				w.seen[string(text)] = f
			}
		}
		w.mu.Unlock()
	}
	w.mu.Lock()
	w.rounds++
	w.mu.Unlock()
}

// find says where something was seen.
func (w *witness) find(needle []byte) (where []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for text, f := range w.seen {
		if bytes.Contains([]byte(text), needle) {
			what, _, _ := strings.Cut(text, "\x00")
			where = append(where, fmt.Sprintf("%s (%.80q)", f, what))
		}
	}
	return where
}

// findIn says which files below a directory hold something.
func findIn(t *testing.T, dir string, needle []byte) (where []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, needle) {
			where = append(where, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}
